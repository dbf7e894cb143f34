// torch's threads as the core's ParallelFor.
#pragma once

#include <torch/csrc/stable/ops.h>

#include "sphereface/parallel.h"

namespace sphereface::torch_ops {

inline void torch_parallel_for(int64_t count, int64_t grain, RangeBody body, const void* state) {
  torch::stable::parallel_for(0, count, grain,
                              [&](int64_t begin, int64_t end) { body(state, begin, end); });
}

}  // namespace sphereface::torch_ops
