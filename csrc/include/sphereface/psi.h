// psi(theta) = (-1)^k cos(m theta) - 2k on [k pi/m, (k+1) pi/m] (SphereFace, eq. 7) as a function
// of c = cos(theta).
//
// For m = 1..4, (-1)^k cos(m theta) is a Chebyshev polynomial of c up to its sign, so no arc cosine
// is taken. At the knots theta = k pi/m both neighbouring pieces have the same value and the same
// slope: psi is continuously differentiable there, and which piece a knot falls to does not matter.
#pragma once

#include <cmath>

#include "sphereface/host_device.h"

namespace sphereface {

constexpr int kMaxMargin = 4;

template <typename T>
struct Psi {
  T value;  // psi
  T slope;  // d psi / d c
};

template <typename T>
SPHEREFACE_HD Psi<T> psi(int margin, T c) {
  const T c2 = c * c;
  T value = c, slope = 1;  // T_m(c) and its derivative
  int k = 0;
  switch (margin) {
    case 2:
      value = 2 * c2 - 1;
      slope = 4 * c;
      k = c < 0;
      break;
    case 3:
      value = (4 * c2 - 3) * c;
      slope = 12 * c2 - 3;
      k = (c < T(0.5)) + (c < T(-0.5));
      break;
    case 4: {
      const T cos_2theta = 2 * c2 - 1;
      value = 2 * cos_2theta * cos_2theta - 1;
      slope = 16 * c * cos_2theta;
      k = c > 0 ? (cos_2theta < 0) : 2 + (cos_2theta > 0);
      break;
    }
    default:
      break;
  }
  const T sign = k % 2 == 0 ? T(1) : T(-1);
  return {sign * value - 2 * k, sign * slope};
}

// The same at phi = m theta + offset, k = floor(phi / pi), for any real m: SphereFace-R's psi
// (offset 0), and how other margins go on beyond pi.
SPHEREFACE_HD inline Psi<double> psi_at(double m, double offset, double c) {
  const double pi = 3.14159265358979323846;
  const double bounded = c > 1 ? 1 : c < -1 ? -1 : c;  // a NaN stays one
  const double phi = m * std::acos(bounded) + offset;
  const double k = std::floor(phi / pi), sign = std::fmod(k, 2.0) == 0 ? 1 : -1;
  if (bounded == 1 && offset == 0) return {1, m * m};
  // Elsewhere the slope has a pole at both ends, where the direction that it is multiplied with
  // vanishes.
  const double sine = std::sqrt(std::fmax(1 - bounded * bounded, 1e-16));
  return {sign * std::cos(phi) - 2 * k, sign * m * std::sin(phi) / sine};
}

}  // namespace sphereface
