// The gradient of a 2-D convolution for its kernels on the CPU, from images in NHWC order, for
// float and bfloat16. As everything in this folder it allocates nothing and does not throw.
//
// A band of rows, small enough for the caches, is copied into panels of a few channels, with its
// padding; then each piece of the result (some outputs times some channels at a tap) is summed over
// the band's pixels in registers. A number of the result is the work of one thread, in an order
// that does not depend on how many there are.
#pragma once

#include <cstdint>

#include "sphereface/parallel.h"
#include "sphereface/scalar.h"

namespace sphereface::cpu {

struct ConvolutionShape {
  int64_t images, height, width, channels;
  int64_t out_height, out_width, outputs;
  int64_t kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w;
};

// Floats of scratch that kernel_gradient takes.
int64_t kernel_gradient_scratch(const ConvolutionShape& shape, int64_t threads);

// result (outputs, kernel_h, kernel_w, channels), from grad (images, out_height, out_width,
// outputs) and x (images, height, width, channels). `threads` is how many parallel_for has.
template <typename T>
void kernel_gradient(const T* grad, const T* x, const ConvolutionShape& shape, int64_t threads,
                     float* result, float* scratch, ParallelFor parallel_for);

}  // namespace sphereface::cpu
