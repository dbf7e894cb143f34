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
  // An empty matrix may have no memory, and so no address within it.
  Matrix row_range(int64_t begin, int64_t count) const {
    return {data == nullptr ? nullptr : row(begin), count, cols, row_stride, col_stride};
  }
  Matrix col_range(int64_t begin, int64_t count) const {
    T* const from = data == nullptr ? nullptr : data + begin * col_stride;
    return {from, rows, count, row_stride, col_stride};
  }
  Matrix transposed() const { return {data, cols, rows, col_stride, row_stride}; }
  Matrix<const T> as_const() const { return {data, rows, cols, row_stride, col_stride}; }
};

constexpr int64_t kNoIgnoreIndex = std::numeric_limits<int64_t>::min();

// M rows of K features against the N classes of which the weight has rows: all of them, or the
// range [first_class, first_class + N) of total_classes. x and weight have unit column stride.
template <typename T, typename Margin = ASoftmax>
struct MarginProblem {
  using Storage = T;

  Matrix<const T> x;                  // (M, K)
  Matrix<const T> weight;             // (N, K)
  const int64_t* label = nullptr;     // (M), counted over all classes
  const MathOf<T>* lambda = nullptr;  // one value, on the device of x
  const MathOf<T>* scale = nullptr;   // the same; x counts as scale x / |x|. Null: x as it is
  Margin margin;
  Gradient gradient = Gradient::kCaffe;
  bool unit_rows = false;  // the rows of weight have unit norm already
  int64_t ignore_index = kNoIgnoreIndex;
  int64_t first_class = 0;
  int64_t total_classes = 0;  // 0: the weight has all of them

  SPHEREFACE_HD int64_t all_classes() const {
    return total_classes > 0 ? total_classes : weight.rows;
  }

  // The row of weight, and column of the logits, of row i's label.
  SPHEREFACE_HD int64_t label_column(int64_t i) const { return label[i] - first_class; }

  SPHEREFACE_HD bool ignores(int64_t i) const {
    return ignore_index != kNoIgnoreIndex && label[i] == ignore_index;
  }

  // Whether the label of row i is here. A label that is ignored or outside the range is not: its
  // row is a plain product, and nothing is read or written out of bounds.
  SPHEREFACE_HD bool has_label(int64_t i) const {
    return label[i] != ignore_index && label[i] >= first_class &&
           label[i] - first_class < weight.rows;
  }
  SPHEREFACE_HD bool has_margin(int64_t i) const { return !margin.is_plain() && has_label(i); }

  // The same for the classes from row `begin` of weight on.
  MarginProblem part(int64_t begin, int64_t count) const {
    MarginProblem p = *this;
    p.weight = weight.row_range(begin, count);
    p.first_class = first_class + begin;
    p.total_classes = all_classes();
    return p;
  }
};

}  // namespace sphereface
