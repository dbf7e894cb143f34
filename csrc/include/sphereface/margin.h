// The margin policies: what a member of the family does to c, the cosine of the angle between a row
// and its label's weight. A policy is a small struct that is copied to the device, with
//
//   Bend operator()(double c)   h(c) and its slope, for the label's logit |x| h(c)
//   bool is_plain()             whether h(c) = c, so that nothing is to be done
//
// W is normalised in every member. x is so in the members that have a scale s: there the problem's
// x is s x / |x|, so that |x| h(c) is s h(c) and no kernel needs to know s.
#pragma once

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

}  // namespace sphereface
