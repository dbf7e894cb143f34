// The loops of forward_program.cpp, over a vector of V floats; compiled there for each instruction
// set.
#pragma once

#include <algorithm>
#include <cstring>

#include "float_vector.h"
#include "forward_pixels.h"

namespace sphereface::cpu {

// Pointers of one step.
struct StepMemory {
  const float* in;
  float* out;
  const float* residual;
  const float *weight, *bias, *slopes;
  float* heads[kHeads];
  int64_t gathered = 0;  // pixel whose values `in` begins with, when it holds those of a tile
};

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

// The first `count` of at most V floats, in pieces whose sizes the compiler knows.
template <int V>
SPHEREFACE_INLINE void copy_some(float* to, const float* from, int64_t count) {
  if constexpr (V > 1) {
    if (count >= V / 2) {
      std::memcpy(to, from, sizeof(float) * (V / 2));
      to += V / 2, from += V / 2, count -= V / 2;
    }
    copy_some<V / 2>(to, from, count);
  }
}

template <int V>
SPHEREFACE_INLINE typename VectorOf<V>::type load_some(const float* from, int64_t count) {
  if (count >= V) return load<V>(from);
  float some[V] = {};
  copy_some<V>(some, from, count);
  return load<V>(some);
}

template <int V>
SPHEREFACE_INLINE void store_some(float* to, typename VectorOf<V>::type value, int64_t count) {
  if (count >= V) return store<V>(to, value);
  float some[V];
  store<V>(some, value);
  copy_some<V>(to, some, count);
}

// Finishes the sums of the first `count` channels of a tile and stores them, each row's at `at`.
// Each question is asked once, not for every sum.
template <int V, int kRows, int kVectors, typename Vector>
SPHEREFACE_INLINE void finish_tile(const Step& s, const StepMemory& m,
                                   Vector (&sum)[kRows][kVectors], const int64_t (&at)[kRows],
                                   int64_t first, int64_t count) {
  const Vector zero{};
  const auto add_residual = [&]() SPHEREFACE_LAMBDA_INLINE {
    for (int r = 0; r < kRows; ++r) {
      const float* residual = m.residual + at[r];
      for (int v = 0; v < kVectors; ++v) {
        if (v * V < count) sum[r][v] += load_some<V>(residual + v * V, count - v * V);
      }
    }
  };
  if (m.residual != nullptr && s.residual_first) add_residual();
  if (s.activation == Activation::kReLU) {
    for (int r = 0; r < kRows; ++r) {
      for (int v = 0; v < kVectors; ++v) sum[r][v] = sum[r][v] < zero ? zero : sum[r][v];
    }
  } else if (s.activation == Activation::kSlopes) {
    Vector slope[kVectors];
    for (int v = 0; v < kVectors; ++v) slope[v] = load<V>(m.slopes + first + v * V);
    for (int r = 0; r < kRows; ++r) {
      for (int v = 0; v < kVectors; ++v) {
        sum[r][v] = sum[r][v] > zero ? sum[r][v] : sum[r][v] * slope[v];
      }
    }
  }
  if (m.residual != nullptr && !s.residual_first) add_residual();
  for (int r = 0; r < kRows; ++r) {
    float* to = m.out + at[r];
    for (int v = 0; v < kVectors; ++v) {
      if (v * V < count) store_some<V>(to + v * V, sum[r][v], count - v * V);
    }
  }
}

// kRows output pixels, times kPanels panels of output channels.
template <int V, int kRows, int kPanels>
SPHEREFACE_INLINE void convolution_tile(const Step& s, const StepMemory& m, const Tile& tile,
                                        int64_t panel) {
  using Vector = typename VectorOf<V>::type;
  constexpr int kEach = kPanel / V, kVectors = kPanels * kEach;
  const int64_t taps = s.kernel_h * s.kernel_w, first = panel * kPanel;
  const int64_t apart_panels = taps * s.channels * kPanel;
  const float* b = m.weight + panel * apart_panels;
  const auto weights = [&](int v, int64_t c) SPHEREFACE_LAMBDA_INLINE {
    return load<V>(b + c * kPanel + v / kEach * apart_panels + v % kEach * V);
  };
  Vector sum[kRows][kVectors];
  for (int v = 0; v < kVectors; ++v) {
    Vector start{};
    if (m.bias != nullptr) start = load<V>(m.bias + panel * kPanel + v * V);
    for (int r = 0; r < kRows; ++r) sum[r][v] = start;
  }
  const auto add = [&](const float* const* a, int64_t count) SPHEREFACE_LAMBDA_INLINE {
    int64_t c = 0;
    if constexpr (kRows <= 2) {
      // Few sums wait for themselves; several of each do not.
      constexpr int kApart = 4 / kRows;
      Vector apart[kApart][kRows][kVectors] = {};
      for (; c + kApart <= count; c += kApart, b += kApart * kPanel) {
        for (int p = 0; p < kApart; ++p) {
          for (int v = 0; v < kVectors; ++v) {
            const Vector w = weights(v, p);
            for (int r = 0; r < kRows; ++r) apart[p][r][v] += a[r][c + p] * w;
          }
        }
      }
      for (int p = 0; p < kApart; ++p) {
        for (int r = 0; r < kRows; ++r) {
          for (int v = 0; v < kVectors; ++v) sum[r][v] += apart[p][r][v];
        }
      }
    }
    for (; c < count; ++c, b += kPanel) {
      Vector w[kVectors];
      for (int v = 0; v < kVectors; ++v) w[v] = weights(v, 0);
      for (int r = 0; r < kRows; ++r) {
        for (int v = 0; v < kVectors; ++v) sum[r][v] += a[r][c] * w[v];
      }
    }
  };
  const float* a[kRows];
  int64_t at[kRows];
  if (reads_in_order(s)) {
    for (int r = 0; r < kRows; ++r) {
      a[r] = m.in + (tile.first - m.gathered + r) * s.channels;
      at[r] = (tile.first + r) * s.out_channels + first;
    }
    add(a, s.channels);
  } else {
    const float* image[kRows];
    int64_t top[kRows], left[kRows];
    const Window& window = tile.window;
    const int64_t area = window.area(), width = window.width();
    int64_t number = tile.first / area, rest = tile.first % area;
    int64_t y = window.top + rest / width, x = window.left + rest % width;
    bool inside = s.dilation_w == 1;  // then a row of taps is one piece of memory
    for (int r = 0; r < kRows; ++r) {
      image[r] = m.in + number * s.height * s.width * s.channels;
      top[r] = y * s.stride_h - s.pad_h;
      left[r] = x * s.stride_w - s.pad_w;
      inside = inside && left[r] >= 0 && left[r] + s.kernel_w <= s.width;
      at[r] = ((number * s.out_height + y) * s.out_width + x) * s.out_channels + first;
      if (++x == window.right) {
        x = window.left;
        if (++y == window.bottom) {
          y = window.top;
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
  const int64_t count = std::min(s.out_channels - first, kPanels * kPanel);
  if (count == kPanels * kPanel) {
    finish_tile<V, kRows, kVectors>(s, m, sum, at, first, kPanels * kPanel);
  } else {
    finish_tile<V, kRows, kVectors>(s, m, sum, at, first, count);
  }
}

// The same for a number of rows that is known only now.
template <int V, int kRows, int kPanels>
SPHEREFACE_INLINE void convolution_rows(const Step& s, const StepMemory& m, const Tile& tile,
                                        int64_t panel) {
  if (tile.rows == kRows) return convolution_tile<V, kRows, kPanels>(s, m, tile, panel);
  if constexpr (kRows > 1) {
    convolution_rows<V, kRows - 1, kPanels>(s, m, tile, panel);
  }
}

// A tile and a group of panels, of which the last group may have fewer.
template <int V>
SPHEREFACE_INLINE void convolution_group(const Step& s, const StepMemory& m, const Tile& tile,
                                         int64_t group) {
  constexpr TileSize kSize = kTile<V>;
  const int64_t panel = group * kSize.panels;
  if (kSize.panels == 1 || s.out_channels - panel * kPanel <= kPanel) {
    return convolution_rows<V, kSize.rows, 1>(s, m, tile, panel);
  }
  convolution_rows<V, kSize.rows, kSize.panels>(s, m, tile, panel);
}

// What `rows` output pixels from `pixel` on read, a row of `patch` for each.
SPHEREFACE_INLINE void gather(const Step& s, const float* in, int64_t pixel, int64_t rows,
                              float* patch) {
  const int64_t area = s.out_height * s.out_width, piece = s.kernel_w * s.channels;
  int64_t number = pixel / area, y = pixel % area / s.out_width, x = pixel % s.out_width;
  for (int64_t r = 0; r < rows; ++r) {
    const float* image = in + number * s.height * s.width * s.channels;
    const int64_t left = x * s.stride_w - s.pad_w;
    const bool inside = s.dilation_w == 1 && left >= 0 && left + s.kernel_w <= s.width;
    for (int64_t tap_y = 0; tap_y < s.kernel_h; ++tap_y, patch += piece) {
      const int64_t row = y * s.stride_h - s.pad_h + tap_y * s.dilation_h;
      if (inside && row >= 0 && row < s.height) {
        const float* from = image + (row * s.width + left) * s.channels;
        int64_t i = 0;
        for (; i + 8 <= piece; i += 8) std::memcpy(patch + i, from + i, 8 * sizeof(float));
        copy_some<8>(patch + i, from + i, piece - i);
        continue;
      }
      for (int64_t i = 0; i < s.kernel_w; ++i) {
        const float* from = tapped(s, image, y, x, tap_y, i);
        for (int64_t c = 0; c < s.channels; ++c) {
          patch[i * s.channels + c] = from == nullptr ? 0 : from[c];
        }
      }
    }
    if (++x == s.out_width) {
      x = 0;
      if (++y == s.out_height) {
        y = 0;
        ++number;
      }
    }
  }
}

// A unit is a tile and a group of panels, in each tile all groups.
template <int V>
SPHEREFACE_INLINE void gathered_units(const Step& s, const StepMemory& m, int64_t begin,
                                      int64_t end) {
  const Tiles tiles(s, kTile<V>);
  const int64_t groups = groups_of(s, kTile<V>);
  float patch[kTile<V>.rows * kGathered];
  Step dense = s;
  dense.channels = s.kernel_h * s.kernel_w * s.channels;
  dense.kernel_h = dense.kernel_w = dense.stride_h = dense.stride_w = 1;
  dense.pad_h = dense.pad_w = 0;
  StepMemory from = m;
  from.in = patch;
  int64_t index = begin / groups, group = begin % groups;
  for (int64_t unit = begin; unit < end; ++index, group = 0) {
    const Tile tile = tiles[index];
    from.gathered = tile.first;
    gather(s, m.in, tile.first, tile.rows, patch);
    for (; group < groups && unit < end; ++group, ++unit) {
      convolution_group<V>(dense, from, tile, group);
    }
  }
}

constexpr int64_t kBlockTiles = 16;  // whose input stays in cache while all panels pass by

// A unit is a tile and a group of panels: blocks of tiles, in each all groups, in each the tiles.
template <int V>
SPHEREFACE_INLINE void convolution_units(const Step& s, const StepMemory& m, int64_t begin,
                                         int64_t end) {
  if (is_gathered(s)) return gathered_units<V>(s, m, begin, end);
  const Tiles tiles(s, kTile<V>);
  const int64_t groups = groups_of(s, kTile<V>);
  int64_t block = begin / (kBlockTiles * groups), rest = begin - block * kBlockTiles * groups;
  for (int64_t unit = begin; unit < end; ++block, rest = 0) {
    const int64_t in_block = std::min(kBlockTiles, tiles.count() - block * kBlockTiles);
    int64_t group = rest / in_block, in_group = rest % in_block;
    for (; group < groups && unit < end; ++group, in_group = 0) {
      for (; in_group < in_block && unit < end; ++in_group, ++unit) {
        convolution_group<V>(s, m, tiles[block * kBlockTiles + in_group], group);
      }
    }
  }
}

}  // namespace sphereface::cpu
