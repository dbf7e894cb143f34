// The CUDA kernels, run on the CPU by cuda_on_host.h, against the CPU's own: sizes around the warp,
// the pack and the tile, rows that are aligned and rows that are not, repeated, ignored and wrong
// labels, pieces of the classes.
#include "cuda_on_host.h"

#include <random>
#include <vector>

#include "check.h"
#include "cuda/binary_rows.cuh"
#include "cuda/margin_rows.cuh"
#include "cuda/row_norm.cuh"
#include "cuda/softmax_rows.cuh"
#include "sphereface/cpu.h"
#include "stream_backend.h"

using namespace sphereface;
using cuda_on_host::launch;

namespace {

// Row-major and aligned to 16 bytes, or with every row next to the one before and neither.
template <typename T>
struct Plane {
  int64_t rows, cols, stride;
  std::vector<int4> memory;
  T* data;

  Plane(int64_t rows_in, int64_t cols_in, bool aligned)
      : rows(rows_in),
        cols(cols_in),
        stride(aligned ? (cols + 7) / 8 * 8 : cols + 1 - cols % 2),
        memory((rows * stride + 8) * sizeof(T) / 16 + 1),
        data(reinterpret_cast<T*>(memory.data()) + (aligned ? 0 : 1)) {}
  Plane(const Plane& other, bool) = delete;
  Matrix<T> matrix() { return {data, rows, cols, stride, 1}; }
  void fill(std::mt19937& random, double scale = 1) {
    std::normal_distribution<double> normal(0, scale);
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t k = 0; k < cols; ++k) {
        matrix().at(i, k) = Scalar<T>::store(static_cast<MathOf<T>>(normal(random)));
      }
    }
  }
  void copy(Plane& other) {
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t k = 0; k < cols; ++k) matrix().at(i, k) = other.matrix().at(i, k);
    }
  }
};

template <typename T>
double value_of(Plane<T>& p, int64_t i, int64_t k) {
  return Scalar<T>::load(p.matrix().at(i, k));
}

// Relative to the largest of the expected values.
template <typename T>
double difference(Plane<T>& ours, Plane<T>& expected) {
  double worst = 0, scale = 1e-30;
  for (int64_t i = 0; i < ours.rows; ++i) {
    for (int64_t k = 0; k < ours.cols; ++k) {
      const double a = value_of(ours, i, k), b = value_of(expected, i, k);
      if (std::isnan(a) && std::isnan(b)) continue;
      worst = std::isnan(a - b) ? kInfinity : std::fmax(worst, std::fabs(a - b));
      scale = std::fmax(scale, std::fabs(b));
    }
  }
  return worst / scale;
}

template <typename T>
constexpr double kTolerance = sizeof(T) == 8   ? 1e-14
                              : sizeof(T) == 4 ? 4e-7
                                               : 1e-2;

constexpr unsigned kBlocks = 2;  // fewer than there are rows for, so that loops go round

template <typename T>
void check_normalize(int64_t rows, int64_t cols, bool aligned, std::mt19937& random) {
  Plane<T> from(rows, cols, aligned), ours(rows, cols, aligned), expected(rows, cols, aligned);
  from.fill(random);
  if (rows > 2) {
    for (int64_t k = 0; k < cols; ++k) from.matrix().at(1, k) = Scalar<T>::store(0);
  }
  const auto run = [&](Plane<T>& source, Plane<T>& target) {
    cuda::with_packs<T>(cols, aligned, [&](auto packs) {
      launch(kBlocks, cuda::kRowThreads, [&] {
        cuda::normalize_rows_kernel<T, packs>(source.matrix().as_const(), target.matrix());
      });
    });
  };
  cpu::normalize_rows(from.matrix().as_const(), expected.matrix(), openmp_parallel_for);
  run(from, ours);
  CHECK_NEAR(difference(ours, expected), 0.0, kTolerance<T>);
  run(ours, ours);  // unit rows stay, bit for bit
  Plane<T> again(rows, cols, aligned);
  run(from, again);
  CHECK_EQUAL(difference(ours, again), 0.0);
}

// A row that is not finite, or too long for its square, shows as NaN; the CPU reports it and leaves
// it.
void check_bad_rows() {
  for (const double bad : {1e200, kInfinity, kNaN}) {
    Plane<double> rows(3, 5, true);
    std::mt19937 random(1);
    rows.fill(random);
    rows.matrix().at(1, 2) = bad;
    Plane<double> ours(3, 5, true), copy(3, 5, true);
    copy.copy(rows);
    launch(1, cuda::kRowThreads, [&] {
      cuda::normalize_rows_kernel<double, 0>(rows.matrix().as_const(), ours.matrix());
    });
    for (int64_t k = 0; k < 5; ++k) {
      CHECK(std::isnan(value_of(ours, 1, k)));
      CHECK(std::isfinite(value_of(ours, 2, k)));
    }
    CHECK_EQUAL(cpu::normalize_rows(rows.matrix().as_const(), rows.matrix(), openmp_parallel_for),
                1);
    CHECK_EQUAL(value_of(rows, 1, 0), value_of(copy, 1, 0));
    CHECK_EQUAL(cpu::first_non_finite_row(copy.matrix().as_const(), openmp_parallel_for), 1);
  }
}

template <typename T, typename Margin>
struct Case {
  int64_t rows, cols, classes;
  bool aligned;
  Plane<T> x, weight, logits;
  std::vector<int64_t> label;
  MathOf<T> lambda = static_cast<MathOf<T>>(0.5);
  MarginProblem<T, Margin> p;

  Case(int64_t rows_in, int64_t cols_in, int64_t classes_in, bool aligned_in, const Margin& margin,
       Gradient gradient, std::mt19937& random)
      : rows(rows_in),
        cols(cols_in),
        classes(classes_in),
        aligned(aligned_in),
        x(rows, cols, aligned),
        weight(classes, cols, aligned),
        logits(rows, classes, aligned),
        label(rows) {
    x.fill(random);
    weight.fill(random);
    logits.fill(random, 5);
    for (int64_t i = 0; i < rows; ++i) {
      label[i] = static_cast<int64_t>(random() % (i % 3 == 0 ? 2 : classes));  // many of two
    }
    if (rows > 4) {
      label[1] = -7;
      label[2] = int64_t{1} << 40;
      label[3] = -1;
      label[4] = classes - 1;
    }
    p.x = x.matrix().as_const();
    p.weight = weight.matrix().as_const();
    p.label = label.data();
    p.lambda = &lambda;
    p.margin = margin;
    p.gradient = gradient;
    p.ignore_index = -7;
  }
};

template <typename T, typename Margin>
void check_margin(Case<T, Margin>&& c, std::mt19937& random) {
  Plane<T> y(c.rows, c.classes, c.aligned), y_expected(c.rows, c.classes, c.aligned);
  y.copy(c.logits);
  y_expected.copy(c.logits);
  launch(kBlocks, cuda::kRowThreads, [&] { cuda::margin_forward_kernel(c.p, y.matrix()); });
  cpu::margin_forward(c.p, y_expected.matrix(), openmp_parallel_for);
  CHECK_NEAR(difference(y, y_expected), 0.0, kTolerance<T>);

  Plane<T> dx(c.rows, c.cols, c.aligned), dx_expected(c.rows, c.cols, c.aligned);
  dx.fill(random);
  dx_expected.copy(dx);
  const Matrix<const T> grad = c.logits.matrix().as_const();
  launch(kBlocks, cuda::kRowThreads,
         [&] { cuda::margin_input_gradient_kernel(c.p, grad, dx.matrix()); });
  cpu::margin_input_gradient(c.p, grad, dx_expected.matrix(), openmp_parallel_for);
  CHECK_NEAR(difference(dx, dx_expected), 0.0, kTolerance<T>);

  Plane<T> dw(c.classes, c.cols, c.aligned), dw_expected(c.classes, c.cols, c.aligned);
  dw.fill(random);
  dw_expected.copy(dw);
  launch(kBlocks, cuda::kRowThreads,
         [&] { cuda::margin_weight_gradient_kernel(c.p, grad, dw.matrix()); });
  if constexpr (!Margin::kFreeWeight) {
    cuda::with_packs<T>(c.cols, c.aligned, [&](auto packs) {
      launch(kBlocks, cuda::kRowThreads,
             [&] { cuda::project_rows_kernel<T, packs>(c.p.weight, dw.matrix()); });
    });
  }
  cpu::margin_weight_gradient(c.p, grad, dw_expected.matrix(), openmp_parallel_for);
  CHECK_NEAR(difference(dw, dw_expected), 0.0, kTolerance<T>);
}

template <typename T, bool kPacked, typename Margin>
void check_softmax(Case<T, Margin>&& c, double smoothing, bool weighted, std::mt19937& random) {
  std::vector<MathOf<T>> class_weight(c.classes), label_weight(c.rows), grad(c.rows);
  MathOf<T> total = 0;
  for (auto& w : class_weight) total += w = std::uniform_real_distribution<float>(0, 2)(random);
  for (int64_t i = 0; i < c.rows; ++i) {
    const bool is_class = c.label[i] >= 0 && c.label[i] < c.classes;
    label_weight[i] = is_class ? class_weight[c.label[i]] : 0;
    grad[i] = std::normal_distribution<float>()(random);
  }
  SoftmaxOptions<T> s;
  s.label_smoothing = smoothing;
  if (weighted) {
    s.class_weight = class_weight.data();
    s.weight_sum = &total;
    s.label_weight = label_weight.data();
  }
  std::vector<SoftmaxRow> ours(c.rows, SoftmaxRow::empty()), expected = ours;
  StreamBackend<T> reference;
  // Two pieces, of which the second begins where a pack does.
  const int64_t split = c.classes / 2 / 8 * 8;
  for (const auto& [begin, count] : {std::pair(int64_t{0}, split), {split, c.classes - split}}) {
    if (count == 0) continue;
    const auto part = c.p.part(begin, count);
    const auto piece = c.logits.matrix().col_range(begin, count).as_const();
    launch(kBlocks, cuda::kSoftmaxThreads, [&, begin = begin] {
      cuda::softmax_update_kernel<T, Margin, kPacked>(part, s.part(begin), piece, ours.data());
    });
    reference.softmax_update(part, s.part(begin), piece, expected.data());
  }
  std::vector<double> lse(c.rows);
  for (int64_t i = 0; i < c.rows; ++i) {
    const SoftmaxRow &a = ours[i], &b = expected[i];
    CHECK_EQUAL(a.max, b.max);
    CHECK_NEAR(a.sum / b.sum, 1.0, 1e-6);
    CHECK_NEAR(a.weighted - b.weighted, 0.0, 1e-5 * c.classes);
    CHECK_EQUAL(a.other, b.other);
    CHECK_EQUAL(a.other_class, b.other_class);
    CHECK(a.target == b.target || (std::isnan(a.target) && std::isnan(b.target)));
    CHECK(std::isnan(b.cosine) ? std::isnan(a.cosine) : std::fabs(a.cosine - b.cosine) < 1e-6);
    lse[i] = b.lse();
  }
  Plane<T> z(c.rows, c.classes, c.aligned), z_expected(c.rows, c.classes, c.aligned);
  z.copy(c.logits);
  z_expected.copy(c.logits);
  // One tile more than blocks, so that a block goes round.
  launch(kBlocks, cuda::kSoftmaxThreads, [&] {
    cuda::softmax_gradient_kernel<T, Margin, kPacked>(c.p, s, grad.data(), lse.data(), z.matrix());
  });
  reference.softmax_gradient(c.p, s, grad.data(), lse.data(), z_expected.matrix());
  CHECK_NEAR(difference(z, z_expected), 0.0, kTolerance<T>);
}

// SphereFace2 over two pieces, against its formulas in double.
template <typename T, bool kPacked>
void check_binary(Case<T, SphereFace2>&& c, bool with_bias, std::mt19937& random) {
  const BinaryRow<double> terms(c.p.margin);
  c.logits.fill(random, 0.3 * c.p.margin.r);
  std::vector<MathOf<T>> bias(c.classes), grad(c.rows);
  for (auto& b : bias) b = std::normal_distribution<float>()(random);
  for (auto& g : grad) g = std::normal_distribution<float>()(random);
  if (c.rows > 5) grad[5] = 0;
  SoftmaxOptions<T> s;
  if (with_bias) s.bias = bias.data();
  std::vector<SoftmaxRow> rows(c.rows, SoftmaxRow::empty());
  const int64_t split = c.classes / 2 / 8 * 8;
  for (const auto& [begin, count] : {std::pair(int64_t{0}, split), {split, c.classes - split}}) {
    if (count == 0) continue;
    const auto part = c.p.part(begin, count);
    const auto piece = c.logits.matrix().col_range(begin, count).as_const();
    launch(kBlocks, cuda::kSoftmaxThreads, [&, begin = begin] {
      cuda::binary_update_kernel<T, kPacked>(part, s.part(begin), piece, rows.data());
    });
  }
  Plane<T> z(c.rows, c.classes, c.aligned), expected(c.rows, c.classes, c.aligned);
  z.copy(c.logits);
  launch(kBlocks, cuda::kSoftmaxThreads,
         [&] { cuda::binary_gradient_kernel<T, kPacked>(c.p, s, grad.data(), z.matrix()); });
  for (int64_t i = 0; i < c.rows; ++i) {
    double sum = 0, other = -kInfinity;
    for (int64_t j = 0; j < c.classes; ++j) {
      const bool own = c.p.has_label(i) && c.label[i] == j;
      const double logit =
          terms.logit(value_of(c.logits, i, j), with_bias ? double{bias[j]} : 0, own);
      sum += terms.loss(logit, own);
      if (!own) other = std::fmax(other, logit);
      if (own) CHECK_NEAR(rows[i].target, logit, 2e-4);
      const double factor = binary_factor(c.p, i);
      const bool none = factor == 0 || grad[i] == 0;
      expected.matrix().at(i, j) =
          rounded<T>(none ? 0 : factor * grad[i] * terms.slope(logit, own));
    }
    CHECK_NEAR(rows[i].sum / sum, 1.0, 1e-5);
    if (c.classes > 1) CHECK_NEAR(rows[i].other, other, 2e-4);
    CHECK(c.p.has_label(i) || std::isnan(rows[i].target));
  }
  CHECK_NEAR(difference(z, expected), 0.0, sizeof(T) == 4 ? 2e-5 : kTolerance<T>);
}

template <typename T>
void check_type(std::mt19937& random) {
  for (const bool aligned : {true, false}) {
    for (const int64_t cols : {1, 7, 136, 520, 1000, 2056}) {
      check_normalize<T>(17, cols, aligned, random);
    }
    for (const Gradient gradient : {Gradient::kCaffe, Gradient::kExact}) {
      for (const int64_t cols : {5, 136}) {
        // 40 rows: labels repeat over more than a warp.
        check_margin(Case<T, ASoftmax>(40, cols, 9, aligned, 4, gradient, random), random);
        if (gradient == Gradient::kCaffe) continue;
        const CosineMargin ready{9, CosineMargin::Form::kAngle, 1, 0.5, 0};
        check_margin(Case<T, CosineMargin>(7, cols, 12, aligned, ready, gradient, random), random);
        check_margin(Case<T, CombinedMargin>(7, cols, 12, aligned, {1, 0.5, 0, false},
                                             Gradient::kExact, random),
                     random);
      }
    }
    check_margin(Case<T, ASoftmax>(1, 3, 2, aligned, 3, Gradient::kExact, random), random);
    const auto softmax = [&](int64_t rows, int64_t classes, double smoothing, bool weighted) {
      Case<T, ASoftmax> c(rows, 6, classes, aligned, 4, Gradient::kExact, random);
      aligned ? check_softmax<T, true>(std::move(c), smoothing, weighted, random)
              : check_softmax<T, false>(std::move(c), smoothing, weighted, random);
    };
    for (const int64_t classes : {1, 9, 3000}) softmax(6, classes, 0, false);
    softmax(3, cuda::kTile + 21, 0, false);
    softmax(6, 77, 0.2, false);
    softmax(6, 3000, 0.2, true);
    softmax(6, 77, 0, true);
    const auto binary = [&](int64_t rows, int64_t classes, double t, bool bias) {
      const SphereFace2 margin{0.4, t, 0.7, 30};
      Case<T, SphereFace2> c(rows, 6, classes, aligned, margin, Gradient::kExact, random);
      aligned ? check_binary<T, true>(std::move(c), bias, random)
              : check_binary<T, false>(std::move(c), bias, random);
    };
    for (const int64_t classes : {1, 9, 3000}) binary(7, classes, 3, classes == 9);
    binary(2, cuda::kTile + 21, 2.5, true);
  }
}

}  // namespace

int main() {
  std::mt19937 random(11);
  check_type<float>(random);
  check_type<double>(random);
  check_type<bfloat16>(random);
  check_bad_rows();
  return summary();
}
