#include "logit_loops.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "bfloat16_rows.h"
#include "exponential.h"
#include "vector.h"

namespace sphereface::cpu {

namespace {

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
SPHEREFACE_INLINE double sum_of(const T* z, int64_t count, MathOf<T> max) {
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

template <typename Math>
SPHEREFACE_INLINE void scale_entries(Math* z, int64_t count, Math row, const Math* column) {
  if (column == nullptr) {
    for (int64_t j = 0; j < count; ++j) z[j] *= row;
  } else {
    for (int64_t j = 0; j < count; ++j) z[j] *= row * column[j];
  }
}

template <bool kProjects, typename Math>
SPHEREFACE_INLINE void gradient_of(Math* z, int64_t count, const RowGradient<Math> f) {
  const Math* const __restrict column = f.column;
  Math* const __restrict radial = f.radial;
  const auto on_p = f.on_p, lse = f.lse, scale = f.scale;
  for (int64_t j = 0; j < count; ++j) {
    const Math value = z[j];
    Math g = on_p * exponential(value - lse);
    if (kProjects) {
      radial[j] += g * value;
      g *= scale * column[j];
    }
    z[j] = g;
  }
}

// The same with label smoothing or a bias.
template <bool kProjects, typename Math>
SPHEREFACE_INLINE void general_gradient_of(Math* z, int64_t count, const RowGradient<Math> f) {
  for (int64_t j = 0; j < count; ++j) {
    const Math share = f.weight == nullptr ? f.on_w : f.on_w * f.weight[j];
    Math g = f.on_p * exponential(z[j] - f.lse) - share;
    if (f.total != nullptr) f.total[j] += g;
    if (kProjects) f.radial[j] += g * z[j];
    z[j] = g * (kProjects ? f.scale * f.column[j] : f.scale);
  }
}

template <typename Math>
SPHEREFACE_INLINE void any_gradient_of(Math* z, int64_t count, const RowGradient<Math>& f) {
  if (f.on_w == 0 && f.total == nullptr) {
    f.radial == nullptr ? gradient_of<false>(z, count, f) : gradient_of<true>(z, count, f);
  } else if (f.radial == nullptr) {
    general_gradient_of<false>(z, count, f);
  } else {
    general_gradient_of<true>(z, count, f);
  }
}

template <typename T>
SPHEREFACE_INLINE int64_t first_equal(const T* z, int64_t count, MathOf<T> value) {
  int64_t j = 0;
  for (; j + kLanes <= count; j += kLanes) {
    int equal = 0;
    for (int l = 0; l < kLanes; ++l) equal |= Scalar<T>::load(z[j + l]) == value;
    if (equal) break;
  }
  while (j < count && Scalar<T>::load(z[j]) != value) ++j;
  return j;
}

}  // namespace

#define SPHEREFACE_LOGIT_LOOPS(T)                                                                  \
  SPHEREFACE_MULTIVERSION MathOf<T> largest(const T* z, int64_t count) {                           \
    return largest_of(z, count);                                                                   \
  }                                                                                                \
  SPHEREFACE_MULTIVERSION double exponential_sum(const T* z, int64_t count, MathOf<T> max) {       \
    return sum_of(z, count, max);                                                                  \
  }                                                                                                \
  SPHEREFACE_MULTIVERSION void scale(T* z, int64_t count, MathOf<T> row,                           \
                                     const MathOf<T>* column) {                                    \
    change_pieces(z, count,                                                                        \
                  [&](MathOf<T>* piece, int64_t begin, int64_t some) SPHEREFACE_LAMBDA_INLINE {    \
                    scale_entries(piece, some, row, column == nullptr ? nullptr : column + begin); \
                  });                                                                              \
  }                                                                                                \
  SPHEREFACE_MULTIVERSION void to_gradient(T* z, int64_t count, const RowGradient<MathOf<T>>& f) { \
    change_pieces(z, count,                                                                        \
                  [&](MathOf<T>* piece, int64_t begin, int64_t some)                               \
                      SPHEREFACE_LAMBDA_INLINE { any_gradient_of(piece, some, f.from(begin)); });  \
  }                                                                                                \
  SPHEREFACE_MULTIVERSION void subtract(T* d, const T* w, int64_t count, MathOf<T> factor) {       \
    change_pieces(d, count,                                                                        \
                  [&](MathOf<T>* piece, int64_t begin, int64_t some) SPHEREFACE_LAMBDA_INLINE {    \
                    for (int64_t k = 0; k < some; ++k)                                             \
                      piece[k] -= factor * Scalar<T>::load(w[begin + k]);                          \
                  });                                                                              \
  }                                                                                                \
  SPHEREFACE_MULTIVERSION int64_t find(const T* z, int64_t count, MathOf<T> value) {               \
    return first_equal(z, count, value);                                                           \
  }
SPHEREFACE_LOGIT_LOOPS(float)
SPHEREFACE_LOGIT_LOOPS(double)
SPHEREFACE_LOGIT_LOOPS(bfloat16)
#undef SPHEREFACE_LOGIT_LOOPS

}  // namespace sphereface::cpu
