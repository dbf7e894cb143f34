// The last layers of forward_program.cpp: products of few channels that read the same pixels, as
// one, and the softmax behind them; what they give becomes planes of channels.
#pragma once

#include <type_traits>

#include "exponential.h"
#include "forward_tiles.h"

namespace sphereface::cpu {

constexpr int64_t kHeadPixels = 48;  // of a unit

inline int64_t head_blocks(const Step& s) {
  return (s.images * s.height * s.width + kHeadPixels - 1) / kHeadPixels;
}

inline const char* heads_problem(const Step& s) {
  if (!reads_in_order(s) || s.height != s.out_height || s.width != s.out_width) {
    return "heads read more than their pixel";
  }
  if (s.residual_buffer != -1) return "a residual is added to heads";
  int64_t channels = 0;
  for (const int64_t count : s.heads) {
    if (count < 0 || count > kPanel) return "a head's channels are not in 0 ... 16";
    channels += count;
  }
  if (channels != s.out_channels || channels > kPanel) {
    return "the channels of heads are not those of the output, or more than 16";
  }
  if (s.softmaxed < 0 || s.softmaxed >= 1 << kHeads) return "a softmax is over no head";
  for (int64_t h = 0; h < kHeads; ++h) {
    if ((s.softmaxed >> h & 1) && s.heads[h] == 0) return "a softmax is over no channels";
  }
  return nullptr;
}

// `channels` planes become probabilities over them.
SPHEREFACE_INLINE void softmax_planes(float (*plane)[kHeadPixels], int64_t channels) {
  float largest[kHeadPixels], sum[kHeadPixels];
  for (int64_t i = 0; i < kHeadPixels; ++i) {
    largest[i] = plane[0][i];
    sum[i] = 0;
  }
  for (int64_t c = 1; c < channels; ++c) {
    for (int64_t i = 0; i < kHeadPixels; ++i) {
      const float value = plane[c][i];
      largest[i] = value > largest[i] || value != value ? value : largest[i];
    }
  }
  for (int64_t c = 0; c < channels; ++c) {
    for (int64_t i = 0; i < kHeadPixels; ++i) {
      sum[i] += plane[c][i] = exponential(plane[c][i] - largest[i]);
    }
  }
  for (int64_t c = 0; c < channels; ++c) {
    for (int64_t i = 0; i < kHeadPixels; ++i) plane[c][i] /= sum[i];
  }
}

// A unit is kHeadPixels pixels, of which the last has fewer.
template <int V>
SPHEREFACE_INLINE void head_units(const Step& s, const StepMemory& m, int64_t begin, int64_t end) {
  constexpr int kRows = kTile<V>.rows;
  const int64_t pixels = s.images * s.height * s.width, area = s.height * s.width;
  alignas(64) float pixel[kHeadPixels][kPanel], plane[kPanel][kHeadPixels] = {};
  Step whole = s;  // a panel with what fills it up
  whole.out_channels = kPanel;
  StepMemory from = m;
  for (int64_t unit = begin; unit < end; ++unit) {
    const int64_t first = unit * kHeadPixels, count = std::min(kHeadPixels, pixels - first);
    const auto products = [&](auto rows, int64_t i) SPHEREFACE_LAMBDA_INLINE {
      from.in = m.in + (first + i) * s.channels;
      from.out = pixel[i];
      convolution_tile<V, decltype(rows)::value, 1>(whole, from, Tile{{}, 0, decltype(rows)::value},
                                                    0);
    };
    int64_t i = 0;
    for (; i + kRows <= count; i += kRows) products(std::integral_constant<int, kRows>{}, i);
    for (; i < count; ++i) products(std::integral_constant<int, 1>{}, i);
    for (int64_t c = 0; c < s.out_channels; ++c) {
      for (int64_t j = 0; j < count; ++j) plane[c][j] = pixel[j][c];
    }
    int64_t channel = 0;
    for (int64_t h = 0; h < kHeads; channel += s.heads[h++]) {
      if (s.softmaxed >> h & 1) softmax_planes(plane + channel, s.heads[h]);
      for (int64_t j = 0; j < count;) {
        const int64_t image = (first + j) / area, at = (first + j) % area;
        const int64_t run = std::min(count - j, area - at);
        for (int64_t c = 0; c < s.heads[h]; ++c) {
          float* to = m.heads[h] + (image * s.heads[h] + c) * area + at;
          for (int64_t r = 0; r < run; ++r) to[r] = plane[channel + c][j + r];
        }
        j += run;
      }
    }
  }
}

}  // namespace sphereface::cpu
