#include "sphereface/softmax_rows.h"

#include "logit_loops.h"
#include "sphereface/cpu_softmax.h"
#include "sphereface/margin_rows.h"
#include "vector.h"

namespace sphereface::cpu {

namespace {

// Whether a product with a row of this inverse length may leave the range of float on its way.
template <typename T>
bool is_extreme(MathOf<T> scale) {
  return sizeof(MathOf<T>) == 4 && scale != 0 && !(scale > 1e-12f && scale < 1e12f);
}

// A row of products becomes logits, with the margin for its label.
template <typename T, typename Margin>
void logits_of_row(const MarginProblem<T, Margin>& p, const SoftmaxOptions<T>& s,
                   const SoftmaxScales<T>& scales, bool extreme_columns, int64_t i, T* z) {
  const int64_t classes = p.weight.rows;
  const MathOf<T> row = scales.row == nullptr ? 1 : scales.row[i];
  if (scales.row != nullptr || scales.column != nullptr) scale(z, classes, row, scales.column);
  if (extreme_columns || is_extreme<T>(row)) {
    for (int64_t j = 0; j < classes; ++j) {
      const MathOf<T> column = scales.column == nullptr ? 1 : scales.column[j];
      if (!is_extreme<T>(row) && !is_extreme<T>(column)) continue;
      z[j] =
          rounded<T>(double{row} * double{column} * inner(p.x.row(i), p.weight.row(j), p.x.cols));
    }
  }
  if (p.has_margin(i)) {
    z[p.label_column(i)] = rounded<T>(label_logit(p.margin, *p.lambda, label_geometry(p, i)));
  }
  if (s.bias == nullptr || kIsBinary<Margin>) return;
  for (int64_t j = 0; j < classes; ++j) {
    z[j] = Scalar<T>::store(Scalar<T>::load(z[j]) + s.bias[j]);
  }
}

// SphereFace2's part of softmax_update for row i, whose entries become logits on the way.
template <typename T>
void binary_update(const MarginProblem<T, SphereFace2>& p, const SoftmaxOptions<T>& s, int64_t i,
                   const T* entries, SoftmaxPartial<T>& partial, SoftmaxRow& row) {
  using Math = MathOf<T>;
  const BinaryRow<Math> terms(p.margin);
  const int64_t label = p.has_label(i) ? p.label_column(i) : -1;
  for (int64_t j = 0; j < p.weight.rows; ++j) {
    const Math entry = Scalar<T>::load(entries[j]), bias = s.bias == nullptr ? 0 : s.bias[j];
    const Math z = terms.logit(entry, bias, j == label);
    partial.sum += terms.loss(z, j == label);
    if (j == label) {
      row.target = z;
      row.plain = terms.logit(entry, bias, false);
      row.cosine = entry / terms.r;
    } else if (z > partial.other) {
      partial.other = z;
      partial.other_class = p.first_class + j;
    }
  }
}

// And of softmax_gradient.
template <typename T>
void binary_gradient(const MarginProblem<T, SphereFace2>& p, const SoftmaxOptions<T>& s, int64_t i,
                     MathOf<T> grad, MathOf<T> scale, const MathOf<T>* column, T* entries,
                     MathOf<T>* radial, MathOf<T>* total) {
  using Math = MathOf<T>;
  const auto factor = static_cast<MathOf<T>>(binary_gradient_factor(p, i, grad));
  if (factor == 0) {  // an ignored row, whose entries may be anything
    std::fill_n(entries, p.weight.rows, Scalar<T>::store(0));
    return;
  }
  const BinaryRow<Math> terms(p.margin);
  const int64_t label = p.has_label(i) ? p.label_column(i) : -1;
  for (int64_t j = 0; j < p.weight.rows; ++j) {
    const Math entry = Scalar<T>::load(entries[j]), bias = s.bias == nullptr ? 0 : s.bias[j];
    Math g = factor * terms.slope(terms.logit(entry, bias, j == label), j == label);
    if (total != nullptr) total[j] += g;
    if (radial != nullptr) {
      radial[j] += g * entry;
      g *= column[j];
    }
    entries[j] = Scalar<T>::store(g * scale);
  }
}

template <typename T>
bool has_extreme(const MathOf<T>* column, int64_t count) {
  return column != nullptr && std::any_of(column, column + count, is_extreme<T>);
}

// The largest of columns [begin, end) and its class, if they beat `row`'s, else class -1.
template <typename T>
void look_for_other(const T* z, int64_t begin, int64_t end, int64_t first_class,
                    const SoftmaxRow& row, SoftmaxPartial<T>& partial) {
  const MathOf<T> best = largest(z + begin, end - begin);
  if (!(best > partial.other)) return;
  partial.other = best;
  partial.other_class =
      best > row.other ? first_class + begin + find(z + begin, end - begin, best) : -1;
}

}  // namespace

template <typename T>
void row_scales(Matrix<const T> x, MathOf<T> scale, MathOf<T>* out, ParallelFor parallel_for) {
  for_ranges(parallel_for, x.rows, 64, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const double norm = row_norm<T>(squared(x.row(i), x.cols));
      out[i] = norm == 0 ? 0 : static_cast<MathOf<T>>(scale / norm);
    }
  });
}

template <typename T>
int64_t column_scales(Matrix<const T> weight, MathOf<T>* out) {
  int64_t bad = -1;
  for (int64_t j = 0; j < weight.rows; ++j) {
    const double length2 = squared(weight.row(j), weight.cols);
    const double norm = row_norm<T>(length2);
    if (bad < 0 && !std::isfinite(length2)) bad = j;
    out[j] = norm == 0 ? 0 : static_cast<MathOf<T>>(1 / norm);
  }
  return bad;
}

template <typename T, typename Margin>
void softmax_logits(const MarginProblem<T, Margin>& p, const SoftmaxOptions<T>& s,
                    const SoftmaxScales<T>& scales, Matrix<T> logits) {
  const bool extreme = has_extreme<T>(scales.column, p.weight.rows);
  for (int64_t i = 0; i < p.x.rows; ++i) logits_of_row(p, s, scales, extreme, i, logits.row(i));
}

template <typename T, typename Margin>
void softmax_update(const MarginProblem<T, Margin>& p, const SoftmaxOptions<T>& s,
                    const SoftmaxScales<T>& scales, Matrix<T> logits, SoftmaxPartial<T>* partials,
                    SoftmaxRow* rows) {
  using Math = MathOf<T>;
  const int64_t classes = p.weight.rows;
  const bool extreme = has_extreme<T>(scales.column, classes);
  for (int64_t i = 0; i < p.x.rows; ++i) {
    T* z = logits.row(i);
    SoftmaxRow& row = rows[i];
    constexpr Math kLow = -std::numeric_limits<Math>::infinity();
    SoftmaxPartial<T>& q = partials[i] = {0, 0, kLow, kLow, -1};
    logits_of_row(p, s, scales, extreme, i, z);
    if constexpr (kIsBinary<Margin>) {
      binary_update(p, s, i, z, q, row);
      continue;
    }
    if (p.has_label(i)) {
      const int64_t j = p.label_column(i);
      const LabelGeometry geometry = label_geometry(p, i);
      row.target = Scalar<T>::load(z[j]);
      row.plain = p.has_margin(i)
                      ? plain_logit(p.margin, geometry) + (s.bias == nullptr ? 0 : s.bias[j])
                      : row.target;
      row.cosine = geometry.has_angle() ? geometry.cosine() : 0;
      look_for_other(z, 0, j, p.first_class, row, q);
      look_for_other(z, j + 1, classes, p.first_class, row, q);
      q.max = std::max(q.other, Scalar<T>::load(z[j]));
    } else {
      look_for_other(z, 0, classes, p.first_class, row, q);
      q.max = q.other;
    }
    q.sum = exponential_sum(z, classes, q.max);
    if (s.label_smoothing == 0) continue;
    for (int64_t j = 0; j < classes; ++j) {
      const double weight = s.class_weight == nullptr ? 1 : s.class_weight[j];
      q.weighted += weight * Scalar<T>::load(z[j]);
    }
  }
}

template <typename T>
void softmax_merge(const SoftmaxPartial<T>* partial, int64_t count, int64_t stride,
                   SoftmaxRow& row) {
  for (int64_t b = 0; b < count; ++b) {
    const SoftmaxPartial<T>& q = partial[b * stride];
    if (q.other > row.other) {
      row.other = q.other;
      row.other_class = q.other_class;
    }
    if (q.max > row.max) {
      row.sum *= std::exp(row.max - q.max);
      row.max = q.max;
    }
    row.sum += q.max == row.max ? q.sum : q.sum * std::exp(q.max - row.max);
    row.weighted += q.weighted;
  }
}

template <typename T, typename Margin>
void softmax_gradient(const MarginProblem<T, Margin>& p, const SoftmaxOptions<T>& s,
                      const SoftmaxScales<T>& scales, const MathOf<T>* grad, const double* lse,
                      Matrix<T> logits, MathOf<T>* radial, MathOf<T>* total, double* label_grad) {
  using Math = MathOf<T>;
  const int64_t classes = p.weight.rows;
  if (radial != nullptr) std::fill_n(radial, classes, Math(0));
  if (total != nullptr) std::fill_n(total, classes, Math(0));
  for (int64_t i = 0; i < p.x.rows; ++i) {
    T* z = logits.row(i);
    const double scale = scales.row == nullptr ? 1 : scales.row[i];
    if constexpr (kIsBinary<Margin>) {
      binary_gradient(p, s, i, grad[i], static_cast<Math>(scale), scales.column, z, radial, total);
      continue;
    }
    const SoftmaxGradient d = softmax_gradient_of(p, s, i, grad[i]);
    if (d.on_p == 0) {  // an ignored row, whose logits may be anything
      std::fill_n(z, classes, Scalar<T>::store(0));
      if (p.has_label(i)) label_grad[i] = 0;
      continue;
    }
    // What rounding lse to Math loses goes into the factor.
    const Math rounded_lse = static_cast<Math>(lse[i]);
    // Where nothing is summed before the scale, it goes into the other factors.
    const bool late = radial != nullptr || total != nullptr;
    const double early = late ? 1 : scale;
    const RowGradient<Math> f{rounded_lse,
                              static_cast<Math>(d.on_p * std::exp(rounded_lse - lse[i]) * early),
                              static_cast<Math>(d.on_w * early),
                              static_cast<Math>(late ? scale : 1),
                              s.class_weight,
                              scales.column,
                              radial,
                              total};
    if (!p.has_label(i)) {
      to_gradient(z, classes, f);
      continue;
    }
    const int64_t j = p.label_column(i);
    const double target = Scalar<T>::load(z[j]);
    const double share = s.class_weight == nullptr ? d.on_w : d.on_w * s.class_weight[j];
    const double g = d.on_p * std::exp(target - lse[i]) - share - d.on_label;
    to_gradient(z, j, f);
    to_gradient(z + j + 1, classes - j - 1, f.from(j + 1));
    label_grad[i] = g;
    if (total != nullptr) total[j] += static_cast<Math>(g);
    double factor = scale;
    if (radial != nullptr) {
      double along = g * target;
      if (p.has_margin(i)) {
        const LabelGeometry geometry = label_geometry(p, i);
        along = (g + weight_update(p, geometry, g).on_x) * plain_logit(p.margin, geometry);
        if (s.bias != nullptr) along += g * s.bias[j];
      }
      radial[j] += static_cast<Math>(along);
      factor *= scales.column[j];
    }
    z[j] = rounded<T>(g * factor);
  }
  if (radial == nullptr || s.bias == nullptr || kIsBinary<Margin>) return;
  for (int64_t j = 0; j < classes; ++j) radial[j] -= s.bias[j] * total[j];  // z has the bias in it
}

template <typename T>
void scale_columns(Matrix<T> grad, const MathOf<T>* column) {
  for (int64_t i = 0; i < grad.rows; ++i) scale(grad.row(i), grad.cols, 1, column);
}

template <typename T, typename Margin>
void softmax_weight_gradient(const MarginProblem<T, Margin>& p, const SoftmaxScales<T>& scales,
                             const MathOf<T>* radial, const double* label_grad,
                             Matrix<T> dweight_rows) {
  const int64_t features = p.x.cols;
  for (int64_t i = 0; i < p.x.rows; ++i) {
    if (!p.has_margin(i)) continue;
    const int64_t j = p.label_column(i);
    const WeightUpdate update = weight_update(p, label_geometry(p, i), label_grad[i]);
    const double factor = (scales.row == nullptr ? 1.0 : scales.row[i]) *
                          (radial == nullptr ? 1.0 : scales.column[j]);
    const WeightUpdate scaled{update.on_x * factor, update.on_w};
    const T *x = p.x.row(i), *w = p.weight.row(j);
    T* d = dweight_rows.row(j);
    for (int64_t k = 0; k < features; ++k) d[k] = scaled(d[k], x[k], w[k]);
  }
  if (radial == nullptr) return;
  for (int64_t j = 0; j < p.weight.rows; ++j) {
    const MathOf<T> factor = radial[j] * scales.column[j] * scales.column[j];
    subtract(dweight_rows.row(j), p.weight.row(j), features, factor);
  }
}

template <typename T, typename Margin>
void softmax_input_gradient(const MarginProblem<T, Margin>& p, const MathOf<T>* row_scale,
                            const double* label_grad, Matrix<MathOf<T>> dx, double* dscale,
                            ParallelFor parallel_for) {
  using S = Scalar<T>;
  using Math = MathOf<T>;
  const int64_t features = p.x.cols;
  for_ranges(parallel_for, p.x.rows, 16, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const T* x = p.x.row(i);
      Math* d = dx.row(i);
      const LabelGeometry geometry = p.has_margin(i) ? label_geometry(p, i) : LabelGeometry{};
      if (geometry.has_angle()) {
        const double scale = row_scale == nullptr ? 1 : row_scale[i];
        const InputUpdate update = input_update(p, geometry, label_grad[i]);
        const double on_w = update.on_w * scale, on_x = update.on_x * scale * scale;
        const T* w = p.weight.row(p.label_column(i));
        for (int64_t k = 0; k < features; ++k) {
          d[k] = static_cast<Math>(d[k] + on_w * S::load(w[k]) + on_x * S::load(x[k]));
        }
      }
      if (p.scale == nullptr) continue;
      const double squared = dot(x, x, features), along = dot(x, d, features);
      const double factor = row_norm<T>(squared) == 0 ? 0 : along / squared;
      for (int64_t k = 0; k < features; ++k) {
        d[k] = static_cast<Math>(d[k] - factor * S::load(x[k]));
      }
      if (dscale != nullptr) dscale[i] = along / *p.scale;
    }
  });
}

#define SPHEREFACE_INSTANTIATE(T)                                                       \
  template void row_scales(Matrix<const T>, MathOf<T>, MathOf<T>*, ParallelFor);        \
  template int64_t column_scales(Matrix<const T>, MathOf<T>*);                          \
  template void softmax_merge(const SoftmaxPartial<T>*, int64_t, int64_t, SoftmaxRow&); \
  template void scale_columns(Matrix<T>, const MathOf<T>*);
SPHEREFACE_INSTANTIATE(float)
SPHEREFACE_INSTANTIATE(double)
SPHEREFACE_INSTANTIATE(bfloat16)
#undef SPHEREFACE_INSTANTIATE

#define SPHEREFACE_INSTANTIATE(T, Margin)                                                         \
  template void softmax_logits(const MarginProblem<T, Margin>&, const SoftmaxOptions<T>&,         \
                               const SoftmaxScales<T>&, Matrix<T>);                               \
  template void softmax_update(const MarginProblem<T, Margin>&, const SoftmaxOptions<T>&,         \
                               const SoftmaxScales<T>&, Matrix<T>, SoftmaxPartial<T>*,            \
                               SoftmaxRow*);                                                      \
  template void softmax_gradient(const MarginProblem<T, Margin>&, const SoftmaxOptions<T>&,       \
                                 const SoftmaxScales<T>&, const MathOf<T>*, const double*,        \
                                 Matrix<T>, MathOf<T>*, MathOf<T>*, double*);                     \
  template void softmax_weight_gradient(const MarginProblem<T, Margin>&, const SoftmaxScales<T>&, \
                                        const MathOf<T>*, const double*, Matrix<T>);              \
  template void softmax_input_gradient(const MarginProblem<T, Margin>&, const MathOf<T>*,         \
                                       const double*, Matrix<MathOf<T>>, double*, ParallelFor);
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
SPHEREFACE_INSTANTIATE(float, CosineMargin)
SPHEREFACE_INSTANTIATE(double, CosineMargin)
SPHEREFACE_INSTANTIATE(bfloat16, CosineMargin)
#undef SPHEREFACE_INSTANTIATE

}  // namespace sphereface::cpu
