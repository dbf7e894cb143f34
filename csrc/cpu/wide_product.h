// A product of bfloat16 matrices out of one of float: pieces of the operands are widened, and every
// entry of the result is summed in float and rounded once. For processors without instructions for
// bfloat16, on which BLAS's product of that type takes tens of times as long as that of float.
#pragma once

#include <algorithm>
#include <memory>

#include "sphereface/parallel.h"
#include "sphereface/problem.h"

namespace sphereface::cpu {

// Whether the processor multiplies bfloat16 by itself; true where that is not known.
bool has_bfloat16_products();

// to = from; `to`, and for narrow `from`, has unit column stride.
void widen(Matrix<const bfloat16> from, Matrix<float> to);
void narrow(Matrix<const float> from, Matrix<bfloat16> to);

// Gemm is (Matrix<const float> a, Matrix<const float> b, Matrix<float> c, bool accumulate), one
// that several threads may call at once. The pieces, and so the result, do not depend on how many
// there are.
template <typename Gemm>
class WideProduct {
 public:
  WideProduct(Gemm gemm, ParallelFor parallel_for) : gemm_(gemm), parallel_for_(parallel_for) {}

  void operator()(Matrix<const bfloat16> a, Matrix<const bfloat16> b, Matrix<bfloat16> c,
                  bool accumulate) const {
    const int64_t down = pieces(c.rows, kRows), across = pieces(c.cols, kColumns);
    // At least two ranges, so that with more than one thread all are in a parallel region, where a
    // BLAS uses one.
    for_ranges(parallel_for_, std::max<int64_t>(down * across, 2), 1,
               [&](int64_t begin, int64_t end) {
                 Memory memory;
                 for (int64_t tile = begin; tile < std::min(end, down * across); ++tile) {
                   const int64_t i = tile % down * kRows, j = tile / down * kColumns;
                   const int64_t rows = std::min(kRows, c.rows - i);
                   const int64_t columns = std::min(kColumns, c.cols - j);
                   multiply(a.row_range(i, rows), b.col_range(j, columns),
                            c.row_range(i, rows).col_range(j, columns), accumulate, memory);
                 }
               });
  }

 private:
  static constexpr int64_t kRows = 128, kColumns = 256, kDepth = 512;

  // A piece of an operand in float, and which one it is.
  struct Piece {
    std::unique_ptr<float[]> data;
    Matrix<const bfloat16> from;

    explicit Piece(int64_t size) : data(new float[size]) {}

    // The view's own order is kept, so that no row is written across.
    Matrix<const float> of(Matrix<const bfloat16> m) {
      const bool by_columns = m.col_stride != 1;
      const Matrix<const bfloat16> source = by_columns ? m.transposed() : m;
      const Matrix<float> rows{data.get(), source.rows, source.cols, source.cols, 1};
      if (from.data != m.data || from.rows != m.rows || from.cols != m.cols) widen(source, rows);
      from = m;
      return by_columns ? rows.as_const().transposed() : rows.as_const();
    }
  };
  struct Memory {
    Piece left{kRows * kDepth}, right{kDepth * kColumns};
    std::unique_ptr<float[]> sum{new float[kRows * kColumns]};
  };

  static int64_t pieces(int64_t count, int64_t size) { return (count + size - 1) / size; }

  void multiply(Matrix<const bfloat16> a, Matrix<const bfloat16> b, Matrix<bfloat16> c,
                bool accumulate, Memory& memory) const {
    const Matrix<float> sum{memory.sum.get(), c.rows, c.cols, c.cols, 1};
    if (accumulate) widen(c.as_const(), sum);
    int64_t k = 0;
    do {
      const int64_t depth = std::min(kDepth, a.cols - k);
      gemm_(memory.left.of(a.col_range(k, depth)), memory.right.of(b.row_range(k, depth)), sum,
            accumulate || k > 0);
      k += kDepth;
    } while (k < a.cols);
    narrow(sum.as_const(), c);
  }

  Gemm gemm_;
  ParallelFor parallel_for_;
};

}  // namespace sphereface::cpu
