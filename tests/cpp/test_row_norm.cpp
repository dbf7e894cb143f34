// Unit rows: against long double, the same bits when repeated, threaded, strided, in place or not;
// zero rows, rows that are not finite.
#include <algorithm>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "check.h"
#include "sphereface/cpu.h"
#include "thread_pieces.h"

using namespace sphereface;

namespace {

template <typename T>
using S = Scalar<T>;

// Rows `gap` elements apart in memory of exactly the needed size, so that a sanitizer sees a step
// outside.
template <typename T>
struct Rows {
  int64_t rows, cols, stride;
  std::vector<T> data;

  Rows(int64_t rows_in, int64_t cols_in, int64_t gap = 0)
      : rows(rows_in),
        cols(cols_in),
        stride(cols_in + gap),
        data(rows == 0 ? 0 : (rows - 1) * stride + cols, S<T>::store(-7)) {}
  Matrix<T> matrix() { return {data.data(), rows, cols, stride, 1}; }
  bool same_bits(const Rows& other) const {
    return data.size() == other.data.size() &&
           std::memcmp(data.data(), other.data.data(), data.size() * sizeof(T)) == 0;
  }
};

enum class Kind { kNormal, kPositive, kConstant };

template <typename T>
void fill(Rows<T>& rows, Kind kind, std::mt19937& random) {
  std::normal_distribution<double> normal;
  std::uniform_real_distribution<double> uniform(0.01, 1);
  for (int64_t i = 0; i < rows.rows; ++i) {
    const double length = std::pow(10.0, 8 * uniform(random) - 4), constant = uniform(random);
    for (int64_t k = 0; k < rows.cols; ++k) {
      const double value = kind == Kind::kNormal     ? normal(random)
                           : kind == Kind::kPositive ? uniform(random)
                                                     : constant;
      rows.matrix().at(i, k) = S<T>::store(static_cast<MathOf<T>>(length * value));
    }
  }
}

template <typename T>
void check_values(Rows<T> from, Rows<T> to) {
  // The sum, the root, the division and the product each round once or so; storing rounds again.
  const double rounding = 8 * S<T>::kEpsilon + S<T>::kRoundoff;
  for (int64_t i = 0; i < from.rows; ++i) {
    long double squared = 0, wrong = 0;
    for (int64_t k = 0; k < from.cols; ++k) {
      const long double value = S<T>::load(from.matrix().at(i, k));
      squared += value * value;
    }
    const long double length = std::sqrt(squared);
    for (int64_t k = 0; k < from.cols; ++k) {
      const long double expected = S<T>::load(from.matrix().at(i, k)) / length;
      const long double difference = S<T>::load(to.matrix().at(i, k)) - expected;
      wrong = std::max(wrong, std::fabs(difference / expected));
    }
    CHECK_NEAR(wrong, 0.0, rounding);
  }
}

template <typename T>
void check_normalize(int64_t count, int64_t cols, Kind kind, std::mt19937& random) {
  Rows<T> from(count, cols);
  fill(from, kind, random);
  Rows<T> to(count, cols);
  CHECK_EQUAL(cpu::normalize_rows(from.matrix().as_const(), to.matrix(), openmp_parallel_for), -1);
  check_values(from, to);

  Rows<T> in_place = from;
  cpu::normalize_rows(in_place.matrix().as_const(), in_place.matrix(), thread_pieces<3>);
  CHECK(in_place.same_bits(to));
  cpu::normalize_rows(in_place.matrix().as_const(), in_place.matrix(), openmp_parallel_for);
  CHECK(in_place.same_bits(to));
  Rows<T> again(count, cols);
  cpu::normalize_rows(to.matrix().as_const(), again.matrix(), thread_pieces<2>);
  CHECK(again.same_bits(to));
}

template <typename T>
void check_strided(int64_t cols, std::mt19937& random) {
  Rows<T> packed(9, cols), spread(9, cols, 5);
  fill(packed, Kind::kNormal, random);
  for (int64_t i = 0; i < packed.rows; ++i) {
    std::copy_n(packed.matrix().row(i), cols, spread.matrix().row(i));
  }
  const Matrix<T> rows = packed.matrix(), wide = spread.matrix();
  cpu::normalize_rows(rows.as_const(), rows, openmp_parallel_for);
  cpu::normalize_rows(wide.as_const(), wide, thread_pieces<4>);
  for (int64_t i = 0; i < packed.rows; ++i) {
    CHECK(std::memcmp(rows.row(i), wide.row(i), cols * sizeof(T)) == 0);
    for (int64_t k = cols; k < spread.stride && i + 1 < packed.rows; ++k) {
      CHECK_EQUAL(S<T>::load(wide.row(i)[k]), MathOf<T>(-7));
    }
  }
}

template <typename T>
void check_special_rows(int64_t cols, std::mt19937& random) {
  const MathOf<T> nan = std::numeric_limits<MathOf<T>>::quiet_NaN();
  const MathOf<T> infinity = std::numeric_limits<MathOf<T>>::infinity();
  const MathOf<T> huge = std::sqrt(std::numeric_limits<MathOf<T>>::max()) * 4;
  Rows<T> from(40, cols);
  fill(from, Kind::kNormal, random);
  const Matrix<T> m = from.matrix();
  CHECK_EQUAL(cpu::first_non_finite_row(m.as_const(), openmp_parallel_for), -1);
  std::fill_n(m.row(5), cols, S<T>::store(0));
  m.at(38, cols - 1) = S<T>::store(nan);
  m.at(31, 0) = S<T>::store(-infinity);
  // Its square is out of the type's range: no matter to float, whose norms are summed in double.
  m.at(33, cols / 2) = S<T>::store(huge);
  const bool summed_wider = sizeof(MathOf<T>) < sizeof(double);
  const Rows<T> before = from;

  for (const ParallelFor parallel_for : {&openmp_parallel_for, &thread_pieces<6>}) {
    CHECK_EQUAL(cpu::first_non_finite_row(m.as_const(), parallel_for), 31);
    Rows<T> to(from.rows, cols);
    CHECK_EQUAL(cpu::normalize_rows(m.as_const(), to.matrix(), parallel_for), 31);
    for (const int64_t i : {5, 31, 38}) {
      CHECK(std::memcmp(to.matrix().row(i), m.row(i), cols * sizeof(T)) == 0);
    }
    const MathOf<T> kept = S<T>::load(m.at(33, cols / 2));
    CHECK_NEAR(S<T>::load(to.matrix().at(33, cols / 2)), summed_wider ? MathOf<T>(1) : kept, 1e-6);
    CHECK(std::memcmp(to.matrix().row(0), m.row(0), cols * sizeof(T)) != 0);
  }
  CHECK(from.same_bits(before));
  CHECK_EQUAL(cpu::normalize_rows(m.as_const(), m, openmp_parallel_for), 31);
  for (const int64_t i : {5, 31, 38}) {
    CHECK(std::memcmp(m.row(i), before.data.data() + i * cols, cols * sizeof(T)) == 0);
  }
}

// Lengths whose squares, or the sums of them, are out of float's range or near its ends.
void check_far_lengths(int64_t cols, std::mt19937& random) {
  for (const float length : {1e-30f, 3e-23f, 1e-18f, 1e-10f, 1e14f, 3e15f, 1e18f, 1e19f, 1e30f}) {
    Rows<bfloat16> from(5, cols), to(5, cols);
    fill(from, Kind::kNormal, random);
    for (bfloat16& value : from.data) {
      value = S<bfloat16>::store(length * std::remainder(S<bfloat16>::load(value), 1.0f));
    }
    CHECK_EQUAL(cpu::first_non_finite_row(from.matrix().as_const(), openmp_parallel_for), -1);
    cpu::normalize_rows(from.matrix().as_const(), to.matrix(), openmp_parallel_for);
    check_values(from, to);
  }
}

template <typename T>
void check_all(std::mt19937& random) {
  for (int64_t cols = 1; cols <= 70; ++cols) {
    for (const Kind kind : {Kind::kNormal, Kind::kPositive, Kind::kConstant}) {
      check_normalize<T>(37, cols, kind, random);
    }
    check_strided<T>(cols, random);
  }
  for (const Kind kind : {Kind::kNormal, Kind::kPositive}) {
    check_normalize<T>(1000, 512, kind, random);
    check_normalize<T>(20, 21504, kind, random);
  }
  for (const int64_t cols : {1, 31, 32, 33, 512}) check_special_rows<T>(cols, random);

  Rows<T> none(0, 8), empty(3, 0);
  CHECK_EQUAL(cpu::normalize_rows(none.matrix().as_const(), none.matrix(), openmp_parallel_for),
              -1);
  CHECK_EQUAL(cpu::normalize_rows(empty.matrix().as_const(), empty.matrix(), openmp_parallel_for),
              -1);
}

}  // namespace

int main() {
#ifdef _OPENMP
  omp_set_num_threads(3);
#endif
  std::mt19937 random(4);
  check_all<float>(random);
  check_all<double>(random);
  check_all<bfloat16>(random);
  for (const int64_t cols : {31, 512, 1100}) check_far_lengths(cols, random);
  return summary();
}
