// SphereFace2's loss of a row, one binary cross entropy a class, over entries e = r c that come in
// pieces of the classes:
//
//   loss = 1/r (alpha softplus(-z_y) + (1 - alpha) sum_{j != y} softplus(z_j))
//   z_j = r (g(c_j) -+ m) + b_j,   d z_j / d e_j = 1
//
// A row with the ignored label has loss and gradient 0; one with a label that is no class has NaN.
#pragma once

#include <cmath>

#include "sphereface/problem.h"

namespace sphereface {

template <typename Math>
SPHEREFACE_HD Math softplus(Math z) {
  return (z > 0 ? z : 0) + std::log1p(std::exp(z > 0 ? -z : z));
}

template <typename Math>
SPHEREFACE_HD Math sigmoid(Math z) {
  const Math e = std::exp(z > 0 ? -z : z);
  return (z > 0 ? 1 : e) / (1 + e);
}

// What turns a row's entries into logits, and logits into their weighted losses and gradients.
template <typename Math>
struct BinaryRow {
  Math r, m, alpha, t;
  int whole;  // t, if it is one of the small integers that need no power function

  SPHEREFACE_HD explicit BinaryRow(const SphereFace2& p)
      : r(static_cast<Math>(p.r)),
        m(static_cast<Math>(p.m)),
        alpha(static_cast<Math>(p.alpha)),
        t(static_cast<Math>(p.t)),
        whole(p.t >= 1 && p.t <= 8 && p.t == std::floor(p.t) ? static_cast<int>(p.t) : 0) {}

  SPHEREFACE_HD Math logit(Math e, Math bias, bool is_label) const {
    const Math half = (e / r + 1) / 2, base = half > 0 ? half : half < 0 ? 0 : half;
    Math power = base;
    if (whole == 0) {
      power = std::pow(base, t);
    } else {
      for (int k = 1; k < whole; ++k) power *= base;
    }
    return r * (2 * power - 1 + (is_label ? -m : m)) + bias;
  }
  SPHEREFACE_HD Math loss(Math z, bool is_label) const {
    return is_label ? alpha * softplus(-z) : (1 - alpha) * softplus(z);
  }
  // d (r loss) / d z
  SPHEREFACE_HD Math slope(Math z, bool is_label) const {
    return is_label ? -alpha * sigmoid(-z) : (1 - alpha) * sigmoid(z);
  }
};

// What the losses of row i are multiplied with.
template <typename T>
SPHEREFACE_HD double binary_factor(const MarginProblem<T, SphereFace2>& p, int64_t i) {
  const int64_t label = p.label[i];
  if (p.ignores(i)) return 0;
  const bool is_class = label >= 0 && label < p.all_classes();
  return is_class ? 1 / p.margin.r : kNaN;
}

// The factor of its gradient; 0 where grad is, so that a row without a loss can be left out.
template <typename T>
SPHEREFACE_HD double binary_gradient_factor(const MarginProblem<T, SphereFace2>& p, int64_t i,
                                            double grad) {
  return grad == 0 ? 0 : grad * binary_factor(p, i);
}

template <typename T>
SPHEREFACE_HD double binary_loss(const MarginProblem<T, SphereFace2>& p, double sum, int64_t i) {
  const double factor = binary_factor(p, i);
  return factor == 0 ? 0 : factor * sum;
}

}  // namespace sphereface
