// Row-major test matrices and the plain product over them.
#pragma once

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "margin_reference.h"
#include "sphereface/problem.h"

namespace sphereface {

template <typename T>
struct Gemm {
  using S = Scalar<T>;
  void operator()(Matrix<const T> a, Matrix<const T> b, Matrix<T> c, bool accumulate) const {
    for (int64_t i = 0; i < c.rows; ++i) {
      for (int64_t j = 0; j < c.cols; ++j) {
        MathOf<T> sum = accumulate ? S::load(c.at(i, j)) : MathOf<T>(0);
        for (int64_t k = 0; k < a.cols; ++k) sum += S::load(a.at(i, k)) * S::load(b.at(k, j));
        c.at(i, j) = S::store(sum);
      }
    }
  }
};

// Row-major, NaN until written, rows one element further apart than they are long, in memory of
// exactly that size.
template <typename T>
struct Rows {
  int64_t rows, cols;
  std::vector<T> data;

  Rows(int64_t rows_in, int64_t cols_in)
      : rows(rows_in),
        cols(cols_in),
        data(rows == 0 ? 0 : rows * (cols + 1) - 1,
             Scalar<T>::store(std::numeric_limits<MathOf<T>>::quiet_NaN())) {}
  Matrix<T> matrix() { return {data.data(), rows, cols, cols + 1, 1}; }

  void fill(std::mt19937& random) {
    std::normal_distribution<double> normal;
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t k = 0; k < cols; ++k) {
        matrix().at(i, k) = Scalar<T>::store(static_cast<MathOf<T>>(normal(random)));
      }
    }
  }
  bool gaps_untouched() {
    for (int64_t i = 0; i + 1 < rows; ++i) {
      if (!std::isnan(Scalar<T>::load(matrix().row(i)[cols]))) return false;
    }
    return true;
  }
  reference::Dense dense() {
    reference::Dense result(rows, cols);
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t k = 0; k < cols; ++k) result(i, k) = Scalar<T>::load(matrix().at(i, k));
    }
    return result;
  }
};

}  // namespace sphereface
