// Storage types and the type their math is done in: float and double compute as they are,
// 16-bit types load to float and round once when stored.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "sphereface/host_device.h"

namespace sphereface {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

// bfloat16 for code without CUDA or torch headers: the upper half of a float.
struct bfloat16 {
  uint16_t bits;
};

template <typename T>
struct Scalar {
  using Math = T;
  static constexpr T kEpsilon = std::numeric_limits<T>::epsilon();
  static constexpr T kRoundoff = 0;  // what storing adds to the rounding of the math
  SPHEREFACE_HD static T load(T value) { return value; }
  SPHEREFACE_HD static T store(T value) { return value; }
};

template <>
struct Scalar<bfloat16> {
  using Math = float;
  static constexpr float kEpsilon = std::numeric_limits<float>::epsilon();
  static constexpr float kRoundoff = 0.00390625f;  // 2^-8
  static float load(bfloat16 value) {
    const uint32_t bits = static_cast<uint32_t>(value.bits) << 16;
    float result;
    std::memcpy(&result, &bits, sizeof(result));
    return result;
  }
  static bfloat16 store(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof(bits));
    // All bits that make a quiet NaN: rounding may have left none. No choice, so that loops are
    // as fast as they can be.
    const uint32_t nan = -static_cast<uint32_t>(value != value) & 0x7FC00000;
    bits += 0x7FFF + ((bits >> 16) & 1);  // to nearest, even
    return {static_cast<uint16_t>((bits | nan) >> 16)};
  }
};

template <typename T>
using MathOf = typename Scalar<T>::Math;

// How far from 1 the squared norm of a row, summed in double, may be for the row to count as
// normalised: what rounding the scale and the products leaves, so that normalising twice changes
// nothing.
template <typename T>
SPHEREFACE_HD constexpr MathOf<T> unit_tolerance() {
  return 8 * Scalar<T>::kEpsilon + 2 * Scalar<T>::kRoundoff;
}

// The norm of a row from its squared norm; 0 for a row so short that its inverse norm, or in
// float64 its square, is out of range.
template <typename T>
SPHEREFACE_HD inline double row_norm(double squared) {
  constexpr double shortest = sizeof(MathOf<T>) == 4 ? 1e-38 : 1e-154;
  return squared < shortest * shortest ? 0 : std::sqrt(squared);
}

// What a row of this squared norm is multiplied with to have unit norm: 1 for one that has it, up
// to rounding, and for a zero row. NaN for a row that is not finite or, in float64, longer than
// 1e154.
template <typename T>
SPHEREFACE_HD inline MathOf<T> unit_scale(double squared) {
  if (!(squared < kInfinity)) return static_cast<MathOf<T>>(kNaN);
  const double norm = row_norm<T>(squared);
  const bool keep = norm == 0 || std::fabs(squared - 1) <= unit_tolerance<T>();
  return keep ? MathOf<T>(1) : static_cast<MathOf<T>>(1 / norm);
}

}  // namespace sphereface
