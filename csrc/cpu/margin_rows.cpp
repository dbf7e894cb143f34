#include "sphereface/cpu.h"
#include "vector.h"

namespace sphereface::cpu {

namespace {

constexpr int64_t kGrainRows = 16;

template <typename T>
void add_scaled(T* to, double a, const T* x, double b, const T* y, int64_t count) {
  using S = Scalar<T>;
  for (int64_t k = 0; k < count; ++k) {
    const double sum = S::load(to[k]) + a * S::load(x[k]) + b * S::load(y[k]);
    to[k] = S::store(static_cast<MathOf<T>>(sum));
  }
}

}  // namespace

int64_t first_bad_label(const int64_t* label, int64_t count, int64_t classes,
                        int64_t ignore_index) {
  for (int64_t i = 0; i < count; ++i) {
    if (label[i] != ignore_index && (label[i] < 0 || label[i] >= classes)) return i;
  }
  return -1;
}

template <typename T>
void margin_forward(const MarginProblem<T>& p, Matrix<T> y, ParallelFor parallel_for) {
  for_ranges(parallel_for, p.x.rows, kGrainRows, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      if (!p.has_margin(i)) continue;
      y.at(i, p.label[i]) = Scalar<T>::store(
          static_cast<MathOf<T>>(label_logit(p.margin, *p.lambda, label_geometry(p, i))));
    }
  });
}

template <typename T>
void margin_input_gradient(const MarginProblem<T>& p, Matrix<const T> grad, Matrix<T> dx,
                           ParallelFor parallel_for) {
  for_ranges(parallel_for, p.x.rows, kGrainRows, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      if (!p.has_margin(i)) continue;
      const LabelGeometry row = label_geometry(p, i);
      if (!row.has_angle()) continue;
      const LabelGradient d = label_gradient(p.gradient, p.margin, *p.lambda, row);
      const double g = Scalar<T>::load(grad.at(i, p.label[i]));
      add_scaled(dx.row(i), g * (d.weight - 1) / row.w_norm, p.weight.row(p.label[i]), g * d.input,
                 p.x.row(i), p.x.cols);
    }
  });
}

template <typename T>
void margin_weight_gradient(const MarginProblem<T>& p, Matrix<const T> grad, int64_t first_class,
                            Matrix<T> dweight_rows, ParallelFor parallel_for) {
  using Math = MathOf<T>;
  const int64_t features = p.x.cols;
  // A class may be the label of several rows: these few additions go one after the other.
  for (int64_t i = 0; i < p.x.rows; ++i) {
    if (!p.has_margin(i)) continue;
    const int64_t j = p.label[i] - first_class;
    if (j < 0 || j >= dweight_rows.rows) continue;
    const LabelGradient d = label_gradient(p.gradient, p.margin, *p.lambda, label_geometry(p, i));
    const double g = Scalar<T>::load(grad.at(i, p.label[i]));
    add_scaled(dweight_rows.row(j), g * (d.weight - 1), p.x.row(i), 0, p.x.row(i), features);
  }
  // Through w/|w|: d_raw = (d - w (w.d) / |w|^2) / |w|.
  for_ranges(parallel_for, dweight_rows.rows, kGrainRows, [&](int64_t begin, int64_t end) {
    for (int64_t j = begin; j < end; ++j) {
      const T* w = p.weight.row(first_class + j);
      T* d = dweight_rows.row(j);
      const double norm = row_norm<T>(dot(w, w, features));
      const double inverse = norm == 0 ? 0 : 1 / norm;
      const auto scale = static_cast<Math>(inverse);
      const auto radial =
          static_cast<Math>(inverse * inverse * dot(w, static_cast<const T*>(d), features));
      for (int64_t k = 0; k < features; ++k) {
        const Math tangent = Scalar<T>::load(d[k]) - radial * Scalar<T>::load(w[k]);
        d[k] = Scalar<T>::store(scale * tangent);
      }
    }
  });
}

#define SPHEREFACE_INSTANTIATE(T)                                                             \
  template void margin_forward<T>(const MarginProblem<T>&, Matrix<T>, ParallelFor);           \
  template void margin_input_gradient<T>(const MarginProblem<T>&, Matrix<const T>, Matrix<T>, \
                                         ParallelFor);                                        \
  template void margin_weight_gradient<T>(const MarginProblem<T>&, Matrix<const T>, int64_t,  \
                                          Matrix<T>, ParallelFor);
SPHEREFACE_INSTANTIATE(float)
SPHEREFACE_INSTANTIATE(double)
SPHEREFACE_INSTANTIATE(bfloat16)
#undef SPHEREFACE_INSTANTIATE

}  // namespace sphereface::cpu
