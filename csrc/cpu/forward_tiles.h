// The loops of forward_program.cpp, over a vector of V floats; compiled there for each instruction
// set.
#pragma once

#include <algorithm>
#include <cstring>

#include "forward_program.h"
#include "vector.h"

namespace sphereface::cpu {

template <int V>
struct VectorOf {
  typedef float type __attribute__((vector_size(V * sizeof(float))));
};

// Pointers of one step.
struct StepMemory {
  const float* in;
  float* out;
  const float* residual;
  const float *weight, *bias, *slopes;
};

template <int V>
SPHEREFACE_INLINE typename VectorOf<V>::type load(const float* from) {
  typename VectorOf<V>::type value;
  std::memcpy(&value, from, sizeof(value));
  return value;
}

template <int V>
SPHEREFACE_INLINE void store(float* to, typename VectorOf<V>::type value) {
  std::memcpy(to, &value, sizeof(value));
}

// Residual and activation of V sums, of the channels from `channel` on; `residual` is theirs.
template <int V>
SPHEREFACE_INLINE typename VectorOf<V>::type finished(typename VectorOf<V>::type sum,
                                                      const Step& step, const float* slopes,
                                                      int64_t channel, const float* residual) {
  using Vector = typename VectorOf<V>::type;
  const Vector zero{};
  if (residual != nullptr && step.residual_first) sum += load<V>(residual);
  if (step.activation == Activation::kReLU) {
    sum = sum < zero ? zero : sum;  // NaN stays
  } else if (step.activation == Activation::kSlopes) {
    sum = sum > zero ? sum : sum * load<V>(slopes + channel);
  }
  if (residual != nullptr && !step.residual_first) sum += load<V>(residual);
  return sum;
}

SPHEREFACE_INLINE float finished_one(float sum, const Step& step, const float* slopes,
                                     int64_t channel, const float* residual) {
  if (residual != nullptr && step.residual_first) sum += *residual;
  if (step.activation == Activation::kReLU) {
    sum = sum < 0 ? 0 : sum;
  } else if (step.activation == Activation::kSlopes) {
    sum = sum > 0 ? sum : sum * slopes[channel];
  }
  if (residual != nullptr && !step.residual_first) sum += *residual;
  return sum;
}

// A lambda that is compiled for the instruction set of its caller.
#define SPHEREFACE_LAMBDA_INLINE __attribute__((always_inline))

constexpr int64_t kZeros = 4096;  // channels of the pixel that padding reads
alignas(64) inline const float zeros[kZeros] = {};

// The pixel that output pixel (y, x) of an image reads at a tap, or nullptr in the padding.
SPHEREFACE_INLINE const float* tapped(const Step& s, const float* image, int64_t y, int64_t x,
                                      int64_t tap_y, int64_t tap_x) {
  const int64_t row = y * s.stride_h - s.pad_h + tap_y * s.dilation_h;
  const int64_t column = x * s.stride_w - s.pad_w + tap_x * s.dilation_w;
  if (row < 0 || row >= s.height || column < 0 || column >= s.width) return nullptr;
  return image + (row * s.width + column) * s.channels;
}

// Whether output pixel i reads just input pixel i.
SPHEREFACE_INLINE bool reads_in_order(const Step& s) {
  return s.kernel_h == 1 && s.kernel_w == 1 && s.stride_h == 1 && s.stride_w == 1 && s.pad_h == 0 &&
         s.pad_w == 0;
}

// kRows output pixels from `pixel` on, times one panel of output channels.
template <int V, int kRows>
SPHEREFACE_INLINE void convolution_tile(const Step& s, const StepMemory& m, int64_t pixel,
                                        int64_t panel) {
  using Vector = typename VectorOf<V>::type;
  constexpr int kVectors = kPanel / V;
  const int64_t taps = s.kernel_h * s.kernel_w, area = s.out_height * s.out_width;
  const float* b = m.weight + panel * taps * s.channels * kPanel;
  Vector sum[kRows][kVectors];
  for (int v = 0; v < kVectors; ++v) {
    Vector start{};
    if (m.bias != nullptr) start = load<V>(m.bias + panel * kPanel + v * V);
    for (int r = 0; r < kRows; ++r) sum[r][v] = start;
  }
  const auto add = [&](const float* const* a, int64_t count) SPHEREFACE_LAMBDA_INLINE {
    for (int64_t c = 0; c < count; ++c, b += kPanel) {
      Vector w[kVectors];
      for (int v = 0; v < kVectors; ++v) w[v] = load<V>(b + v * V);
      for (int r = 0; r < kRows; ++r) {
        for (int v = 0; v < kVectors; ++v) sum[r][v] += a[r][c] * w[v];
      }
    }
  };
  const float* a[kRows];
  if (reads_in_order(s)) {
    for (int r = 0; r < kRows; ++r) a[r] = m.in + (pixel + r) * s.channels;
    add(a, s.channels);
  } else {
    const float* image[kRows];
    int64_t top[kRows], left[kRows];
    int64_t number = pixel / area, y = pixel % area / s.out_width, x = pixel % area % s.out_width;
    bool inside = s.dilation_w == 1;  // then a row of taps is one piece of memory
    for (int r = 0; r < kRows; ++r) {
      image[r] = m.in + number * s.height * s.width * s.channels;
      top[r] = y * s.stride_h - s.pad_h;
      left[r] = x * s.stride_w - s.pad_w;
      inside = inside && left[r] >= 0 && left[r] + s.kernel_w <= s.width;
      if (++x == s.out_width) {
        x = 0;
        if (++y == s.out_height) {
          y = 0;
          ++number;
        }
      }
    }
    // Zeros stand for at most kZeros channels.
    const int64_t step = inside && s.kernel_w * s.channels <= kZeros ? s.kernel_w : 1;
    for (int64_t tap_y = 0; tap_y < s.kernel_h; ++tap_y) {
      for (int64_t tap_x = 0; tap_x < s.kernel_w; tap_x += step) {
        bool any = false;
        for (int r = 0; r < kRows; ++r) {
          const int64_t row = top[r] + tap_y * s.dilation_h;
          const int64_t column = left[r] + tap_x * s.dilation_w;
          const bool in = row >= 0 && row < s.height && column >= 0 && column < s.width;
          a[r] = in ? image[r] + (row * s.width + column) * s.channels : zeros;
          any |= in;
        }
        if (any) {
          add(a, step * s.channels);
        } else {
          b += step * s.channels * kPanel;
        }
      }
    }
  }
  const int64_t first = panel * kPanel;
  const int64_t count = std::min(s.out_channels - first, kPanel);
  for (int r = 0; r < kRows; ++r) {
    const int64_t at = (pixel + r) * s.out_channels + first;
    const float* residual = m.residual == nullptr ? nullptr : m.residual + at;
    if (count == kPanel) {
      for (int v = 0; v < kVectors; ++v) {
        store<V>(m.out + at + v * V, finished<V>(sum[r][v], s, m.slopes, first + v * V,
                                                 residual == nullptr ? nullptr : residual + v * V));
      }
    } else {
      float one[kPanel];
      for (int v = 0; v < kVectors; ++v) store<V>(one + v * V, sum[r][v]);
      for (int64_t c = 0; c < count; ++c) {
        m.out[at + c] = finished_one(one[c], s, m.slopes, first + c,
                                     residual == nullptr ? nullptr : residual + c);
      }
    }
  }
}

// The same for a number of rows that is known only now.
template <int V, int kRows>
SPHEREFACE_INLINE void convolution_rows(const Step& s, const StepMemory& m, int64_t pixel,
                                        int64_t panel, int64_t rows) {
  if (rows == kRows) return convolution_tile<V, kRows>(s, m, pixel, panel);
  if constexpr (kRows > 1) convolution_rows<V, kRows - 1>(s, m, pixel, panel, rows);
}

constexpr int64_t kBlockTiles = 16;  // whose input stays in cache while all panels pass by

inline int64_t tiles_of(const Step& s, int64_t rows) {
  return (s.images * s.out_height * s.out_width + rows - 1) / rows;
}

// A unit is a tile and a panel: blocks of tiles, in each all panels, in each the tiles.
template <int V, int kRows>
SPHEREFACE_INLINE void convolution_units(const Step& s, const StepMemory& m, int64_t begin,
                                         int64_t end) {
  const int64_t pixels = s.images * s.out_height * s.out_width;
  const int64_t tiles = tiles_of(s, kRows), panels = padded_channels(s.out_channels) / kPanel;
  for (int64_t unit = begin; unit < end; ++unit) {
    const int64_t block = unit / (kBlockTiles * panels);
    const int64_t in_block = std::min(kBlockTiles, tiles - block * kBlockTiles);
    const int64_t rest = unit - block * kBlockTiles * panels;
    const int64_t tile = block * kBlockTiles + rest % in_block, panel = rest / in_block;
    // Tiles of nearly equal height: seven rows and six waste less than seven, seven and one.
    const int64_t first = pixels * tile / tiles, last = pixels * (tile + 1) / tiles;
    convolution_rows<V, kRows>(s, m, first, panel, last - first);
  }
}

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

// 3x3 taps, all inside the image, of pixels next to each other: the weights stay in registers.
template <int V>
SPHEREFACE_INLINE void depthwise_run(const Step& s, const StepMemory& m, const float* in,
                                     int64_t at, int64_t count) {
  using Vector = typename VectorOf<V>::type;
  const int64_t step = s.stride_w * s.channels, across = s.dilation_w * s.channels;
  const int64_t down = s.dilation_h * s.width * s.channels;
  for (int64_t c = 0; c + V <= s.channels; c += V) {
    Vector w[9], bias{};
    for (int t = 0; t < 9; ++t) w[t] = load<V>(m.weight + t * s.channels + c);
    if (m.bias != nullptr) bias = load<V>(m.bias + c);
    for (int64_t i = 0; i < count; ++i) {
      const float* x = in + i * step + c;
      Vector sum = bias;
      for (int t = 0; t < 9; ++t) sum += load<V>(x + t / 3 * down + t % 3 * across) * w[t];
      const int64_t to = at + i * s.channels + c;
      store<V>(m.out + to,
               finished<V>(sum, s, m.slopes, c, m.residual == nullptr ? nullptr : m.residual + to));
    }
  }
}

// A unit is a row of an output image.
template <int V>
SPHEREFACE_INLINE void depthwise_units(const Step& s, const StepMemory& m, int64_t begin,
                                       int64_t end) {
  constexpr int64_t kTaps = 121, kRun = 16;
  const bool small = s.kernel_h == 3 && s.kernel_w == 3 && s.channels % V == 0;
  // Output columns whose taps are all inside.
  const int64_t reach = (s.kernel_w - 1) * s.dilation_w - s.pad_w;
  const int64_t left = (s.pad_w + s.stride_w - 1) / s.stride_w;
  const int64_t right = s.width - 1 - reach < 0 ? 0 : (s.width - 1 - reach) / s.stride_w + 1;
  for (int64_t unit = begin; unit < end; ++unit) {
    const int64_t y = unit % s.out_height;
    const float* image = m.in + unit / s.out_height * s.height * s.width * s.channels;
    const int64_t top = y * s.stride_h - s.pad_h;
    const bool whole = small && top >= 0 && top + 2 * s.dilation_h < s.height;
    for (int64_t x = 0; x < s.out_width; ++x) {
      const int64_t at = (unit * s.out_width + x) * s.channels;
      if (whole && x >= left && x < right) {
        // Few at a time, so that the three rows that they read stay in the first cache.
        const int64_t count = std::min(std::min(right, s.out_width) - x, kRun);
        const float* in = tapped(s, image, y, x, 0, 0);
        depthwise_run<V>(s, m, in, at, count);
        x += count - 1;
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

// A unit is a pixel.
template <int V>
SPHEREFACE_INLINE void elementwise_units(const Step& s, const StepMemory& m, int64_t begin,
                                         int64_t end) {
  using Vector = typename VectorOf<V>::type;
  for (int64_t at = begin * s.channels; at < end * s.channels; at += s.channels) {
    const float* residual = m.residual == nullptr ? nullptr : m.residual + at;
    int64_t c = 0;
    for (; c + V <= s.channels; c += V) {
      Vector value = load<V>(m.in + at + c);
      if (m.weight != nullptr) value *= load<V>(m.weight + c);
      if (m.bias != nullptr) value += load<V>(m.bias + c);
      store<V>(m.out + at + c,
               finished<V>(value, s, m.slopes, c, residual == nullptr ? nullptr : residual + c));
    }
    for (; c < s.channels; ++c) {
      float value = m.in[at + c];
      if (m.weight != nullptr) value *= m.weight[c];
      if (m.bias != nullptr) value += m.bias[c];
      m.out[at + c] =
          finished_one(value, s, m.slopes, c, residual == nullptr ? nullptr : residual + c);
    }
  }
}

// A unit is an output pixel. Windows are clipped to the image; averages divide by the part of the
// window that is inside the padding.
template <int V, bool kMax>
SPHEREFACE_INLINE void pool_units(const Step& s, const StepMemory& m, int64_t begin, int64_t end) {
  using Vector = typename VectorOf<V>::type;
  const int64_t area = s.out_height * s.out_width;
  for (int64_t unit = begin; unit < end; ++unit) {
    const float* image = m.in + unit / area * s.height * s.width * s.channels;
    const int64_t y = unit % area / s.out_width, x = unit % s.out_width;
    const int64_t top = y * s.stride_h - s.pad_h, left = x * s.stride_w - s.pad_w;
    const int64_t bottom = std::min(top + s.kernel_h, s.height + s.pad_h);
    const int64_t right = std::min(left + s.kernel_w, s.width + s.pad_w);
    const int64_t y0 = std::max<int64_t>(top, 0), y1 = std::min(bottom, s.height);
    const int64_t x0 = std::max<int64_t>(left, 0), x1 = std::min(right, s.width);
    const float size = static_cast<float>((bottom - top) * (right - left));
    const auto window = [&](auto start, auto combine) SPHEREFACE_LAMBDA_INLINE {
      auto value = start;
      for (int64_t row = y0; row < y1; ++row) {
        const float* pixel = image + (row * s.width + x0) * s.channels;
        for (int64_t i = x0; i < x1; ++i, pixel += s.channels) combine(value, pixel);
      }
      return value;
    };
    float* out = m.out + unit * s.channels;
    int64_t c = 0;
    for (; c + V <= s.channels; c += V) {
      const Vector start = kMax ? load<V>(image + (y0 * s.width + x0) * s.channels + c) : Vector{};
      const Vector value =
          window(start, [&](Vector& best, const float* p) SPHEREFACE_LAMBDA_INLINE {
            const Vector next = load<V>(p + c);
            // As torch: a NaN in the window is its maximum.
            if (kMax) best = (next > best) | (next != next) ? next : best;
            if (!kMax) best += next;
          });
      store<V>(out + c, kMax ? value : value / size);
    }
    for (; c < s.channels; ++c) {
      const float start = kMax ? image[(y0 * s.width + x0) * s.channels + c] : 0;
      const float value = window(start, [&](float& best, const float* p) SPHEREFACE_LAMBDA_INLINE {
        if (kMax) best = p[c] > best || p[c] != p[c] ? p[c] : best;
        if (!kMax) best += p[c];
      });
      out[c] = kMax ? value : value / size;
    }
  }
}

template <int V, int kRows>
SPHEREFACE_INLINE void units(const Step& s, const StepMemory& m, int64_t begin, int64_t end) {
  switch (s.kind) {
    case StepKind::kConvolution:
      return convolution_units<V, kRows>(s, m, begin, end);
    case StepKind::kDepthwise:
      return depthwise_units<V>(s, m, begin, end);
    case StepKind::kElementwise:
      return elementwise_units<V>(s, m, begin, end);
    case StepKind::kMaxPool:
      return pool_units<V, true>(s, m, begin, end);
    case StepKind::kAveragePool:
      return pool_units<V, false>(s, m, begin, end);
  }
}

}  // namespace sphereface::cpu
