// The margin policies: what a member of the family does to c, the cosine of the angle between a row
// and its label's weight. A policy is a small struct that is copied to the device, with
//
//   Bend operator()(double c)   h(c) and its slope, for the label's logit |x| h(c)
//   bool is_plain()             whether h(c) = c, so that nothing is to be done
//
// W is normalised in every member. x is so in the members that have a scale s: there the problem's
// x is s x / |x|, so that |x| h(c) is s h(c) and no kernel needs to know s.
#pragma once

#include <cmath>

#include "sphereface/host_device.h"
#include "sphereface/psi.h"

namespace sphereface {

using Bend = Psi<double>;

// A-Softmax (SphereFace): h = psi, m = 1..4.
struct ASoftmax {
  int m;

  SPHEREFACE_HD ASoftmax(int margin = 4) : m(margin) {}
  SPHEREFACE_HD bool is_plain() const { return m <= 1; }
  SPHEREFACE_HD Bend operator()(double c) const { return psi(m, c); }
};

// cos(m1 theta + m2) - m3: NormFace (1, 0, 0), CosFace (1, 0, m), ArcFace (1, m, 0). Beyond pi
// ArcFace continues as in its authors' code, with c - m2 sin(m2); with m1 != 1 the function
// continues as psi does. `easy` leaves angles above pi/2 without m1 and m2.
struct CombinedMargin {
  double m1 = 1, m2 = 0, m3 = 0;
  bool easy = false;

  SPHEREFACE_HD bool is_plain() const { return m1 == 1 && m2 == 0 && m3 == 0; }
  SPHEREFACE_HD Bend operator()(double c) const {
    if ((m1 == 1 && m2 == 0) || (easy && c <= 0)) return {c - m3, 1};
    const double pi = 3.14159265358979323846;
    const double bounded = c > 1 ? 1 : c < -1 ? -1 : c;  // a NaN stays one
    const double phi = m1 * std::acos(bounded) + m2;
    if (m1 == 1 && phi > pi) return {c - m2 * std::sin(m2) - m3, 1};
    const double k = std::floor(phi / pi), sign = std::fmod(k, 2.0) == 0 ? 1 : -1;
    // The slope has a pole at both ends, where the direction that it is multiplied with vanishes.
    const double sine = std::sqrt(std::fmax(1 - bounded * bounded, 1e-16));
    return {sign * std::cos(phi) - 2 * k - m3, sign * m1 * std::sin(phi) / sine};
  }
};

}  // namespace sphereface
