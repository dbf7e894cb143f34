// Forward and backward through the driver with a plain product, against the formulas by angles in
// double: both gradients, unit and raw rows, chunks, threads, ignored and bad labels, degenerate
// sizes and zero rows.
#include "sphereface/margin_inner_product.h"

#include <limits>
#include <random>
#include <vector>

#include "check.h"
#include "margin_reference.h"
#include "rows.h"
#include "sphereface/cpu.h"
#include "thread_pieces.h"

using namespace sphereface;

namespace {

double norm(const reference::Dense& a) {
  double sum = 0;
  for (const double value : a.data) sum += value * value;
  return std::sqrt(sum);
}

// Of the rows that are not zero.
double shortest_row(const reference::Dense& a) {
  double shortest = std::numeric_limits<double>::infinity();
  for (int64_t i = 0; i < a.rows; ++i) {
    const double length = std::sqrt(reference::dot(a, i, a, i));
    if (length > 0) shortest = std::min(shortest, length);
  }
  return shortest;
}

// `size` is the product of the norms of what was multiplied: the scale of rounding errors where the
// result itself cancels.
template <typename T>
void check_close(Rows<T>& actual, const reference::Dense& expected, double size) {
  reference::Dense difference = actual.dense();
  for (size_t i = 0; i < difference.data.size(); ++i) difference.data[i] -= expected.data[i];
  const double rounding = 16 * Scalar<T>::kEpsilon + 3 * Scalar<T>::kRoundoff;
  CHECK_NEAR(norm(difference), 0.0, rounding * size);
  CHECK(norm(expected) <= 40 * size);                                    // not too generous
  CHECK(norm(expected) > 0.01 * size || actual.cols == 1 || size == 0);  // nor trivially equal
}

struct Setting {
  int64_t batch, classes, features;
  int margin;
  double lambda;
  Gradient gradient;
  bool unit_rows;
};

enum class Special { kNone, kIgnored, kBadLabels, kZeroRows };

template <typename T>
void check_setting(const Setting& s, Special special, std::mt19937& random) {
  Rows<T> x(s.batch, s.features), weight(s.classes, s.features), grad(s.batch, s.classes);
  x.fill(random);
  weight.fill(random);
  grad.fill(random);
  std::vector<int64_t> label(s.batch);
  for (int64_t& l : label) l = s.classes == 0 ? 0 : static_cast<int64_t>(random() % s.classes);
  MarginProblem<T> p;
  if (special == Special::kIgnored) {
    p.ignore_index = label[0];
  } else if (special == Special::kBadLabels) {
    const int64_t limit = std::numeric_limits<int64_t>::max();
    const int64_t bad[] = {-1, s.classes, limit, -limit, s.classes + 1};
    for (int64_t i = 0; i < s.batch; i += 2) label[i] = bad[i / 2 % 5];
  } else if (special == Special::kZeroRows) {
    std::fill_n(x.matrix().row(1), s.features, Scalar<T>::store(0));
    std::fill_n(weight.matrix().row(label[0]), s.features, Scalar<T>::store(0));
  }
  if (s.unit_rows) {
    cpu::normalize_rows(weight.matrix().as_const(), weight.matrix(), openmp_parallel_for);
  }
  const MathOf<T> lambda = static_cast<MathOf<T>>(s.lambda);
  p.x = x.matrix().as_const();
  p.weight = weight.matrix().as_const();
  p.label = label.data();
  p.lambda = &lambda;
  p.margin = s.margin;
  p.gradient = s.gradient;
  p.unit_rows = s.unit_rows;

  const double w_norm = s.unit_rows ? norm(weight.dense()) : std::sqrt(s.classes);
  const double y_size = norm(x.dense()) * w_norm, dx_size = norm(grad.dense()) * w_norm;
  double dw_size = norm(grad.dense()) * norm(x.dense());
  if (s.gradient == Gradient::kExact) dw_size /= shortest_row(weight.dense());
  const bool exact = s.gradient == Gradient::kExact;
  const reference::Result expected =
      reference::margin_inner_product({x.dense(), weight.dense(), grad.dense(), label, s.margin,
                                       s.lambda, exact, s.unit_rows, p.ignore_index});
  // 16-bit gradients round once a chunk, so only whole sums are compared.
  std::vector<int64_t> chunks{1, 3, std::max<int64_t>(s.classes, 1)};
  if (sizeof(T) == 2) chunks.erase(chunks.begin(), chunks.begin() + 2);
  for (const int64_t chunk : chunks) {
    Rows<T> y(s.batch, s.classes), dx(s.batch, s.features), dweight(s.classes, s.features);
    Rows<T> unit(std::min(chunk, s.classes), s.features);
    const Matrix<T> workspace = s.unit_rows ? Matrix<T>{} : unit.matrix();
    for (const ParallelFor parallel_for : {&openmp_parallel_for, &thread_pieces<3>}) {
      auto backend = cpu::backend<T>(Gemm<T>{}, parallel_for);
      margin_inner_product(p, y.matrix(), chunk, workspace, backend);
      const Matrix<const T> g = grad.matrix().as_const();
      margin_inner_product_input_gradient(p, g, dx.matrix(), chunk, workspace, backend);
      margin_inner_product_weight_gradient(p, g, dweight.matrix(), chunk, backend);
      CHECK(backend.non_finite_row == nullptr);
      CHECK(y.gaps_untouched() && dx.gaps_untouched() && dweight.gaps_untouched());
      check_close(y, expected.y, y_size);
      check_close(dx, expected.dx, dx_size);
      check_close(dweight, expected.dweight, dw_size);
      if (s.unit_rows) continue;
      // Unit rows of all classes, kept from the forward.
      Rows<T> kept(s.classes, s.features);
      margin_inner_product(p, y.matrix(), chunk, kept.matrix(), backend);
      margin_inner_product_input_gradient(p, g, dx.matrix(), chunk, kept.matrix(), backend, true);
      check_close(y, expected.y, y_size);
      check_close(dx, expected.dx, dx_size);
      CHECK(kept.gaps_untouched());
    }
  }
}

template <typename T>
void check_settings(std::mt19937& random) {
  const Setting shapes[] = {
      {9, 7, 13, 4, 5, Gradient::kCaffe, true},     {33, 10, 70, 4, 0, Gradient::kCaffe, true},
      {1, 1, 5, 4, 5, Gradient::kCaffe, true},      {6, 4, 1, 4, 5, Gradient::kCaffe, true},
      {0, 5, 6, 4, 5, Gradient::kCaffe, true},      {4, 0, 6, 4, 5, Gradient::kCaffe, true},
      {20, 3, 32, 4, 1000, Gradient::kCaffe, true},
  };
  for (Setting s : shapes) {
    for (s.margin = 1; s.margin <= kMaxMargin; ++s.margin) {
      for (const Gradient gradient : {Gradient::kCaffe, Gradient::kExact}) {
        for (const bool unit_rows : {false, true}) {
          s.gradient = gradient;
          s.unit_rows = unit_rows;
          check_setting<T>(s, s.classes == 0 ? Special::kBadLabels : Special::kNone, random);
          if (s.batch < 2 || s.classes < 2) continue;
          check_setting<T>(s, Special::kIgnored, random);
          check_setting<T>(s, Special::kBadLabels, random);
          check_setting<T>(s, Special::kZeroRows, random);
        }
      }
    }
  }
}

// A NaN in a raw row is reported as that row, and shows in its column only.
void check_non_finite() {
  std::mt19937 random(6);
  Rows<float> x(4, 5), weight(6, 5), y(4, 6), unit(2, 5);
  x.fill(random);
  weight.fill(random);
  weight.matrix().at(3, 2) = std::numeric_limits<float>::quiet_NaN();
  const int64_t label[] = {0, 1, 2, 3};
  const float lambda = 5;
  MarginProblem<float> p;
  p.x = x.matrix().as_const();
  p.weight = weight.matrix().as_const();
  p.label = label;
  p.lambda = &lambda;
  auto backend = cpu::backend<float>(Gemm<float>{});
  margin_inner_product(p, y.matrix(), 2, unit.matrix(), backend);
  CHECK(backend.non_finite_row == p.weight.row(3));
  for (int64_t i = 0; i < 4; ++i) {
    for (int64_t j = 0; j < 6; ++j) CHECK_EQUAL(std::isnan(y.matrix().at(i, j)), j == 3);
  }
}

// Classes 4 to 8 of 12, as a range and as a part of a range: their columns of the whole's logits,
// their share of its dx, their rows of its dweight.
void check_class_range(Gradient gradient) {
  std::mt19937 random(8);
  constexpr int64_t kFirst = 4, kCount = 5, kClasses = 12, kBatch = 9, kFeatures = 6;
  Rows<double> x(kBatch, kFeatures), weight(kClasses, kFeatures), grad(kBatch, kClasses);
  x.fill(random);
  weight.fill(random);
  grad.fill(random);
  for (int64_t i = 0; i < kBatch; ++i) {  // the other classes' share of dx is taken away
    for (int64_t j = 0; j < kClasses; ++j) {
      if (j < kFirst || j >= kFirst + kCount) grad.matrix().at(i, j) = 0;
    }
  }
  const int64_t label[kBatch] = {4, 8, 3, 9, 6, 6, 0, 11, 5};
  const double lambda = 2;
  MarginProblem<double> p;
  p.x = x.matrix().as_const();
  p.weight = weight.matrix().as_const();
  p.label = label;
  p.lambda = &lambda;
  p.gradient = gradient;
  MarginProblem<double> range = p;
  range.weight = p.weight.row_range(kFirst, kCount);
  range.first_class = kFirst;
  range.total_classes = kClasses;
  CHECK_EQUAL(range.all_classes(), kClasses);
  CHECK_EQUAL(p.all_classes(), kClasses);

  Rows<double> unit(3, kFeatures), y(kBatch, kClasses), dx(kBatch, kFeatures);
  Rows<double> dweight(kClasses, kFeatures);
  auto backend = cpu::backend<double>(Gemm<double>{});
  const Matrix<const double> g = grad.matrix().as_const();
  margin_inner_product(p, y.matrix(), 3, unit.matrix(), backend);
  margin_inner_product_input_gradient(p, g, dx.matrix(), 3, unit.matrix(), backend);
  margin_inner_product_weight_gradient(p, g, dweight.matrix(), 3, backend);
  for (const MarginProblem<double>& part : {range, p.part(2, 9).part(2, kCount)}) {
    const Matrix<const double> columns = g.col_range(kFirst, kCount);
    Rows<double> y_part(kBatch, kCount), dx_part(kBatch, kFeatures), dw_part(kCount, kFeatures);
    margin_inner_product(part, y_part.matrix(), 3, unit.matrix(), backend);
    margin_inner_product_input_gradient(part, columns, dx_part.matrix(), 3, unit.matrix(), backend);
    margin_inner_product_weight_gradient(part, columns, dw_part.matrix(), 3, backend);
    for (int64_t i = 0; i < kBatch; ++i) {
      for (int64_t j = 0; j < kCount; ++j) {
        CHECK_EQUAL(y_part.matrix().at(i, j), y.matrix().at(i, kFirst + j));
      }
      for (int64_t k = 0; k < kFeatures; ++k) {
        CHECK_NEAR(dx_part.matrix().at(i, k), dx.matrix().at(i, k), 1e-14);
      }
    }
    for (int64_t j = 0; j < kCount; ++j) {
      for (int64_t k = 0; k < kFeatures; ++k) {
        CHECK_NEAR(dw_part.matrix().at(j, k), dweight.matrix().at(kFirst + j, k), 1e-14);
      }
    }
  }
}

void check_first_bad_label() {
  const int64_t label[] = {0, 4, -100, 5, -1};
  CHECK_EQUAL(cpu::first_bad_label(label, 5, 5, kNoIgnoreIndex), 2);
  CHECK_EQUAL(cpu::first_bad_label(label, 5, 5, -100), 3);
  CHECK_EQUAL(cpu::first_bad_label(label, 5, 6, -100), 4);
  CHECK_EQUAL(cpu::first_bad_label(label, 2, 5, kNoIgnoreIndex), -1);
  CHECK_EQUAL(cpu::first_bad_label(nullptr, 0, 5, kNoIgnoreIndex), -1);
  CHECK_EQUAL(cpu::first_bad_label(label, 1, 0, kNoIgnoreIndex), 0);
}

}  // namespace

int main() {
  std::mt19937 random(5);
  check_settings<float>(random);
  check_settings<double>(random);
  check_settings<bfloat16>(random);
  check_non_finite();
  check_class_range(Gradient::kCaffe);
  check_class_range(Gradient::kExact);
  check_first_bad_label();
  return summary();
}
