// The backward of PReLU on the CPU in one pass over its blob, for float, double and bfloat16. As
// everything in this folder it allocates nothing and does not throw.
#pragma once

#include <algorithm>
#include <cstdint>

#include "sphereface/parallel.h"
#include "sphereface/scalar.h"

namespace sphereface::cpu {

// A blob in memory as (outer, channels, inner): images in NCHW order have inner = H W, in NHWC
// order (and rows) inner = 1 and outer = N H W.
struct PReluShape {
  int64_t outer, channels, inner;

  // The blob is cut into this many pieces, whatever the number of threads, so that the sums' bits
  // do not depend on it.
  int64_t pieces() const { return std::min<int64_t>(outer, inner == 1 ? 64 : 4096); }
  int64_t partials() const { return pieces() * channels; }
};

// dx = grad where x > 0, slope * grad elsewhere; dslope = the sum of x * grad over all x <= 0.
// `slope` has a number a channel or, if `shared`, one, and so has `dslope`; `partials` is scratch
// for shape.partials() numbers. Sums are made in double.
template <typename T>
void prelu_backward(const T* grad, const T* x, const T* slope, bool shared, PReluShape shape, T* dx,
                    T* dslope, double* partials, ParallelFor parallel_for);

}  // namespace sphereface::cpu
