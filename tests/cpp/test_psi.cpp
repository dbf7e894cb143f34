// psi against its definition by angles in long double, its slope against the exact derivative and
// against differences, and both on the knots.
#include "sphereface/psi.h"

#include <initializer_list>
#include <limits>

#include "check.h"

using sphereface::kMaxMargin;
using sphereface::Psi;
using sphereface::psi;
using sphereface::psi_at;

namespace {

using Real = long double;

const Real kPi = std::acos(Real(-1));

int piece(int margin, Real theta) {
  const int k = static_cast<int>(std::floor(margin * theta / kPi));
  return k < margin ? k : margin - 1;
}

Real reference(int margin, Real c) {
  const Real theta = std::acos(c);
  const int k = piece(margin, theta);
  return (k % 2 == 0 ? 1 : -1) * std::cos(margin * theta) - 2 * k;
}

// d psi / d c = -(d psi / d theta) / sin(theta)
Real reference_slope(int margin, Real c) {
  const Real theta = std::acos(c);
  const int k = piece(margin, theta);
  return (k % 2 == 0 ? 1 : -1) * margin * std::sin(margin * theta) / std::sin(theta);
}

template <typename T>
void check_values(int margin) {
  const double rounding = 32 * static_cast<double>(std::numeric_limits<T>::epsilon());
  for (int i = -50000; i <= 50000; ++i) {
    const T c = static_cast<T>(i / 50000.0L);
    const Psi<T> p = psi(margin, c);
    CHECK_NEAR(p.value, reference(margin, c), rounding);
    CHECK(p.slope >= 0);  // psi falls with the angle everywhere
    // The reference loses digits where it divides by a small sine.
    if (std::fabs(c) < T(0.9999)) CHECK_NEAR(p.slope, reference_slope(margin, c), 4 * rounding);
  }
}

void check_slope_by_differences(int margin) {
  const Real h = 1e-7L;
  for (int i = -4999; i <= 4999; ++i) {
    const Real c = i / 5000.0L;
    const Real difference = (reference(margin, c + h) - reference(margin, c - h)) / (2 * h);
    // Where the second derivative jumps, at a knot, the difference is off by about h times the
    // jump.
    CHECK_NEAR(psi(margin, c).slope, difference, 2e-5);
  }
}

template <typename T>
void check_ends(int margin) {
  CHECK_EQUAL(psi(margin, T(1)).value, T(1));
  CHECK_EQUAL(psi(margin, T(-1)).value, T(1 - 2 * margin));
  CHECK_EQUAL(psi(margin, T(1)).slope, T(margin * margin));
  CHECK_EQUAL(psi(margin, T(-1)).slope, T(margin * margin));
  CHECK(std::isnan(psi(margin, std::numeric_limits<T>::quiet_NaN()).value));
}

// Value 1 - 2k and slope 0 on the knot and on its nearest neighbours, whichever piece they take.
template <typename T>
void check_knots(int margin) {
  const T rounding = 64 * std::numeric_limits<T>::epsilon();
  for (int k = 1; k < margin; ++k) {
    const T knot = static_cast<T>(std::cos(k * kPi / margin));
    for (const T c : {knot, std::nextafter(knot, T(-2)), std::nextafter(knot, T(2))}) {
      CHECK_NEAR(psi(margin, c).value, T(1 - 2 * k), rounding);
      CHECK_NEAR(psi(margin, c).slope, T(0), rounding);
    }
  }
}

// psi_at for the m that has polynomials, and by its definition for others.
void check_real_margins() {
  for (int degrees = 1; degrees < 180; ++degrees) {
    const double theta = degrees * kPi / 180, c = std::cos(theta);
    for (int margin = 1; margin <= kMaxMargin; ++margin) {
      CHECK_NEAR(psi_at(margin, 0, c).value, psi(margin, c).value, 1e-12);
      CHECK_NEAR(psi_at(margin, 0, c).slope, psi(margin, c).slope, 1e-9);
    }
    for (const double margin : {1.5, 2.7, 6.0}) {
      const int k = static_cast<int>(margin * theta / kPi);
      const double sign = k % 2 == 0 ? 1 : -1;
      CHECK_NEAR(psi_at(margin, 0, c).value, sign * std::cos(margin * theta) - 2 * k, 1e-12);
      CHECK_NEAR(psi_at(margin, 0, c).slope,
                 sign * margin * std::sin(margin * theta) / std::sin(theta), 1e-9);
    }
  }
  CHECK_EQUAL(psi_at(1.5, 0, 1.0).slope, 2.25);
  CHECK_EQUAL(psi_at(1.5, 0, 1.0 + 1e-15).value, 1.0);
  CHECK(std::isnan(psi_at(1.5, 0, std::numeric_limits<double>::quiet_NaN()).value));
}

}  // namespace

int main() {
  check_real_margins();
  for (int margin = 1; margin <= kMaxMargin; ++margin) {
    check_values<float>(margin);
    check_values<double>(margin);
    check_slope_by_differences(margin);
    check_ends<float>(margin);
    check_ends<double>(margin);
    check_knots<float>(margin);
    check_knots<double>(margin);
  }
  return summary();
}
