// e^x for loops that are compiled for vectors.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>

#include "vector.h"

namespace sphereface::cpu {

// e^x for x <= 0 to 2 ulp, without a call or anything that a compiler makes a branch of, so that
// loops over it vectorise; 0 below the smallest normal number. The polynomial is that of Cephes'
// expf.
SPHEREFACE_INLINE float exponential(float x) {
  constexpr float kShift = 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  constexpr int32_t kShiftBits = 0x4B400000;
  x = x < -200 ? -200 : x;  // where the sum below is exact
  const float shifted = x * 1.44269504088896341f + kShift;
  const float n = shifted - kShift;
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1;
  int32_t power;
  std::memcpy(&power, &shifted, sizeof(power));
  // Unsigned, for what a NaN or a positive x makes of it may be no power of a float.
  const uint32_t exponent = static_cast<uint32_t>(std::max(power - kShiftBits + 127, 0)) << 23;
  float scale;
  std::memcpy(&scale, &exponent, sizeof(scale));
  return p * scale;
}

SPHEREFACE_INLINE double exponential(double x) { return std::exp(x); }

}  // namespace sphereface::cpu
