#if defined(__GNUC__) && !defined(__clang__)
// Functions with vectors are inlined into those that are compiled for them; none has an ABI.
#pragma GCC diagnostic ignored "-Wpsabi"
#endif

#include "forward_program.h"

#include "forward_channels.h"
#include "forward_depthwise.h"
#include "forward_heads.h"
#include "forward_planar.h"
#include "forward_tiles.h"

namespace sphereface::cpu {

namespace {

template <int V>
SPHEREFACE_INLINE void units(const Step& s, const StepMemory& m, int64_t begin, int64_t end) {
  switch (s.kind) {
    case StepKind::kConvolution:
      return convolution_units<V>(s, m, begin, end);
    case StepKind::kDepthwise:
      return depthwise_units<V>(s, m, begin, end);
    case StepKind::kElementwise:
      return elementwise_units<V>(s, m, begin, end);
    case StepKind::kMaxPool:
      return pool_units<V, true>(s, m, begin, end);
    case StepKind::kAveragePool:
      return pool_units<V, false>(s, m, begin, end);
    case StepKind::kSoftmax:
      return softmax_units(s, m, begin, end);
    case StepKind::kInterleave:
      return interleave_units(s, m, begin, end);
    case StepKind::kByImage:
      return;  // forward_images.cpp
    case StepKind::kPlanar:
      return planar_units<V>(s, m, begin, end);
    case StepKind::kHeads:
      return head_units<V>(s, m, begin, end);
  }
}

struct Units {
  void (*run)(const Step&, const StepMemory&, int64_t, int64_t);
  TileSize tile;
};

void units_anywhere(const Step& s, const StepMemory& m, int64_t begin, int64_t end) {
  units<4>(s, m, begin, end);
}

#ifdef SPHEREFACE_X86
SPHEREFACE_AVX2 void units_avx2(const Step& s, const StepMemory& m, int64_t begin, int64_t end) {
  units<8>(s, m, begin, end);
}

SPHEREFACE_AVX512 void units_avx512(const Step& s, const StepMemory& m, int64_t begin,
                                    int64_t end) {
  units<16>(s, m, begin, end);
}
#endif

Units units_of(Vectors vectors) {
#ifdef SPHEREFACE_X86
  switch (vectors) {
    case Vectors::kAvx512:
      return {units_avx512, kTile<16>};
    case Vectors::kAvx2:
      return {units_avx2, kTile<8>};
    case Vectors::kAnywhere:
      break;
  }
#else
  (void)vectors;
#endif
  return {units_anywhere, kTile<4>};
}

// a * b * ..., or -1 beyond what an offset may be, or of a negative factor.
template <typename... Sizes>
int64_t product(Sizes... sizes) {
  constexpr int64_t kMost = int64_t{1} << 40;
  int64_t total = 1;
  bool bad = false;
  for (const int64_t size : {static_cast<int64_t>(sizes)...}) {
    bad = bad || size < 0 || (size > 0 && total > kMost / size);
    if (!bad) total *= size;
  }
  return bad ? -1 : total;
}

}  // namespace

const char* step_problem(const Step& s, const int64_t* sizes, int64_t buffers, int64_t constants,
                         int64_t own) {
  const auto fits = [&](int64_t buffer, int64_t offset, int64_t image) {
    const int64_t count = buffer == kOwn ? image : product(s.images, image);
    const int64_t size = buffer == kOwn                    ? own
                         : buffer >= 0 && buffer < buffers ? sizes[buffer]
                                                           : -1;
    return count >= 0 && offset >= 0 && offset <= size && count <= size - offset;
  };
  const auto constant = [&](int64_t offset, int64_t count, bool needed) {
    if (offset < 0) return !needed;
    return count >= 0 && offset <= constants && count <= constants - offset;
  };
  for (const int64_t size :
       {s.images, s.height, s.width, s.channels, s.out_height, s.out_width, s.out_channels,
        s.kernel_h, s.kernel_w, s.stride_h, s.stride_w, s.dilation_h, s.dilation_w}) {
    if (size < 1 || size > (int64_t{1} << 24)) return "a size is not in 1 ... 2^24";
  }
  if (s.pad_h < 0 || s.pad_w < 0 || s.pad_h > (1 << 20) || s.pad_w > (1 << 20)) {
    return "a pad is not in 0 ... 2^20";
  }
  const bool pools = s.kind == StepKind::kPlanar && s.pool_h > 0;
  if (!pools && (s.out_height > s.height + 2 * s.pad_h || s.out_width > s.width + 2 * s.pad_w)) {
    return "the output is larger than the padded input";
  }
  const int64_t outs = product(s.out_height, s.out_width, s.out_channels);
  if (!fits(s.in_buffer, s.in, product(s.height, s.width, s.channels))) {
    return "the input does not fit its buffer";
  }
  for (int64_t h = 0; h < kHeads && s.kind == StepKind::kHeads; ++h) {
    const int64_t count = product(s.out_height, s.out_width, s.heads[h]);
    if (s.out_buffer < 0 || s.out_buffer >= buffers ||
        (s.heads[h] != 0 && !fits(s.out_buffer + h, product(s.out, s.heads[h]), count))) {
      return "a head does not fit its buffer";
    }
  }
  if (s.kind != StepKind::kHeads && !fits(s.out_buffer, s.out, outs)) {
    return "the output does not fit its buffer";
  }
  if (s.residual_buffer != -1 && !fits(s.residual_buffer, s.residual, outs)) {
    return "the residual does not fit its buffer";
  }
  if (s.activation != Activation::kNone && s.activation != Activation::kReLU &&
      s.activation != Activation::kSlopes) {
    return "there is no such activation";
  }
  const int64_t taps = product(s.kernel_h, s.kernel_w);
  const int64_t padded = padded_channels(s.out_channels);
  int64_t weights = 0;
  switch (s.kind) {
    case StepKind::kConvolution:
      if (s.channels > kZeros) return "a convolution reads more channels than padding has";
      weights = product(taps, s.channels, padded);
      break;
    case StepKind::kDepthwise:
      if (s.channels != s.out_channels) return "a depthwise step changes the channels";
      if (taps < 0 || taps > 121) return "a depthwise kernel has more than 121 taps";
      weights = product(taps, s.channels);
      break;
    case StepKind::kElementwise:
    case StepKind::kSoftmax:
    case StepKind::kInterleave:
      if (s.height != s.out_height || s.width != s.out_width || s.channels != s.out_channels) {
        return "an elementwise step changes the shape";
      }
      weights = s.channels;
      break;
    case StepKind::kMaxPool:
    case StepKind::kAveragePool:
      if (s.channels != s.out_channels) return "a pooling step changes the channels";
      if (product(taps, s.channels) < 0) return "a pooling window is too large";
      if (!windows_meet(s.out_height, s.kernel_h, s.stride_h, s.pad_h, s.height) ||
          !windows_meet(s.out_width, s.kernel_w, s.stride_w, s.pad_w, s.width)) {
        return "a pooling window lies outside the input";
      }
      break;
    case StepKind::kPlanar: {
      if (const char* problem = planar_problem(s); problem != nullptr) return problem;
      weights = product(taps, s.channels, padded);
      break;
    }
    case StepKind::kHeads: {
      if (const char* problem = heads_problem(s); problem != nullptr) return problem;
      weights = product(s.channels, padded);
      break;
    }
    default:
      return "there is no such kind of step";
  }
  const bool weighted = s.kind == StepKind::kConvolution || s.kind == StepKind::kDepthwise ||
                        s.kind == StepKind::kPlanar || s.kind == StepKind::kHeads;
  if (!constant(s.weight, weights, weighted) || !constant(s.bias, padded, false) ||
      !constant(s.slopes, padded, s.activation == Activation::kSlopes)) {
    return "a constant does not fit";
  }
  return nullptr;
}

void run_step(const Step& s, float* const* buffers, const float* constants,
              ParallelFor parallel_for, Vectors vectors) {
  const Units chosen = units_of(vectors);
  const auto constant = [&](int64_t offset) { return offset < 0 ? nullptr : constants + offset; };
  StepMemory m;
  m.in = buffers[s.in_buffer] + s.in;
  m.out = buffers[s.out_buffer] + s.out;
  for (int64_t h = 0; h < kHeads && s.kind == StepKind::kHeads; ++h) {
    m.heads[h] = s.heads[h] == 0 ? nullptr : buffers[s.out_buffer + h] + s.out * s.heads[h];
  }
  m.residual = s.residual_buffer < 0 ? nullptr : buffers[s.residual_buffer] + s.residual;
  m.weight = constant(s.weight);
  m.bias = constant(s.bias);
  m.slopes = constant(s.slopes);
  const int64_t pixels = s.images * s.out_height * s.out_width;
  int64_t count = pixels, work = s.channels;  // of one unit, in multiplications
  if (s.kind == StepKind::kConvolution) {
    count = Tiles(s, chosen.tile).count() * groups_of(s, chosen.tile);
    work =
        chosen.tile.rows * chosen.tile.panels * kPanel * s.kernel_h * s.kernel_w * s.channels / 8;
  } else if (s.kind == StepKind::kDepthwise) {
    count = s.images * s.out_height;
    work = s.out_width * s.channels * s.kernel_h * s.kernel_w / 4;
  } else if (s.kind == StepKind::kPlanar) {
    count = s.images * s.out_height;
    work = planar_work(s);
  } else if (s.kind == StepKind::kHeads) {
    count = head_blocks(s);
    work = kHeadPixels * kPanel * s.channels / 8;
  } else if (s.kind == StepKind::kInterleave) {
    count = s.images * s.height;
    work = s.width * s.channels;
  } else if (s.kind == StepKind::kSoftmax) {
    work = 16 * s.channels;
  } else if (s.kind != StepKind::kElementwise) {
    work = s.channels * s.kernel_h * s.kernel_w;
  }
  constexpr int64_t kWorthAThread = 1 << 14;
  const int64_t grain = kWorthAThread / (work + 1) + 1;
  for_ranges(parallel_for, count, grain,
             [&](int64_t begin, int64_t end) { chosen.run(s, m, begin, end); });
}

}  // namespace sphereface::cpu
