// CPU kernels around the products of MarginInnerProduct, for float, double and bfloat16 storage.
// They allocate nothing and do not throw; pointers must be valid for the stated shapes.
#pragma once

#include "sphereface/parallel.h"
#include "sphereface/problem.h"
#include "sphereface/softmax_rows.h"

namespace sphereface::cpu {

// First row that holds an infinity or a NaN, or whose squared norm overflows; -1 if there is none.
template <typename T>
int64_t first_non_finite_row(Matrix<const T> rows, ParallelFor parallel_for);

// First i with label[i] outside [0, classes) and not ignore_index; -1 if there is none.
int64_t first_bad_label(const int64_t* label, int64_t count, int64_t classes, int64_t ignore_index);

// to = from with every row divided by its L2 norm. `to` may be `from`: rows that have unit norm
// already are then left as they are, so a second call changes nothing. A zero row stays zero, a row
// that is not finite is copied unchanged. Returns the first row that was not finite, or -1.
template <typename T>
int64_t normalize_rows(Matrix<const T> from, Matrix<T> to, ParallelFor parallel_for);

// the label's entry of y = (|x| h + lambda x.w) / (1 + lambda) for the rows that have a margin.
template <typename T, typename Margin>
void margin_forward(const MarginProblem<T, Margin>& problem, Matrix<T> y, ParallelFor parallel_for);

// dx, holding grad (w/|w|), becomes the gradient: the label column's direction is replaced.
template <typename T, typename Margin>
void margin_input_gradient(const MarginProblem<T, Margin>& problem, Matrix<const T> grad,
                           Matrix<T> dx, ParallelFor parallel_for);

// dweight_rows, holding grad^T x for the classes of the problem, becomes the exact gradient with
// respect to the raw weight: the margin of the label columns is put in and the result taken
// through the normalisation. Rows of zero norm get a zero gradient.
template <typename T, typename Margin>
void margin_weight_gradient(const MarginProblem<T, Margin>& problem, Matrix<const T> grad,
                            Matrix<T> dweight_rows, ParallelFor parallel_for);

// sum (+)= piece
template <typename T>
void add(Matrix<const T> piece, Matrix<MathOf<T>> sum, bool first) {
  for (int64_t i = 0; i < piece.rows; ++i) {
    for (int64_t k = 0; k < piece.cols; ++k) {
      sum.at(i, k) = Scalar<T>::load(piece.at(i, k)) + (first ? 0 : sum.at(i, k));
    }
  }
}

// A backend of margin_inner_product.h and cpu_softmax.h out of these kernels and the caller's
// product.
template <typename T, typename Gemm>
struct Backend {
  Gemm gemm;  // (Matrix<const T> a, Matrix<const T> b, Matrix<T> c, bool accumulate)
  ParallelFor parallel_for = openmp_parallel_for;
  bool concurrent = false;  // gemm may be called from several threads of parallel_for at once
  const T* non_finite_row = nullptr;  // the first that normalize_rows met

  void normalize_rows(Matrix<const T> from, Matrix<T> to) {
    const int64_t bad = cpu::normalize_rows(from, to, parallel_for);
    if (bad >= 0 && non_finite_row == nullptr) non_finite_row = from.row(bad);
  }
  template <typename Margin>
  void margin_forward(const MarginProblem<T, Margin>& p, Matrix<T> y) {
    cpu::margin_forward(p, y, parallel_for);
  }
  template <typename Margin>
  void margin_input_gradient(const MarginProblem<T, Margin>& p, Matrix<const T> grad,
                             Matrix<T> dx) {
    cpu::margin_input_gradient(p, grad, dx, parallel_for);
  }
  template <typename Margin>
  void margin_weight_gradient(const MarginProblem<T, Margin>& p, Matrix<const T> grad,
                              Matrix<T> dweight_rows) {
    cpu::margin_weight_gradient(p, grad, dweight_rows, parallel_for);
  }
  void clear_rows(SoftmaxRow* rows, int64_t count) {
    std::fill_n(rows, count, SoftmaxRow::empty());
  }
  template <typename Margin>
  void softmax_finish(const MarginProblem<T, Margin>& p, const SoftmaxOptions<T>& options,
                      const SoftmaxRow* rows, const SoftmaxResult<T>& result) {
    for (int64_t i = 0; i < p.x.rows; ++i) store_softmax_row(p, options, rows[i], i, result);
  }
  void round(Matrix<const MathOf<T>> sum, Matrix<T> dx) {
    for (int64_t i = 0; i < dx.rows; ++i) {
      for (int64_t k = 0; k < dx.cols; ++k) dx.at(i, k) = Scalar<T>::store(sum.at(i, k));
    }
  }
};

template <typename T, typename Gemm>
Backend<T, Gemm> backend(Gemm gemm, ParallelFor parallel_for = openmp_parallel_for,
                         bool concurrent = false) {
  return {gemm, parallel_for, concurrent};
}

}  // namespace sphereface::cpu
