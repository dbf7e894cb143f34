// Forward and backward of MarginInnerProduct (SphereFace's Caffe layer of that name) over any
// backend. The sequence of products and fix-ups is written here once; torch (CPU and CUDA), numpy
// and C++ programs pass a backend, which supplies
//
//   gemm(Matrix<const T> a, Matrix<const T> b, Matrix<T> c, bool accumulate)   c (+)= a b
//   normalize_rows(Matrix<const T> from, Matrix<T> to)                         unit L2 rows
//   margin_forward(problem, Matrix<T> y)                    replaces y(i, label[i])
//   margin_input_gradient(problem, grad, Matrix<T> dx)      what the label column adds to dx
//   margin_weight_gradient(part, grad, Matrix<T> dweight_rows)    for a part of the classes
//
// sphereface/cpu.h has all but gemm for the CPU, sphereface/cuda/launch.h for CUDA. Transposed
// operands are Matrix views with swapped strides, so a gemm reads its transpose flags off the
// strides.
//
// The classes are walked in chunks of `chunk` rows, which bounds the workspace and keeps a CPU's
// products in cache (chunk >= 1); no M x N memory but y itself is touched outside gemm.
#pragma once

#include <algorithm>

#include "sphereface/problem.h"

namespace sphereface {

namespace detail {

// Calls body(first_class, unit_rows) for every chunk of classes; rows that are not known to have
// unit norm are normalised into the workspace first, unless it is `ready`. Without classes there is
// one empty chunk, so that a gemm still clears what it writes to.
template <typename T, typename Margin, typename Backend, typename Body>
void for_unit_rows(const MarginProblem<T, Margin>& p, int64_t chunk, Matrix<T> workspace,
                   bool ready, Backend& backend, const Body& body) {
  const bool has_all = workspace.rows >= p.weight.rows;
  int64_t begin = 0;
  do {
    const int64_t count = std::min(chunk, p.weight.rows - begin);
    Matrix<const T> rows = p.weight.row_range(begin, count);
    if (!p.unit_rows) {
      const Matrix<T> unit = workspace.row_range(has_all ? begin : 0, count);
      if (!ready) backend.normalize_rows(rows, unit);
      rows = unit.as_const();
    }
    body(begin, rows);
    begin += chunk;
  } while (begin < p.weight.rows);
}

}  // namespace detail

// y (M x N) = x (w/|w|)^T with the margin in the label's column. `workspace` is used only when
// problem.unit_rows is false: chunk x K, or N x K to have the unit rows of all classes afterwards.
template <typename T, typename Margin, typename Backend>
void margin_inner_product(const MarginProblem<T, Margin>& p, Matrix<T> y, int64_t chunk,
                          Matrix<T> workspace, Backend& backend) {
  const auto multiply = [&](int64_t begin, Matrix<const T> rows) {
    backend.gemm(p.x, rows.transposed(), y.col_range(begin, rows.rows), false);
  };
  detail::for_unit_rows(p, chunk, workspace, false, backend, multiply);
  if (!p.margin.is_plain()) backend.margin_forward(p, y);
}

// dx (M x K) for the gradient kind of the problem. `ready`: the workspace is N x K and has the unit
// rows, from the forward.
template <typename T, typename Margin, typename Backend>
void margin_inner_product_input_gradient(const MarginProblem<T, Margin>& p, Matrix<const T> grad,
                                         Matrix<T> dx, int64_t chunk, Matrix<T> workspace,
                                         Backend& backend, bool ready = false) {
  // dx is small and written once per chunk, so known unit rows are taken in one product.
  const int64_t step = p.unit_rows || ready ? std::max<int64_t>(p.weight.rows, 1) : chunk;
  const auto multiply = [&](int64_t begin, Matrix<const T> rows) {
    backend.gemm(grad.col_range(begin, rows.rows), rows, dx, begin > 0);
  };
  detail::for_unit_rows(p, step, workspace, ready, backend, multiply);
  if (!p.margin.is_plain()) backend.margin_input_gradient(p, grad, dx);
}

// dweight (N x K): grad^T x for kCaffe (the original leaves the margin and the normalisation out);
// for kExact the gradient with respect to the raw weight.
template <typename T, typename Margin, typename Backend>
void margin_inner_product_weight_gradient(const MarginProblem<T, Margin>& p, Matrix<const T> grad,
                                          Matrix<T> dweight, int64_t chunk, Backend& backend) {
  if (p.gradient == Gradient::kCaffe) {
    backend.gemm(grad.transposed(), p.x, dweight, false);
    return;
  }
  for (int64_t begin = 0; begin < p.weight.rows; begin += chunk) {
    const int64_t count = std::min(chunk, p.weight.rows - begin);
    const Matrix<T> rows = dweight.row_range(begin, count);
    const Matrix<const T> columns = grad.col_range(begin, count);
    backend.gemm(columns.transposed(), p.x, rows, false);
    backend.margin_weight_gradient(p.part(begin, count), columns, rows);
  }
}

}  // namespace sphereface
