// The label column's logit and its two gradients: Caffe's against the coefficients of the original
// layer written out for every m, the exact one against finite differences in x and the raw weight.
#include "sphereface/label_column.h"

#include <array>
#include <limits>
#include <random>

#include "check.h"

using sphereface::ASoftmax;
using sphereface::Gradient;
using sphereface::label_gradient;
using sphereface::label_logit;
using sphereface::LabelGeometry;
using sphereface::LabelGradient;

namespace {

using Real = long double;
constexpr int kSize = 7;
using Row = std::array<Real, kSize>;

const Real kPi = std::acos(Real(-1));

Real dot(const Row& a, const Row& b) {
  Real sum = 0;
  for (int k = 0; k < kSize; ++k) sum += a[k] * b[k];
  return sum;
}

LabelGeometry geometry(const Row& x, const Row& w) {
  return {static_cast<double>(std::sqrt(dot(x, x))), static_cast<double>(std::sqrt(dot(w, w))),
          static_cast<double>(dot(x, w))};
}

Real sign(Real value) { return value > 0 ? 1 : -1; }

// The coefficients of the true gradient of |x| psi on w/|w| and on x, from the sign functions that
// the original layer is written with.
struct Coefficients {
  Real on_w, on_x;
};

Coefficients original_coefficients(int margin, Real c, Real x_norm) {
  const Real s0 = sign(c);
  switch (margin) {
    case 2:
      return {4 * s0 * c, -(2 * s0 * c * c + 1) / x_norm};
    case 3: {
      const Real s1 = sign(std::fabs(c) - Real(0.5));
      const Real s2 = s0 * (1 + s1) - 2;
      return {s1 * (12 * c * c - 3), -(8 * s1 * c * c * c - s2) / x_norm};
    }
    case 4: {
      const Real s3 = s0 * sign(2 * c * c - 1);
      const Real s4 = 2 * s0 + s3 - 3;
      const Real c2 = c * c;
      return {s3 * (32 * c2 * c - 16 * c), -(s3 * (24 * c2 * c2 - 8 * c2 - 1) - s4) / x_norm};
    }
    default:
      return {1, 0};
  }
}

// Rows at the given angle, of lengths other than 1.
void rows_at(Real theta, std::mt19937& random, Row& x, Row& w) {
  std::normal_distribution<double> normal;
  for (int k = 0; k < kSize; ++k) {
    x[k] = normal(random);
    w[k] = normal(random);
  }
  const Real along = dot(x, w) / dot(x, x);
  for (int k = 0; k < kSize; ++k) w[k] -= along * x[k];  // now orthogonal
  const Real stretch = std::sqrt(dot(x, x) / dot(w, w)) * std::tan(theta);
  for (int k = 0; k < kSize; ++k)
    w[k] = Real(0.6) * sign(std::cos(theta)) * (x[k] + stretch * w[k]);
}

void check_logit(int margin, Real lambda, Real theta, const LabelGeometry& row) {
  int k = 0;
  while (k + 1 < margin && theta > (k + 1) * kPi / margin) ++k;
  const Real psi = (k % 2 == 0 ? 1 : -1) * std::cos(margin * theta) - 2 * k;
  const Real expected = row.x_norm * (psi + lambda * std::cos(theta)) / (1 + lambda);
  CHECK_NEAR(label_logit(ASoftmax(margin), lambda, row), expected, 1e-13);
}

void check_caffe(int margin, Real lambda, const LabelGeometry& row) {
  const Coefficients c = original_coefficients(margin, row.cosine(), row.x_norm);
  const Real length = std::sqrt(c.on_w * c.on_w + c.on_x * c.on_x);
  const LabelGradient d = label_gradient(Gradient::kCaffe, ASoftmax(margin), lambda, row);
  CHECK_NEAR(d.weight, (c.on_w / length + lambda) / (1 + lambda), 1e-14);
  CHECK_NEAR(d.input, c.on_x / length / (1 + lambda), 1e-14);
}

void check_exact(int margin, Real lambda, const Row& x, const Row& w) {
  const Real h = 1e-6L;
  const LabelGeometry row = geometry(x, w);
  const LabelGradient d = label_gradient(Gradient::kExact, ASoftmax(margin), lambda, row);
  for (int k = 0; k < kSize; ++k) {
    const auto logit = [&](Real dx, Real dw) {
      Row moved_x = x, moved_w = w;
      moved_x[k] += dx;
      moved_w[k] += dw;
      return label_logit(ASoftmax(margin), lambda, geometry(moved_x, moved_w));
    };
    const Real unit = w[k] / row.w_norm;
    CHECK_NEAR(d.weight * unit + d.input * x[k], (logit(h, 0) - logit(-h, 0)) / (2 * h), 1e-8);
    // Through w/|w|: the part of d.weight * x along w is lost, the rest divided by |w|.
    const Real through = d.weight * (x[k] - unit * row.dot / row.w_norm) / row.w_norm;
    CHECK_NEAR(through, (logit(0, h) - logit(0, -h)) / (2 * h), 1e-8);
  }
}

void check_without_angle(int margin) {
  for (const LabelGeometry row : {LabelGeometry{0, 2, 0}, {3, 0, 0}, {0, 0, 0}}) {
    CHECK_EQUAL(label_logit(ASoftmax(margin), 5, row), 0.0);
    for (const Gradient kind : {Gradient::kCaffe, Gradient::kExact}) {
      const LabelGradient d = label_gradient(kind, ASoftmax(margin), 5, row);
      CHECK_EQUAL(d.weight, 1.0);
      CHECK_EQUAL(d.input, 0.0);
    }
  }
  const double nan = std::numeric_limits<double>::quiet_NaN();
  CHECK(std::isnan(label_logit(ASoftmax(margin), 5, {nan, 1, nan})));
}

// The original's direction for the shortest and the longest rows that float32 holds.
void check_extreme_rows(int margin) {
  const auto unit = label_gradient(Gradient::kCaffe, ASoftmax(margin), 0, {1, 1, 0.3});
  for (const double size : {1e-38, 3e38}) {
    const auto d = label_gradient(Gradient::kCaffe, ASoftmax(margin), 0, {size, 1, 0.3 * size});
    const double on_w = unit.weight * size, on_x = unit.input, length = std::hypot(on_w, on_x);
    CHECK_NEAR(d.weight, on_w / length, 1e-15);
    CHECK_NEAR(d.input, on_x / length, 1e-15);
  }
}

}  // namespace

int main() {
  std::mt19937 random(1);
  Row x, w;
  for (int margin = 1; margin <= sphereface::kMaxMargin; ++margin) {
    for (const Real lambda : {0.0L, 5.0L, 1000.0L}) {
      for (int i = 1; i < 180; ++i) {
        // Half a degree off the whole ones keeps clear of the knots (36 of them divide 180
        // degrees).
        const Real theta = (i - 0.5L) * kPi / 180;
        rows_at(theta, random, x, w);
        const LabelGeometry row = geometry(x, w);
        CHECK_NEAR(row.cosine(), std::cos(theta), 1e-14);
        check_logit(margin, lambda, theta, row);
        if (margin > 1) check_caffe(margin, lambda, row);
        check_exact(margin, lambda, x, w);
      }
    }
    check_without_angle(margin);
    if (margin > 1) check_extreme_rows(margin);
  }
  return summary();
}
