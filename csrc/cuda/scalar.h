// CUDA's 16-bit storage types for sphereface/scalar.h; includable from host code.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <limits>

#include "sphereface/scalar.h"

namespace sphereface {

template <>
struct Scalar<__half> {
  using Math = float;
  static constexpr float kEpsilon = std::numeric_limits<float>::epsilon();
  static constexpr float kRoundoff = 0.00048828125f;  // 2^-11
  SPHEREFACE_HD static float load(__half value) { return __half2float(value); }
  SPHEREFACE_HD static __half store(float value) { return __float2half_rn(value); }
};

template <>
struct Scalar<__nv_bfloat16> {
  using Math = float;
  static constexpr float kEpsilon = std::numeric_limits<float>::epsilon();
  static constexpr float kRoundoff = 0.00390625f;  // 2^-8
  SPHEREFACE_HD static float load(__nv_bfloat16 value) { return __bfloat162float(value); }
  SPHEREFACE_HD static __nv_bfloat16 store(float value) { return __float2bfloat16_rn(value); }
};

}  // namespace sphereface
