// CosineMargin by the formulas of its three forms, and what a row without length is to it.
#include <algorithm>
#include <cmath>

#include "check.h"
#include "sphereface/label_column.h"

using namespace sphereface;

namespace {

// Slopes by differences, values by their formulas; beyond -1 and 1 too, where rounding may lead.
void check_policy(const CosineMargin& m) {
  const double h = 1e-7;
  for (double c = -1.05; c < 1.1; c += 0.0201) {
    const double theta = std::acos(std::clamp(c, -1.0, 1.0));
    double expected = std::cos(m.m1 * theta + m.m2) - m.m3, slope = 0;
    const bool inside = std::fabs(c) < 1;
    if (inside) slope = (m(c + h).value - m(c - h).value) / (2 * h);
    if (m.form == CosineMargin::Form::kAdd) {
      expected = c - m.m3;
      slope = 1;
    } else if (m.form == CosineMargin::Form::kAngle) {
      if (c <= -std::cos(m.m2)) expected = c - m.m2 * std::sin(m.m2);
      if (!inside) slope = 1;
    }
    CHECK_NEAR(m(c).value, expected, 1e-12);
    CHECK_NEAR(m(c).slope, slope, 2e-5);
  }
}

// y = s h(x.w / s): the gradients are slope w and slope x, whatever the lengths.
void check_rows() {
  const CosineMargin m{20, CosineMargin::Form::kAngle, 1, 0.4, 0};
  for (const double x_norm : {0.0, 3.0}) {
    const LabelGeometry row = seen_by(m, {x_norm, 2, 1.5 * x_norm});
    const Bend h = m(1.5 * x_norm / 20);
    CHECK_NEAR(label_logit(m, 0, row), 20 * h.value, 1e-12);
    CHECK_EQUAL(plain_logit(m, row), 1.5 * x_norm);
    for (const Gradient gradient : {Gradient::kCaffe, Gradient::kExact}) {
      const LabelGradient d = label_gradient(gradient, m, 0, row);
      CHECK_EQUAL(d.weight, h.slope);
      CHECK_EQUAL(d.input, 0.0);
    }
  }
}

}  // namespace

int main() {
  using Form = CosineMargin::Form;
  check_policy({1, Form::kAdd, 1, 0, -0.35});
  check_policy({1, Form::kAngle, 1, 0, 0});
  check_policy({1, Form::kAngle, 1, 0.5, 0});
  check_policy({1, Form::kAngle, 1, 2, 0});
  check_policy({1, Form::kCombined, 1, 0, 0.2});
  check_policy({1, Form::kCombined, 1.2, 0.3, 0.1});
  check_rows();
  return summary();
}
