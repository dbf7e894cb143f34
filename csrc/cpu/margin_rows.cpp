#include "sphereface/margin_rows.h"

#include "bfloat16_rows.h"
#include "sphereface/cpu.h"
#include "vector.h"

namespace sphereface::cpu {

namespace {

constexpr int64_t kGrainRows = 16;

// A row of dweight through the normalisation of its row of the weight.
template <typename T>
SPHEREFACE_INLINE void project_row(const T* w, T* d, int64_t count) {
  const Projection<T> through(row_norm<T>(squared_norm(w, count)), dot(w, d, count));
  change_pieces(d, count,
                [&](MathOf<T>* piece, int64_t begin, int64_t some) SPHEREFACE_LAMBDA_INLINE {
                  for (int64_t k = 0; k < some; ++k) {
                    piece[k] = through.in_math(piece[k], Scalar<T>::load(w[begin + k]));
                  }
                });
}

// Function templates cannot be multiversioned, so each storage type has its own.
#define SPHEREFACE_PROJECT(T)                                             \
  SPHEREFACE_MULTIVERSION void project(const T* w, T* d, int64_t count) { \
    project_row(w, d, count);                                             \
  }
SPHEREFACE_PROJECT(float)
SPHEREFACE_PROJECT(double)
SPHEREFACE_PROJECT(bfloat16)
#undef SPHEREFACE_PROJECT

}  // namespace

int64_t first_bad_label(const int64_t* label, int64_t count, int64_t classes,
                        int64_t ignore_index) {
  const bool ignores = ignore_index != kNoIgnoreIndex;
  for (int64_t i = 0; i < count; ++i) {
    if (!(ignores && label[i] == ignore_index) && (label[i] < 0 || label[i] >= classes)) return i;
  }
  return -1;
}

template <typename T, typename Margin>
void margin_forward(const MarginProblem<T, Margin>& p, Matrix<T> y, ParallelFor parallel_for) {
  for_ranges(parallel_for, p.x.rows, kGrainRows, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      if (!p.has_margin(i)) continue;
      y.at(i, p.label_column(i)) =
          rounded<T>(label_logit(p.margin, *p.lambda, label_geometry(p, i)));
    }
  });
}

template <typename T, typename Margin>
void margin_input_gradient(const MarginProblem<T, Margin>& p, Matrix<const T> grad, Matrix<T> dx,
                           ParallelFor parallel_for) {
  for_ranges(parallel_for, p.x.rows, kGrainRows, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      if (!p.has_margin(i)) continue;
      const LabelGeometry row = label_geometry(p, i);
      if (!row.has_angle()) continue;
      const int64_t j = p.label_column(i);
      const InputUpdate update = input_update(p, row, Scalar<T>::load(grad.at(i, j)));
      const T *w = p.weight.row(j), *x = p.x.row(i);
      T* out = dx.row(i);
      for (int64_t k = 0; k < p.x.cols; ++k) out[k] = update(out[k], w[k], x[k]);
    }
  });
}

template <typename T, typename Margin>
void margin_weight_gradient(const MarginProblem<T, Margin>& p, Matrix<const T> grad,
                            Matrix<T> dweight_rows, ParallelFor parallel_for) {
  const int64_t features = p.x.cols;
  // A class may be the label of several rows: these few additions go one after the other.
  for (int64_t i = 0; i < p.x.rows; ++i) {
    if (!p.has_margin(i)) continue;
    const int64_t j = p.label_column(i);
    const WeightUpdate update =
        weight_update(p, label_geometry(p, i), Scalar<T>::load(grad.at(i, j)));
    const T *x = p.x.row(i), *w = p.weight.row(j);
    T* out = dweight_rows.row(j);
    for (int64_t k = 0; k < features; ++k) out[k] = update(out[k], x[k], w[k]);
  }
  if (Margin::kFreeWeight) return;
  for_ranges(parallel_for, dweight_rows.rows, kGrainRows, [&](int64_t begin, int64_t end) {
    for (int64_t j = begin; j < end; ++j) project(p.weight.row(j), dweight_rows.row(j), features);
  });
}

#define SPHEREFACE_INSTANTIATE(T, Margin)                                                          \
  template void margin_forward(const MarginProblem<T, Margin>&, Matrix<T>, ParallelFor);           \
  template void margin_input_gradient(const MarginProblem<T, Margin>&, Matrix<const T>, Matrix<T>, \
                                      ParallelFor);                                                \
  template void margin_weight_gradient(const MarginProblem<T, Margin>&, Matrix<const T>,           \
                                       Matrix<T>, ParallelFor);
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
