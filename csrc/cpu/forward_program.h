// A convolutional net's forward as a list of steps over float32 images in NHWC order, each with
// what follows a convolution (bias, residual, activation) done while its sums are in registers.
//
// Source: the indirect convolution of M. Dukhan (The Indirect Convolution Algorithm, 2019): a tile
// of output pixels reads its input through pointers, so there is no im2col and no padded copy. What
// differs: the pointers are made tile by tile, not kept for the whole image.
#pragma once

#include <cstdint>

#include "float_vector.h"
#include "sphereface/parallel.h"

namespace sphereface::cpu {

// kSoftmax is over the channels of a pixel; kInterleave reads NCHW order, and so does kPlanar, a
// convolution. kHeads is several products of a pixel. kByImage is no step but the head of a run
// (forward_images.h): the next `height` steps are taken image by image, the images in `out_height`
// parts, each with `channels` floats of its own, one part's behind another's at `out`.
enum class StepKind : int64_t {
  kConvolution,
  kDepthwise,
  kElementwise,
  kMaxPool,
  kAveragePool,
  kSoftmax,
  kInterleave,
  kByImage,
  kPlanar,
  kHeads
};
enum class Activation : int64_t { kNone, kReLU, kSlopes };

constexpr int64_t kHeads = 4;

// One step; programs are arrays of these, as int64 rows in the order of the members.
// Memory is a buffer's index and an offset in floats; -1 is none. In a run, buffer kOwn is what the
// part has of its own, for one image.
constexpr int64_t kOwn = -2;

struct Step {
  StepKind kind;
  int64_t in_buffer, in;
  int64_t out_buffer, out;
  int64_t residual_buffer, residual;  // of the output's shape; may be the output itself
  int64_t images, height, width, channels;
  int64_t out_height, out_width, out_channels;
  int64_t kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w;
  // Maximum pooling of what a planar convolution gives, whose size is then the output's; or zeros.
  int64_t pool_h, pool_w, pool_stride_h, pool_stride_w, pool_pad_h, pool_pad_w;
  // Channels of each of the heads, out_channels in all. Head i goes to buffer out_buffer + i, from
  // pixel `out` on, in NCHW order; bit i of `softmaxed`: as probabilities over its channels.
  int64_t heads[kHeads], softmaxed;
  // Offsets into the constants. Convolutions and heads: weight (panels, taps, channels, kPanel),
  // its panels filled up with zeros; depthwise: weight (taps, channels); elementwise: a factor a
  // channel. Bias and slopes: one an output channel, filled up to whole panels.
  int64_t weight, bias, slopes;
  Activation activation;
  int64_t residual_first;  // the residual is added before the activation
};

constexpr int64_t kStepFields = sizeof(Step) / sizeof(int64_t);
constexpr int64_t kPanel = 16;  // output channels that are computed together

inline int64_t padded_channels(int64_t channels) {
  return (channels + kPanel - 1) / kPanel * kPanel;
}

// What is wrong with a step, or nullptr: run_step trusts what this has seen. `own` floats are in
// kOwn, -1 outside of a run.
const char* step_problem(const Step& step, const int64_t* buffer_sizes, int64_t buffers,
                         int64_t constants, int64_t own);

// `vectors`: those of this processor or fewer.
void run_step(const Step& step, float* const* buffers, const float* constants,
              ParallelFor parallel_for, Vectors vectors = best_vectors());

}  // namespace sphereface::cpu
