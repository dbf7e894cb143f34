// The margin policies: what a member of the family does to c, the cosine of the angle between a row
// and its label's weight. A policy is a small struct that is copied to the device, with
//
//   Bend operator()(double c)  h(c) and its slope, for the label's logit |x| h(c)
//   bool is_plain()            whether h(c) = c, so that nothing is to be done
//   kFreeWeight                whether W keeps its length: the label's logit is |x| |w| h(c)
//   kReady                     whether c is x.w / s as it is, and the label's logit s h(c)
//   bool normalizes_direction()  whether Gradient::kCaffe divides the label's direction in dx by
//                              the length of its coefficients, as the original A-Softmax does
//
// SphereFace2 is not a margin of the label alone: its logits and their loss are binary_rows.h's.
//
// W is normalised unless kFreeWeight. x is normalised where the member has a scale s: there the
// problem's x is s x / |x|, so that |x| h(c) is s h(c) and no kernel needs to know s.
#pragma once

#include <cmath>
#include <cstdint>

#include "sphereface/host_device.h"
#include "sphereface/psi.h"

namespace sphereface {

using Bend = Psi<double>;

// A-Softmax (SphereFace): h = psi, for any m >= 1. `detached` makes it SphereFace-R: h(c) - c is a
// constant for the gradient, so the slope is that of c (characteristic gradient detachment).
struct ASoftmax {
  static constexpr bool kFreeWeight = false;
  static constexpr bool kReady = false;

  double m;
  bool detached;

  SPHEREFACE_HD ASoftmax(double margin = 4, bool detach = false) : m(margin), detached(detach) {}
  SPHEREFACE_HD bool is_plain() const { return m <= 1; }
  SPHEREFACE_HD bool normalizes_direction() const { return !detached; }
  SPHEREFACE_HD Bend operator()(double c) const {
    const int whole = m <= kMaxMargin ? static_cast<int>(m) : 0;
    const Bend h = whole == m ? psi(whole, c) : psi_at(m, 0, c);
    return {h.value, detached ? 1 : h.slope};
  }
};

// L-Softmax: h = psi, and the rows of W are taken as they are (the problem's unit_rows is set).
struct LSoftmax : ASoftmax {
  static constexpr bool kFreeWeight = true;

  SPHEREFACE_HD LSoftmax(double margin = 4) : ASoftmax(margin) {}
};

// cos(m1 theta + m2) - m3: NormFace (1, 0, 0), CosFace (1, 0, m), ArcFace (1, m, 0). Beyond pi
// ArcFace continues as in its authors' code, with c - m2 sin(m2); with m1 != 1 the function
// continues as psi does. `easy` leaves angles above pi/2 without m1 and m2.
struct CombinedMargin {
  static constexpr bool kFreeWeight = false;
  static constexpr bool kReady = false;

  double m1 = 1, m2 = 0, m3 = 0;
  bool easy = false;

  SPHEREFACE_HD bool is_plain() const { return m1 == 1 && m2 == 0 && m3 == 0; }
  SPHEREFACE_HD bool normalizes_direction() const { return false; }
  SPHEREFACE_HD Bend operator()(double c) const {
    if ((m1 == 1 && m2 == 0) || (easy && c <= 0)) return {c - m3, 1};
    // cos(pi - m2), from where on theta + m2 is above pi
    if (m1 == 1 && c < -std::cos(m2)) return {c - m2 * std::sin(m2) - m3, 1};
    const Bend h = psi_at(m1, m2, c);
    return {h.value - m3, h.slope};
  }
};

// A margin on cosines that are ready: c is x.w / s, whatever the lengths of x and w, so that its
// gradients are slope w and slope x. What Caffe's forks do behind layers that normalised.
struct CosineMargin {
  static constexpr bool kFreeWeight = true;
  static constexpr bool kReady = true;

  enum class Form : int {
    kAdd = 0,       // c - m3 (LabelSpecificAdd)
    kAngle = 1,     // cos(theta + m2), and c - m2 sin(m2) from pi - m2 on (CosinAddm)
    kCombined = 2,  // cos(m1 theta + m2) - m3, which rises again beyond pi (CombinedMargin)
  };

  double s = 1;
  Form form = Form::kAdd;
  double m1 = 1, m2 = 0, m3 = 0;

  SPHEREFACE_HD bool is_plain() const { return form == Form::kAdd && m3 == 0; }
  SPHEREFACE_HD bool normalizes_direction() const { return false; }
  SPHEREFACE_HD Bend operator()(double c) const {
    if (form == Form::kAdd) return {c - m3, 1};
    const double square = 1 - c * c, sine = square > 0 ? std::sqrt(square) : 0;
    if (form == Form::kAngle) {
      if (c >= 1) return {std::cos(m2), 1};
      if (c <= -std::cos(m2)) return {c - m2 * std::sin(m2), 1};
      return {c * std::cos(m2) - sine * std::sin(m2), std::cos(m2) + c / sine * std::sin(m2)};
    }
    const double phi = m1 * std::acos(c > 1 ? 1 : c < -1 ? -1 : c) + m2;  // a NaN stays one
    return {std::cos(phi) - m3, sine == 0 ? 0 : m1 * std::sin(phi) / sine};
  }
};

// SphereFace2 of type C: the logit of class j is r (g(c_j) - m) + b for the label and
// r (g(c_j) + m) + b for the others, g(c) = 2 ((c + 1) / 2)^t - 1, each with a binary cross entropy
// of its own. g - c is a constant for the gradient. x has the length r.
struct SphereFace2 {
  static constexpr bool kFreeWeight = false;
  static constexpr bool kReady = false;

  double m = 0.4, t = 3, alpha = 0.7, r = 30;

  SPHEREFACE_HD bool is_plain() const { return true; }
  SPHEREFACE_HD bool normalizes_direction() const { return false; }
  SPHEREFACE_HD Bend operator()(double c) const { return {c, 1}; }
};

// Calls f with the policy that a binding means by a family and its numbers, which are those of
// sphereface.margin_policy; false if there is none.
template <typename F>
bool with_margin(int64_t family, const double* v, int64_t count, const F& f) {
  constexpr int64_t kCounts[] = {1, 1, 3, 3, 1, 4, 5};
  if (family < 0 || family > 6 || count != kCounts[family]) return false;
  if (family <= 1) {
    f(ASoftmax(v[0], family == 1));
  } else if (family <= 3) {
    f(CombinedMargin{v[0], v[1], v[2], family == 3});
  } else if (family == 4) {
    f(LSoftmax(v[0]));
  } else if (family == 5) {
    f(SphereFace2{v[0], v[1], v[2], v[3]});
  } else {
    using Form = CosineMargin::Form;
    const Form form = v[1] == 1 ? Form::kAngle : v[1] == 2 ? Form::kCombined : Form::kAdd;
    f(CosineMargin{v[0], form, v[2], v[3], v[4]});
  }
  return true;
}

template <typename Margin>
constexpr bool kIsBinary = false;
template <>
inline constexpr bool kIsBinary<SphereFace2> = true;

}  // namespace sphereface
