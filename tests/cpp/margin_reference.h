// MarginInnerProduct in double from its definition by angles, element by element; shares nothing
// with the core.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

namespace reference {

struct Dense {
  int64_t rows = 0, cols = 0;
  std::vector<double> data;

  Dense(int64_t rows_in, int64_t cols_in) : rows(rows_in), cols(cols_in), data(rows * cols) {}
  double& operator()(int64_t i, int64_t j) { return data[i * cols + j]; }
  double operator()(int64_t i, int64_t j) const { return data[i * cols + j]; }
};

struct Problem {
  Dense x, weight, grad;
  std::vector<int64_t> label;
  int margin;
  double lambda;
  bool exact, unit_rows;
  int64_t ignore_index;
};

struct Result {
  Dense y, dx, dweight;
};

inline double dot(const Dense& a, int64_t i, const Dense& b, int64_t j) {
  double sum = 0;
  for (int64_t k = 0; k < a.cols; ++k) sum += a(i, k) * b(j, k);
  return sum;
}

// psi and -(d psi / d theta) / sin(theta), which has the limit m^2 at both ends.
inline void psi_by_angle(int margin, double c, double& value, double& slope) {
  const double pi = std::acos(-1.0), theta = std::acos(std::fmax(-1.0, std::fmin(1.0, c)));
  const int k = std::min(static_cast<int>(margin * theta / pi), margin - 1);
  const double sign = k % 2 == 0 ? 1 : -1;
  value = sign * std::cos(margin * theta) - 2 * k;
  slope = std::sin(theta) < 1e-6 ? margin * margin
                                 : sign * margin * std::sin(margin * theta) / std::sin(theta);
}

inline Result margin_inner_product(const Problem& p) {
  const int64_t batch = p.x.rows, classes = p.weight.rows, features = p.x.cols;
  Result r{{batch, classes}, {batch, features}, {classes, features}};
  for (int64_t j = 0; j < classes; ++j) {
    const double w_norm = std::sqrt(dot(p.weight, j, p.weight, j));
    const double scale = p.unit_rows || w_norm == 0 ? 1 : 1 / w_norm;  // of the plain product
    std::vector<double> through(features, 0.0);                        // d loss / d (w/|w|)
    for (int64_t i = 0; i < batch; ++i) {
      const double x_norm = std::sqrt(dot(p.x, i, p.x, i)), xw = dot(p.x, i, p.weight, j);
      const double g = p.grad(i, j);
      const bool margined =
          p.margin > 1 && p.label[i] == j && j != p.ignore_index && x_norm > 0 && w_norm > 0;
      r.y(i, j) = xw * scale;
      double on_w = scale, on_x = 0, to_w = 1;  // dy/dx = on_w w + on_x x, dy/d(w/|w|) = to_w x
      if (margined) {
        double psi, slope;
        const double c = xw / w_norm / x_norm, lambda = p.lambda;
        psi_by_angle(p.margin, c, psi, slope);
        r.y(i, j) = x_norm * (psi + lambda * c) / (1 + lambda);
        to_w = (slope + lambda) / (1 + lambda);
        double c_w = slope, c_x = (psi - c * slope) / x_norm;
        if (!p.exact) {
          const double length = std::hypot(c_w, c_x);
          c_w /= length;
          c_x /= length;
        }
        on_w = (c_w + lambda) / (1 + lambda) / w_norm;
        on_x = c_x / (1 + lambda);
      }
      for (int64_t k = 0; k < features; ++k) {
        r.dx(i, k) += g * (on_w * p.weight(j, k) + on_x * p.x(i, k));
        through[k] += g * (p.exact ? to_w : 1) * p.x(i, k);
      }
    }
    double radial = 0;
    for (int64_t k = 0; k < features; ++k) radial += through[k] * p.weight(j, k);
    for (int64_t k = 0; k < features; ++k) {
      if (!p.exact) {
        r.dweight(j, k) = through[k];
      } else if (w_norm > 0) {
        r.dweight(j, k) = (through[k] - radial * p.weight(j, k) / (w_norm * w_norm)) / w_norm;
      }
    }
  }
  return r;
}

}  // namespace reference
