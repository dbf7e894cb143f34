// Depthwise convolutions of forward_program.cpp.
#pragma once

#include "forward_tiles.h"

namespace sphereface::cpu {

template <int V>
SPHEREFACE_INLINE void depthwise_pixel(const Step& s, const StepMemory& m, const float* const* tap,
                                       const int64_t* weight, int64_t taps, int64_t at) {
  using Vector = typename VectorOf<V>::type;
  int64_t c = 0;
  for (; c + V <= s.channels; c += V) {
    Vector sum{};
    if (m.bias != nullptr) sum = load<V>(m.bias + c);
    for (int64_t t = 0; t < taps; ++t)
      sum += load<V>(tap[t] + c) * load<V>(m.weight + weight[t] + c);
    store<V>(m.out + at + c, finished<V>(sum, s, m.slopes, c,
                                         m.residual == nullptr ? nullptr : m.residual + at + c));
  }
  for (; c < s.channels; ++c) {
    float sum = m.bias == nullptr ? 0 : m.bias[c];
    for (int64_t t = 0; t < taps; ++t) sum += tap[t][c] * m.weight[weight[t] + c];
    m.out[at + c] =
        finished_one(sum, s, m.slopes, c, m.residual == nullptr ? nullptr : m.residual + at + c);
  }
}

// 3x3 taps of kCount output pixels of a row, which share what they read: column[y][x] are the
// channels of pixels, of zeros in the padding.
template <int V, int kStride, int kCount>
SPHEREFACE_INLINE void depthwise_tile(const Step& s, const StepMemory& m,
                                      const float* const (*column)[kStride * (kCount - 1) + 3],
                                      int64_t at) {
  using Vector = typename VectorOf<V>::type;
  constexpr int kColumns = kStride * (kCount - 1) + 3;
  const Vector zero{};
  for (int64_t c = 0; c < s.channels; c += V) {
    Vector sum[kCount], start{};
    if (m.bias != nullptr) start = load<V>(m.bias + c);
    for (int i = 0; i < kCount; ++i) sum[i] = start;
    for (int y = 0; y < 3; ++y) {
      Vector x[kColumns];
      for (int j = 0; j < kColumns; ++j) x[j] = load<V>(column[y][j] + c);
      for (int t = 0; t < 3; ++t) {
        const Vector w = load<V>(m.weight + (y * 3 + t) * s.channels + c);
        for (int i = 0; i < kCount; ++i) sum[i] += x[i * kStride + t] * w;
      }
    }
    if (m.residual == nullptr && s.activation == Activation::kSlopes) {
      const Vector slope = load<V>(m.slopes + c);
      for (int i = 0; i < kCount; ++i) {
        store<V>(m.out + at + i * s.channels + c, sum[i] > zero ? sum[i] : sum[i] * slope);
      }
      continue;
    }
    for (int i = 0; i < kCount; ++i) {
      const int64_t to = at + i * s.channels + c;
      store<V>(m.out + to, finished<V>(sum[i], s, m.slopes, c,
                                       m.residual == nullptr ? nullptr : m.residual + to));
    }
  }
}

// `count` output pixels from (y, x) on, at most kCount.
template <int V, int kStride, int kCount>
SPHEREFACE_INLINE void depthwise_run(const Step& s, const StepMemory& m, const float* image,
                                     int64_t y, int64_t x, int64_t at, int64_t count) {
  if constexpr (kCount > 1) {
    if (count < kCount) return depthwise_run<V, kStride, kCount - 1>(s, m, image, y, x, at, count);
  }
  constexpr int kColumns = kStride * (kCount - 1) + 3;
  const float* column[3][kColumns];
  const int64_t left = x * kStride - s.pad_w;
  for (int tap = 0; tap < 3; ++tap) {
    const int64_t row = y * s.stride_h - s.pad_h + tap * s.dilation_h;
    for (int j = 0; j < kColumns; ++j) {
      const bool in = row >= 0 && row < s.height && left + j >= 0 && left + j < s.width;
      column[tap][j] = in ? image + (row * s.width + left + j) * s.channels : zeros;
    }
  }
  depthwise_tile<V, kStride, kCount>(s, m, column, at);
}

// A unit is a row of an output image.
template <int V>
SPHEREFACE_INLINE void depthwise_units(const Step& s, const StepMemory& m, int64_t begin,
                                       int64_t end) {
  constexpr int64_t kTaps = 121;
  constexpr int kRun = 4;  // pixels whose sums and columns fit the registers
  const bool small = s.kernel_h == 3 && s.kernel_w == 3 && s.dilation_w == 1 &&
                     s.channels % V == 0 && s.channels <= kZeros &&
                     (s.stride_w == 1 || s.stride_w == 2);
  for (int64_t unit = begin; unit < end; ++unit) {
    const int64_t y = unit % s.out_height;
    const float* image = m.in + unit / s.out_height * s.height * s.width * s.channels;
    for (int64_t x = 0; x < s.out_width; x += small ? kRun : 1) {
      const int64_t at = (unit * s.out_width + x) * s.channels;
      const int64_t count = std::min<int64_t>(kRun, s.out_width - x);
      if (small && s.stride_w == 1) {
        depthwise_run<V, 1, kRun>(s, m, image, y, x, at, count);
        continue;
      }
      if (small) {
        depthwise_run<V, 2, kRun>(s, m, image, y, x, at, count);
        continue;
      }
      const float* tap[kTaps];
      int64_t weight[kTaps], taps = 0;
      for (int64_t t = 0; t < s.kernel_h * s.kernel_w; ++t) {
        tap[taps] = tapped(s, image, y, x, t / s.kernel_w, t % s.kernel_w);
        weight[taps] = t * s.channels;
        taps += tap[taps] != nullptr;
      }
      depthwise_pixel<V>(s, m, tap, weight, taps, at);
    }
  }
}

}  // namespace sphereface::cpu
