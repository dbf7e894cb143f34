// Linear + margin + softmax cross entropy without the layers between them, over any backend of
// margin_inner_product.h that also has
//
//   softmax_update(part, options, Matrix<const T> logits, SoftmaxRow* rows)   takes a piece in
//   softmax_finish(problem, options, const SoftmaxRow* rows, result)
//   softmax_gradient(part, options, grad, lse, Matrix<T> logits)   logits become their gradient
//   clear_rows(SoftmaxRow* rows, count)
//   add_bias(const MathOf<T>* bias, Matrix<T> logits)    logits += bias, one value a class
//   column_sums(Matrix<const T> grad, MathOf<T>* sum)    one value a class
//   add(Matrix<const T> piece, Matrix<MathOf<T>> sum, bool first)   sum (+)= piece
//   round(Matrix<const MathOf<T>> sum, Matrix<T> dx)                 dx = sum
//   scale_rows(Matrix<const T> x, scale, Matrix<T> to)               to = scale x / |x|
//   scale_gradient(Matrix<const T> x, scale, Matrix<MathOf<T>> dx, double* dscale)
//                                       dx goes through that; dscale (M) gets the scale's
//
// The CPU has its own form of both functions, in cpu_softmax.h; this one is for devices that work
// through a stream of launches.
//
// The classes are walked in chunks. With a buffer of M x N the forward's logits are kept and the
// backward turns them into their gradient in place: 3 products. With one of M x chunk they are
// computed again: 4 products. A row of dweight is written by one chunk, in a fixed order.
#pragma once

#include "sphereface/margin_inner_product.h"
#include "sphereface/softmax_rows.h"

namespace sphereface {

// Memory that a pass may use: the logits (M x N or M x chunk); on CUDA unit rows (N x K or chunk x
// K, if the problem's are not unit) and unit x (M x K, if the problem has a scale), on the CPU
// softmax_scratch doubles.
template <typename T>
struct SoftmaxMemory {
  int64_t chunk;
  Matrix<T> logits;
  Matrix<T> unit_rows;
  Matrix<T> scaled_x;
  double* scratch = nullptr;
  bool unit_rows_ready = false;  // they are those of all classes, from the forward

  bool keeps(int64_t classes) const { return logits.cols >= classes; }
  Matrix<T> piece(int64_t begin, int64_t count, int64_t classes) const {
    return logits.col_range(keeps(classes) ? begin : 0, count);
  }
};

namespace detail {

// The logits of some classes; of SphereFace2 their entries r c, whose logits nobody stores.
template <typename T, typename Margin, typename Backend>
void logits_of(const MarginProblem<T, Margin>& part, const SoftmaxOptions<T>& s,
               Matrix<const T> unit, Matrix<T> logits, Backend& backend) {
  backend.gemm(part.x, unit.transposed(), logits, false);
  if (!part.margin.is_plain()) backend.margin_forward(part, logits);
  if (s.bias != nullptr && !kIsBinary<Margin>) backend.add_bias(s.bias, logits);
}

// The problem without a scale, x being what it counts as.
template <typename T, typename Margin, typename Backend>
MarginProblem<T, Margin> scaled(const MarginProblem<T, Margin>& problem,
                                const SoftmaxMemory<T>& memory, Backend& backend) {
  if (problem.scale == nullptr) return problem;
  backend.scale_rows(problem.x, problem.scale, memory.scaled_x);
  MarginProblem<T, Margin> p = problem;
  p.x = memory.scaled_x.as_const();
  p.scale = nullptr;
  return p;
}

}  // namespace detail

// What is kept of each row's logits over the problem's classes. With all classes it is what
// softmax_finish takes; of several ranges, max, sum, weighted, target and other are to be put
// together before, and margin_softmax_backward gets the lse of all of them.
template <typename T, typename Margin, typename Backend>
void margin_softmax_rows(const MarginProblem<T, Margin>& problem, const SoftmaxOptions<T>& s,
                         const SoftmaxMemory<T>& memory, SoftmaxRow* rows, Backend& backend) {
  const auto p = detail::scaled(problem, memory, backend);
  backend.clear_rows(rows, p.x.rows);
  detail::for_unit_rows(p, memory.chunk, memory.unit_rows, memory.unit_rows_ready, backend,
                        [&](int64_t begin, Matrix<const T> unit) {
                          const auto part = p.part(begin, unit.rows);
                          const Matrix<T> logits = memory.piece(begin, unit.rows, p.weight.rows);
                          detail::logits_of(part, s.part(begin), unit, logits, backend);
                          backend.softmax_update(part, s.part(begin), logits.as_const(), rows);
                        });
}

template <typename T, typename Margin, typename Backend>
void margin_softmax_forward(const MarginProblem<T, Margin>& p, const SoftmaxOptions<T>& s,
                            const SoftmaxMemory<T>& memory, SoftmaxRow* rows,
                            const SoftmaxResult<T>& result, Backend& backend) {
  margin_softmax_rows(p, s, memory, rows, backend);
  backend.softmax_finish(p, s, rows, result);
}

// What the backward writes; a matrix without data is left out. `sum` and `piece` are needed for dx
// of a storage type that is not its own math type: every chunk's share is rounded once.
template <typename T>
struct SoftmaxGradients {
  Matrix<T> dx, dweight;
  Matrix<T> piece;
  Matrix<MathOf<T>> sum;
  MathOf<T>* dbias = nullptr;
  double* dscale = nullptr;  // (M), whose sum is the gradient of the problem's scale
};

// `kept`: memory.logits holds the forward's logits, which become their gradient.
template <typename T, typename Margin, typename Backend>
void margin_softmax_backward(const MarginProblem<T, Margin>& problem, const SoftmaxOptions<T>& s,
                             const MathOf<T>* grad, const double* lse,
                             const SoftmaxMemory<T>& memory, bool kept,
                             const SoftmaxGradients<T>& out, Backend& backend) {
  constexpr bool kIn16Bits = sizeof(T) < sizeof(MathOf<T>);
  const auto p = detail::scaled(problem, memory, backend);
  detail::for_unit_rows(p, memory.chunk, memory.unit_rows, memory.unit_rows_ready, backend,
                        [&](int64_t begin, Matrix<const T> unit) {
                          const auto part = p.part(begin, unit.rows);
                          const Matrix<T> logits = memory.piece(begin, unit.rows, p.weight.rows);
                          if (!kept) {
                            detail::logits_of(part, s.part(begin), unit, logits, backend);
                          }
                          backend.softmax_gradient(part, s.part(begin), grad, lse, logits);
                          const Matrix<const T> g = logits.as_const();
                          if (out.dbias != nullptr) backend.column_sums(g, out.dbias + begin);
                          if (out.dx.data != nullptr) {
                            const Matrix<T> to = kIn16Bits ? out.piece : out.dx;
                            backend.gemm(g, unit, to, !kIn16Bits && begin > 0);
                            if (!p.margin.is_plain()) backend.margin_input_gradient(part, g, to);
                            if constexpr (kIn16Bits)
                              backend.add(to.as_const(), out.sum, begin == 0);
                          }
                          if (out.dweight.data != nullptr) {
                            const Matrix<T> rows = out.dweight.row_range(begin, unit.rows);
                            backend.gemm(g.transposed(), p.x, rows, false);
                            if (p.gradient == Gradient::kExact)
                              backend.margin_weight_gradient(part, g, rows);
                          }
                        });
  if (out.dx.data == nullptr) return;
  if constexpr (kIn16Bits) {
    if (problem.scale != nullptr) {
      backend.scale_gradient(problem.x, problem.scale, out.sum, out.dscale);
    }
    backend.round(out.sum.as_const(), out.dx);
  } else if (problem.scale != nullptr) {
    backend.scale_gradient(problem.x, problem.scale, out.dx, out.dscale);
  }
}

}  // namespace sphereface
