// The label's entry, y = (|x| h(c) + lambda x.u) / (1 + lambda) with u = w/|w| and h the margin's
// policy (all of it times |w| where the policy leaves the weight free), and its two gradients: the
// original layer's and the true one. All of it is in double, whatever the tensors hold: it is done
// for M numbers only, and no norm over- or underflows on the way.
#pragma once

#include <cmath>

#include "sphereface/host_device.h"
#include "sphereface/margin.h"

namespace sphereface {

enum class Gradient : int { kCaffe = 0, kExact = 1 };

// Lengths and product of an input row and the (raw) weight row of its label.
struct LabelGeometry {
  double x_norm;
  double w_norm;
  double dot;

  // Without an angle (a zero row of x or of the weight) the margin is undefined; such a row is
  // treated as a plain product. A NaN norm counts as an angle, so that the NaN shows.
  SPHEREFACE_HD bool has_angle() const { return x_norm != 0 && w_norm != 0; }
  SPHEREFACE_HD double cosine() const { return dot / w_norm / x_norm; }
};

// The geometry as the policy takes it: ready cosines know no lengths but s.
template <typename Margin>
SPHEREFACE_HD LabelGeometry seen_by(const Margin& margin, const LabelGeometry& row) {
  if constexpr (Margin::kReady) return {margin.s, 1, row.dot};
  return row;
}

// The entry without a margin.
template <typename Margin>
SPHEREFACE_HD double plain_logit(const Margin&, const LabelGeometry& row) {
  if (!row.has_angle()) return 0;
  return Margin::kFreeWeight ? row.dot : row.dot / row.w_norm;
}

template <typename Margin>
SPHEREFACE_HD double label_logit(const Margin& margin, double lambda, const LabelGeometry& row) {
  if (!row.has_angle()) return 0;
  const double length = Margin::kFreeWeight ? row.x_norm * row.w_norm : row.x_norm;
  return (length * margin(row.cosine()).value + lambda * plain_logit(margin, row)) / (1 + lambda);
}

// Of y with a unit weight: d y / d x = weight * w/|w| + input * x, and, for kExact,
// d y / d (w/|w|) = weight * x.
struct LabelGradient {
  double weight;
  double input;
};

template <typename Margin>
SPHEREFACE_HD LabelGradient label_gradient(Gradient gradient, const Margin& margin, double lambda,
                                           const LabelGeometry& row) {
  if (!row.has_angle()) return {1, 0};
  const double c = row.cosine();
  const Bend h = margin(c);
  double weight = h.slope;  // of |x| h on w/|w|
  // and on x, of which a ready cosine is a linear function
  double input = Margin::kReady ? 0 : (h.value - c * h.slope) / row.x_norm;
  if (gradient == Gradient::kCaffe && margin.normalizes_direction()) {
    // The original divides by sqrt(c_w^2 + c_x^2); both are scaled by |x| first so that a tiny |x|
    // does not overflow.
    const double w_part = weight * row.x_norm, x_part = input * row.x_norm;
    const double length = std::sqrt(w_part * w_part + x_part * x_part);
    weight = w_part / length;
    input = x_part / length;
  }
  return {(weight + lambda) / (1 + lambda), input / (1 + lambda)};
}

}  // namespace sphereface
