// Plain structs that cross from a binding (torch, numpy, C++) to the kernels: pointers, 64-bit
// sizes and strides, no ownership.
#pragma once

#include <cstdint>
#include <limits>

#include "sphereface/host_device.h"
#include "sphereface/label_column.h"
#include "sphereface/scalar.h"

namespace sphereface {

// A strided matrix; element (i, j) is data[i * row_stride + j * col_stride].
template <typename T>
struct Matrix {
  T* data = nullptr;
  int64_t rows = 0;
  int64_t cols = 0;
  int64_t row_stride = 0;
  int64_t col_stride = 1;

  SPHEREFACE_HD T* row(int64_t i) const { return data + i * row_stride; }
  SPHEREFACE_HD T& at(int64_t i, int64_t j) const { return row(i)[j * col_stride]; }
  Matrix row_range(int64_t begin, int64_t count) const {
    return {row(begin), count, cols, row_stride, col_stride};
  }
  Matrix col_range(int64_t begin, int64_t count) const {
    return {data + begin * col_stride, rows, count, row_stride, col_stride};
  }
  Matrix transposed() const { return {data, cols, rows, col_stride, row_stride}; }
  Matrix<const T> as_const() const { return {data, rows, cols, row_stride, col_stride}; }
};

constexpr int64_t kNoIgnoreIndex = std::numeric_limits<int64_t>::min();

// M rows of K features against N classes. x and weight have unit column stride.
template <typename T>
struct MarginProblem {
  Matrix<const T> x;                  // (M, K)
  Matrix<const T> weight;             // (N, K)
  const int64_t* label = nullptr;     // (M)
  const MathOf<T>* lambda = nullptr;  // one value, on the device of x
  int margin = 4;
  Gradient gradient = Gradient::kCaffe;
  bool unit_rows = false;  // the rows of weight have unit norm already
  int64_t ignore_index = kNoIgnoreIndex;

  // Whether row i has a margin. A label outside [0, N) has none: its row is a plain product, and
  // nothing is read or written out of bounds.
  SPHEREFACE_HD bool has_margin(int64_t i) const {
    const int64_t j = label[i];
    return margin > 1 && j != ignore_index && j >= 0 && j < weight.rows;
  }
};

}  // namespace sphereface
