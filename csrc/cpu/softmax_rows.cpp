#include "sphereface/softmax_rows.h"

#include <cstring>

#include "sphereface/cpu.h"
#include "vector.h"

namespace sphereface::cpu {

namespace {

constexpr int64_t kGrainElements = 1 << 14;

int64_t row_grain(int64_t cols) { return kGrainElements / (cols + 1) + 1; }

// e^x for x <= 0 to 2 ulp, without a branch or a call, so that loops over it vectorise; 0 below the
// smallest normal number. The polynomial is that of Cephes' expf.
SPHEREFACE_INLINE float exponential(float x) {
  constexpr float kShift = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  const float shifted = x * 1.44269504088896341f + kShift;
  const float n = shifted - kShift;
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1;
  uint32_t bits;
  std::memcpy(&bits, &shifted, sizeof(bits));
  bits = (bits + 127u) << 23;
  float scale;
  std::memcpy(&scale, &bits, sizeof(scale));
  return x < -87 ? 0 : p * scale;
}

SPHEREFACE_INLINE double exponential(double x) { return std::exp(x); }

template <typename T>
SPHEREFACE_INLINE MathOf<T> largest_of(const T* z, int64_t count) {
  using Math = MathOf<T>;
  Math lanes[kLanes];
  for (int l = 0; l < kLanes; ++l) lanes[l] = -std::numeric_limits<Math>::infinity();
  int64_t j = 0;
  for (; j + kLanes <= count; j += kLanes) {
    for (int l = 0; l < kLanes; ++l) {
      const Math value = Scalar<T>::load(z[j + l]);
      lanes[l] = value > lanes[l] ? value : lanes[l];
    }
  }
  for (; j < count; ++j) {
    const Math value = Scalar<T>::load(z[j]);
    lanes[0] = value > lanes[0] ? value : lanes[0];
  }
  for (int l = 1; l < kLanes; ++l) lanes[0] = lanes[l] > lanes[0] ? lanes[l] : lanes[0];
  return lanes[0];
}

// sum_j exp(z_j - max): in MathOf<T> within a block, in double over the blocks.
template <typename T>
SPHEREFACE_INLINE double exponential_sum(const T* z, int64_t count, MathOf<T> max) {
  using Math = MathOf<T>;
  constexpr int64_t kBlock = 32 * kLanes;
  double sum = 0;
  int64_t j = 0;
  while (j + kLanes <= count) {
    const int64_t end = std::min(j + kBlock, count);
    Math lanes[kLanes] = {};
    for (; j + kLanes <= end; j += kLanes) {
      for (int l = 0; l < kLanes; ++l) lanes[l] += exponential(Scalar<T>::load(z[j + l]) - max);
    }
    double wide[kLanes];
    for (int l = 0; l < kLanes; ++l) wide[l] = lanes[l];
    sum += sum_lanes(wide);
  }
  for (; j < count; ++j) sum += exponential(Scalar<T>::load(z[j]) - max);
  return sum;
}

template <typename T>
SPHEREFACE_INLINE void to_probability(T* z, int64_t count, MathOf<T> lse, MathOf<T> scale) {
  for (int64_t j = 0; j < count; ++j) {
    z[j] = Scalar<T>::store(scale * exponential(Scalar<T>::load(z[j]) - lse));
  }
}

template <typename T>
SPHEREFACE_INLINE void to_smoothed(T* z, int64_t count, MathOf<T> lse, MathOf<T> scale,
                                   MathOf<T> spread, const MathOf<T>* weight) {
  for (int64_t j = 0; j < count; ++j) {
    const MathOf<T> share = weight == nullptr ? spread : spread * weight[j];
    z[j] = Scalar<T>::store(scale * exponential(Scalar<T>::load(z[j]) - lse) - share);
  }
}

// Function templates cannot be multiversioned, so each storage type has its entry points.
#define SPHEREFACE_SOFTMAX_RANGES(T)                                                              \
  SPHEREFACE_MULTIVERSION MathOf<T> largest(const T* z, int64_t count) {                          \
    return largest_of(z, count);                                                                  \
  }                                                                                               \
  SPHEREFACE_MULTIVERSION double sum_of(const T* z, int64_t count, MathOf<T> max) {               \
    return exponential_sum(z, count, max);                                                        \
  }                                                                                               \
  SPHEREFACE_MULTIVERSION void probability(T* z, int64_t count, MathOf<T> lse, MathOf<T> scale) { \
    to_probability(z, count, lse, scale);                                                         \
  }                                                                                               \
  SPHEREFACE_MULTIVERSION void smoothed(T* z, int64_t count, MathOf<T> lse, MathOf<T> scale,      \
                                        MathOf<T> spread, const MathOf<T>* weight) {              \
    to_smoothed(z, count, lse, scale, spread, weight);                                            \
  }
SPHEREFACE_SOFTMAX_RANGES(float)
SPHEREFACE_SOFTMAX_RANGES(double)
SPHEREFACE_SOFTMAX_RANGES(bfloat16)
#undef SPHEREFACE_SOFTMAX_RANGES

// Remembers the first of the largest logits in columns [begin, end), if it beats what came before.
template <typename T>
void look_for_other(const T* z, int64_t begin, int64_t end, int64_t first_class, SoftmaxRow& row) {
  const MathOf<T> best = largest(z + begin, end - begin);
  if (!(best > row.other)) return;
  row.other = best;
  for (int64_t j = begin; j < end; ++j) {
    if (Scalar<T>::load(z[j]) == best) {
      row.other_class = first_class + j;
      return;
    }
  }
}

template <typename T, typename Margin>
void update_row(const MarginProblem<T, Margin>& p, const SoftmaxOptions<T>& s, const T* z,
                int64_t i, SoftmaxRow& row) {
  const int64_t classes = p.weight.rows;
  if (p.has_label(i)) {
    const int64_t j = p.label_column(i);
    const LabelGeometry geometry = label_geometry(p, i);
    row.target = Scalar<T>::load(z[j]);
    row.plain = p.has_margin(i) ? plain_logit(p.margin, geometry) : row.target;
    row.cosine = geometry.has_angle() ? geometry.cosine() : 0;
    look_for_other(z, 0, j, p.first_class, row);
    look_for_other(z, j + 1, classes, p.first_class, row);
  } else {
    look_for_other(z, 0, classes, p.first_class, row);
  }
  const double label_logit = row.target;  // a NaN while the label has not come by
  const double max = label_logit > row.other ? label_logit : row.other;
  if (max > row.max) {
    row.sum *= std::exp(row.max - max);
    row.max = max;
  }
  row.sum += sum_of(z, classes, static_cast<MathOf<T>>(row.max));
  if (s.label_smoothing == 0) return;
  for (int64_t j = 0; j < classes; ++j) {
    const double weight = s.class_weight == nullptr ? 1 : s.class_weight[j];
    row.weighted += weight * Scalar<T>::load(z[j]);
  }
}

}  // namespace

template <typename T, typename Margin>
void softmax_update(const MarginProblem<T, Margin>& p, const SoftmaxOptions<T>& s,
                    Matrix<const T> logits, SoftmaxRow* rows, ParallelFor parallel_for) {
  if (p.weight.rows == 0) return;
  if constexpr (kIsBinary<Margin>) {
    binary_update(p, s, logits, rows, parallel_for);
  } else {
    for_ranges(parallel_for, p.x.rows, row_grain(logits.cols), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) update_row(p, s, logits.row(i), i, rows[i]);
    });
  }
}

template <typename T, typename Margin>
void softmax_gradient(const MarginProblem<T, Margin>& p, const SoftmaxOptions<T>& s,
                      const MathOf<T>* grad, const double* lse, Matrix<T> logits,
                      ParallelFor parallel_for) {
  using Math = MathOf<T>;
  const int64_t classes = p.weight.rows;
  if constexpr (kIsBinary<Margin>) return binary_gradient(p, s, grad, logits, parallel_for);
  for_ranges(parallel_for, p.x.rows, row_grain(logits.cols), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      T* z = logits.row(i);
      const SoftmaxGradient d = softmax_gradient_of(p, s, i, grad[i]);
      if (d.on_p == 0) {  // an ignored row, whose logits may be anything
        std::fill_n(z, classes, Scalar<T>::store(0));
        continue;
      }
      const bool here = p.has_label(i);
      const double target = here ? Scalar<T>::load(z[p.label_column(i)]) : 0;
      // What rounding lse to Math loses goes into the factor.
      const Math rounded_lse = static_cast<Math>(lse[i]);
      const auto on_p = static_cast<Math>(d.on_p * std::exp(rounded_lse - lse[i]));
      if (d.on_w == 0) {
        probability(z, classes, rounded_lse, on_p);
      } else {
        smoothed(z, classes, rounded_lse, on_p, static_cast<Math>(d.on_w), s.class_weight);
      }
      if (!here) continue;
      const int64_t j = p.label_column(i);
      const double share = s.class_weight == nullptr ? d.on_w : d.on_w * s.class_weight[j];
      z[j] = Scalar<T>::store(
          static_cast<Math>(d.on_p * std::exp(target - lse[i]) - share - d.on_label));
    }
  });
}

#define SPHEREFACE_INSTANTIATE(T, Margin)                                                   \
  template void softmax_update(const MarginProblem<T, Margin>&, const SoftmaxOptions<T>&,   \
                               Matrix<const T>, SoftmaxRow*, ParallelFor);                  \
  template void softmax_gradient(const MarginProblem<T, Margin>&, const SoftmaxOptions<T>&, \
                                 const MathOf<T>*, const double*, Matrix<T>, ParallelFor);
SPHEREFACE_INSTANTIATE(float, ASoftmax)
SPHEREFACE_INSTANTIATE(double, ASoftmax)
SPHEREFACE_INSTANTIATE(bfloat16, ASoftmax)
SPHEREFACE_INSTANTIATE(float, LSoftmax)
SPHEREFACE_INSTANTIATE(double, LSoftmax)
SPHEREFACE_INSTANTIATE(bfloat16, LSoftmax)
SPHEREFACE_INSTANTIATE(float, SphereFace2)
SPHEREFACE_INSTANTIATE(double, SphereFace2)
SPHEREFACE_INSTANTIATE(bfloat16, SphereFace2)
SPHEREFACE_INSTANTIATE(float, CombinedMargin)
SPHEREFACE_INSTANTIATE(double, CombinedMargin)
SPHEREFACE_INSTANTIATE(bfloat16, CombinedMargin)
#undef SPHEREFACE_INSTANTIATE

}  // namespace sphereface::cpu
