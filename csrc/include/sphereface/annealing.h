// lambda(iteration) = max(lambda_min, base (1 + gamma iteration)^-power), in float32 as in Caffe.
#pragma once

#include <cmath>
#include <cstdint>

#include "sphereface/host_device.h"

namespace sphereface {

struct Annealing {
  float base = 1;
  float gamma = 0;
  float power = 1;
  float lambda_min = 0;
};

SPHEREFACE_HD inline float annealed_lambda(const Annealing& a, int64_t iteration) {
  const float lambda = a.base * powf(1.0f + a.gamma * static_cast<float>(iteration), -a.power);
  return lambda > a.lambda_min ? lambda : a.lambda_min;
}

}  // namespace sphereface
