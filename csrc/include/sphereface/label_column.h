// The label's entry of A-Softmax, y = (|x| psi(theta) + lambda x.w) / (1 + lambda) with |w| = 1,
// and its two gradients: the original layer's and the true one.
#pragma once

#include <cmath>

#include "sphereface/host_device.h"
#include "sphereface/psi.h"

namespace sphereface {

enum class Gradient : int { kCaffe = 0, kExact = 1 };

// Lengths and product of an input row and the (raw) weight row of its label.
template <typename T>
struct LabelGeometry {
  T x_norm;
  T w_norm;
  T dot;

  // Without an angle (a zero row of x or of the weight) the margin is undefined; such a row is
  // treated as a plain product. A NaN norm counts as an angle, so that the NaN shows.
  SPHEREFACE_HD bool has_angle() const { return x_norm != 0 && w_norm != 0; }
  SPHEREFACE_HD T cosine() const { return dot / w_norm / x_norm; }
};

template <typename T>
SPHEREFACE_HD T label_logit(int margin, T lambda, const LabelGeometry<T>& row) {
  if (!row.has_angle()) return 0;
  const T length = row.x_norm * psi(margin, row.cosine()).value;
  return (length + lambda * row.dot / row.w_norm) / (1 + lambda);
}

// d y / d x = weight * w/|w| + input * x, and, for kExact, d y / d (w/|w|) = weight * x.
template <typename T>
struct LabelGradient {
  T weight;
  T input;
};

template <typename T>
SPHEREFACE_HD LabelGradient<T> label_gradient(Gradient gradient, int margin, T lambda,
                                              const LabelGeometry<T>& row) {
  if (!row.has_angle()) return {1, 0};
  const T c = row.cosine();
  const Psi<T> p = psi(margin, c);
  T weight = p.slope;                              // of |x| psi on w/|w|
  T input = (p.value - c * p.slope) / row.x_norm;  // and on x
  if (gradient == Gradient::kCaffe) {
    // The original divides by sqrt(c_w^2 + c_x^2); both are scaled by |x| first so that a tiny |x|
    // does not overflow.
    const T w_part = weight * row.x_norm, x_part = input * row.x_norm;
    const T length = std::sqrt(w_part * w_part + x_part * x_part);
    weight = w_part / length;
    input = x_part / length;
  }
  return {(weight + lambda) / (1 + lambda), input / (1 + lambda)};
}

}  // namespace sphereface
