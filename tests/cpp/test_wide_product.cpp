// Products of bfloat16 through float: against double, for every order of the operands' memory,
// sizes around the pieces', sums, and the same bits on any number of threads.
#include <cstring>
#include <random>
#include <vector>

#include "check.h"
#include "thread_pieces.h"
#include "wide_product.h"

using namespace sphereface;

namespace {

using S = Scalar<bfloat16>;

void gemm(Matrix<const float> a, Matrix<const float> b, Matrix<float> c, bool accumulate) {
  for (int64_t i = 0; i < c.rows; ++i) {
    for (int64_t j = 0; j < c.cols; ++j) {
      float sum = accumulate ? c.at(i, j) : 0;
      for (int64_t k = 0; k < a.cols; ++k) sum += a.at(i, k) * b.at(k, j);
      c.at(i, j) = sum;
    }
  }
}

enum class Order { kRows, kColumns, kGaps, kOneRow, kOneValue };

// Memory of exactly the needed size, so that a sanitizer sees a step outside.
struct Operand {
  std::vector<bfloat16> data;
  Matrix<const bfloat16> view;

  Operand(int64_t rows, int64_t cols, Order order, std::mt19937& random) {
    int64_t down = cols, along = 1;
    if (order == Order::kColumns) down = 1, along = rows;
    if (order == Order::kGaps) down = 3 * cols + 5, along = 3;
    if (order == Order::kOneRow) down = 0;
    if (order == Order::kOneValue) down = along = 0;
    const bool empty = rows == 0 || cols == 0;
    data.resize(empty ? 0 : (rows - 1) * down + (cols - 1) * along + 1);
    std::normal_distribution<float> normal;
    for (bfloat16& value : data) value = S::store(normal(random));
    view = {data.data(), rows, cols, down, along};
  }
};

void check_product(int64_t rows, int64_t depth, int64_t cols, Order left, Order right,
                   bool accumulate, std::mt19937& random) {
  const Operand a(rows, depth, left, random), b(depth, cols, right, random);
  const Operand before(rows, cols, Order::kRows, random);
  std::vector<bfloat16> one = before.data, three = before.data;
  const cpu::WideProduct<decltype(&gemm)> serial(&gemm, thread_pieces<1>),
      threaded(&gemm, thread_pieces<3>);
  serial(a.view, b.view, {one.data(), rows, cols, cols, 1}, accumulate);
  threaded(a.view, b.view, {three.data(), rows, cols, cols, 1}, accumulate);
  CHECK(one.empty() || std::memcmp(one.data(), three.data(), 2 * one.size()) == 0);
  double wrong = 0, scale = 0;
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < cols; ++j) {
      double sum = accumulate ? S::load(before.view.at(i, j)) : 0;
      for (int64_t k = 0; k < depth; ++k) {
        sum += double{S::load(a.view.at(i, k))} * S::load(b.view.at(k, j));
      }
      // One rounding to 8 bits, and what summing in float leaves.
      const double bound = std::fabs(sum) / 256 + 1e-5 * std::sqrt(double(depth) + 1);
      wrong = std::max(wrong, std::fabs(S::load(one[i * cols + j]) - sum) / bound);
      scale = std::max(scale, std::fabs(sum));
    }
  }
  CHECK_NEAR(wrong, 0.0, 1.0);
  CHECK(rows == 0 || cols == 0 || depth == 0 || scale > 1e-6);
}

}  // namespace

int main() {
  std::mt19937 random(5);
  const Order orders[] = {Order::kRows, Order::kColumns, Order::kGaps, Order::kOneRow,
                          Order::kOneValue};
  for (const Order left : orders) {
    for (const Order right : orders) {
      for (const bool accumulate : {false, true}) {
        check_product(130, 7, 257, left, right, accumulate, random);
        check_product(3, 513, 5, left, right, accumulate, random);
      }
    }
  }
  check_product(300, 20, 530, Order::kRows, Order::kColumns, false, random);
  check_product(20, 1100, 270, Order::kColumns, Order::kRows, true, random);
  for (const bool accumulate : {false, true}) {
    check_product(0, 4, 4, Order::kRows, Order::kRows, accumulate, random);
    check_product(4, 0, 4, Order::kRows, Order::kRows, accumulate, random);
    check_product(4, 4, 0, Order::kRows, Order::kRows, accumulate, random);
  }
  return summary();
}
