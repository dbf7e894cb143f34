// Convolutions of forward_program.cpp that read images as planes of channels, as nets are given
// them, and the maximum pooling behind them.
//
// The pixels of a tile stand side by side in a plane, so one address and constants are what it
// reads. Rows of the planes are copied with their padding; rows of sums that will be pooled stay in
// cache until they are.
#pragma once

#include <memory>

#include "forward_channels.h"

namespace sphereface::cpu {

constexpr int64_t kPlanes = 4;        // that are read together
constexpr int64_t kPlanarStride = 2;  // across, at most
constexpr int64_t kPlanarTaps = 121;

// Rows and columns of the convolution, which are pooled then.
inline int64_t planar_height(const Step& s) {
  return (s.height + 2 * s.pad_h - s.dilation_h * (s.kernel_h - 1) - 1) / s.stride_h + 1;
}

inline int64_t planar_width(const Step& s) {
  return (s.width + 2 * s.pad_w - s.dilation_w * (s.kernel_w - 1) - 1) / s.stride_w + 1;
}

// Multiplications of a row of the output, in eighths.
inline int64_t planar_work(const Step& s) {
  const int64_t rows = s.pool_h > 0 ? s.pool_stride_h : 1;
  return rows * planar_width(s) * s.kernel_h * s.kernel_w * s.channels *
         padded_channels(s.out_channels) / 8;
}

// What is wrong with a planar step, beside what is with every step.
inline const char* planar_problem(const Step& s) {
  if (s.channels > kPlanes) return "a planar convolution reads more than 4 channels";
  if (s.stride_w > kPlanarStride) return "a planar convolution's stride is not 1 or 2";
  if (s.kernel_h > kPlanarTaps || s.kernel_w > kPlanarTaps) return "a planar kernel is too large";
  if (s.residual_buffer != -1) return "a residual is added to a planar convolution";
  if (s.dilation_h * (s.kernel_h - 1) >= s.height + 2 * s.pad_h ||
      s.dilation_w * (s.kernel_w - 1) >= s.width + 2 * s.pad_w) {
    return "a planar kernel is larger than the padded input";
  }
  const int64_t height = planar_height(s), width = planar_width(s);
  if (s.pool_h == 0) {
    const bool all = s.out_height == height && s.out_width == width;
    return all ? nullptr : "a planar convolution's output has another size";
  }
  for (const int64_t size : {s.pool_h, s.pool_w, s.pool_stride_h, s.pool_stride_w}) {
    if (size < 1 || size > kPlanarTaps) return "a size of a window is not in 1 ... 121";
  }
  if (s.pool_pad_h < 0 || s.pool_pad_w < 0 ||
      !windows_meet(s.out_height, s.pool_h, s.pool_stride_h, s.pool_pad_h, height) ||
      !windows_meet(s.out_width, s.pool_w, s.pool_stride_w, s.pool_pad_w, width)) {
    return "a pooling window lies outside the input";
  }
  return nullptr;
}

// The last of some rows, in a circle.
struct RowRing {
  float* memory;
  int64_t rows, size;  // size: floats of a row
  int64_t next = 0;    // row that is made next

  float* row(int64_t y) const { return memory + y % rows * size; }
};

// kRows pixels of a row from x on, times kPanels panels; tap[y * channels + c] begins the row that
// a row of taps reads of a plane.
template <int V, int kStride, int kRows, int kPanels>
SPHEREFACE_INLINE void planar_tile(const Step& s, const StepMemory& m, const float* const* tap,
                                   int64_t x, int64_t panel) {
  using Vector = typename VectorOf<V>::type;
  constexpr int kEach = kPanel / V, kVectors = kPanels * kEach;
  const int64_t apart_panels = s.kernel_h * s.kernel_w * s.channels * kPanel;
  const float* weight = m.weight + panel * apart_panels;
  Vector sum[kRows][kVectors];
  for (int v = 0; v < kVectors; ++v) {
    Vector start{};
    if (m.bias != nullptr) start = load<V>(m.bias + panel * kPanel + v * V);
    for (int r = 0; r < kRows; ++r) sum[r][v] = start;
  }
  for (int64_t tap_y = 0; tap_y < s.kernel_h; ++tap_y) {
    for (int64_t c = 0; c < s.channels; ++c, ++tap) {
      const float* a = *tap + x * kStride;
      const float* b = weight + c * kPanel;
      for (int64_t i = 0; i < s.kernel_w; ++i, a += s.dilation_w, b += s.channels * kPanel) {
        Vector w[kVectors];
        for (int v = 0; v < kVectors; ++v) {
          w[v] = load<V>(b + v / kEach * apart_panels + v % kEach * V);
        }
        for (int r = 0; r < kRows; ++r) {
          for (int v = 0; v < kVectors; ++v) sum[r][v] += a[r * kStride] * w[v];
        }
      }
    }
    weight += s.kernel_w * s.channels * kPanel;
  }
  const int64_t first = panel * kPanel;
  int64_t at[kRows];
  for (int r = 0; r < kRows; ++r) at[r] = (x + r) * s.out_channels + first;
  const int64_t count = std::min(s.out_channels - first, kPanels * kPanel);
  if (count == kPanels * kPanel) {
    finish_tile<V, kRows, kVectors>(s, m, sum, at, first, kPanels * kPanel);
  } else {
    finish_tile<V, kRows, kVectors>(s, m, sum, at, first, count);
  }
}

// A row of `width` pixels, in tiles of which the last overlaps the one before.
template <int V, int kStride, int kRows, int kPanels>
SPHEREFACE_INLINE void planar_row(const Step& s, const StepMemory& m, const float* const* tap,
                                  int64_t width, int64_t panel) {
  if constexpr (kRows > 1) {
    if (width < kRows) {
      return planar_row<V, kStride, kRows <= 6 ? 1 : kRows / 4, kPanels>(s, m, tap, width, panel);
    }
  }
  for (int64_t x = 0; x < width; x += kRows) {
    planar_tile<V, kStride, kRows, kPanels>(s, m, tap, std::min(x, width - kRows), panel);
  }
}

template <int V, int kStride>
SPHEREFACE_INLINE void planar_panels(const Step& s, const StepMemory& m, const float* const* tap,
                                     int64_t width) {
  // Sums that leave room in the registers; GCC unrolls no loop of more than 16.
  constexpr int kRows = V == 16 ? 16 : V == 8 ? 6 : 2;
  const int64_t panels = padded_channels(s.out_channels) / kPanel;
  int64_t panel = 0;
  if constexpr (V == 16) {
    for (; panel + 2 <= panels; panel += 2) {
      planar_row<V, kStride, 12, 2>(s, m, tap, width, panel);
    }
  }
  for (; panel < panels; ++panel) planar_row<V, kStride, kRows, 1>(s, m, tap, width, panel);
}

// Row y of all planes of an image, between its padding.
SPHEREFACE_INLINE void copy_row(const Step& s, const float* image, int64_t y, float* to) {
  const int64_t width = s.width + 2 * s.pad_w;
  for (int64_t c = 0; c < s.channels; ++c, to += width) {
    if (y < 0 || y >= s.height) {
      std::fill_n(to, width, 0.f);
      continue;
    }
    std::fill_n(to, s.pad_w, 0.f);
    std::copy_n(image + (c * s.height + y) * s.width, s.width, to + s.pad_w);
    std::fill_n(to + s.pad_w + s.width, s.pad_w, 0.f);
  }
}

// Maxima of a row of windows over rows [top, bottom) of sums, whose pixels have whole panels.
template <int V>
SPHEREFACE_INLINE void pool_row(const Step& s, const RowRing& sums, int64_t top, int64_t bottom,
                                int64_t width, float* out) {
  const int64_t pitch = padded_channels(s.out_channels), all = s.out_width * s.out_channels;
  for (int64_t x = 0; x < s.out_width; ++x) {
    const int64_t left = x * s.pool_stride_w - s.pool_pad_w;
    const int64_t x0 = std::max<int64_t>(left, 0), x1 = std::min(left + s.pool_w, width);
    for (int64_t c = 0; c < s.out_channels; c += V) {
      Maximum<V> largest(load<V>(sums.row(top) + x0 * pitch + c));
      for (int64_t y = top; y < bottom; ++y) {
        const float* pixel = sums.row(y) + x0 * pitch + c;
        for (int64_t i = x0; i < x1; ++i, pixel += pitch) largest.take(load<V>(pixel));
      }
      // What is behind a pixel's channels is the next pixel's, which is written then.
      const int64_t at = x * s.out_channels + c;
      if (at + V <= all) {
        store<V>(out + at, largest.value());
      } else {
        store_some<V>(out + at, largest.value(), s.out_channels - c);
      }
    }
  }
}

// A unit is a row of an output image.
template <int V, int kStride>
SPHEREFACE_INLINE void planar_rows(const Step& s, const StepMemory& m, int64_t begin, int64_t end) {
  const int64_t height = planar_height(s), width = planar_width(s);
  const int64_t row_size = s.width + 2 * s.pad_w;
  const bool pools = s.pool_h > 0;
  RowRing in{nullptr, s.dilation_h * (s.kernel_h - 1) + 1, s.channels * row_size};
  RowRing sums{nullptr, s.pool_h, width * padded_channels(s.out_channels)};
  const std::unique_ptr<float[]> memory(new float[in.rows * in.size + sums.rows * sums.size]);
  in.memory = memory.get();
  sums.memory = in.memory + in.rows * in.size;
  Step row = s;
  if (pools) row.out_channels = padded_channels(s.out_channels);
  StepMemory to = m;
  for (int64_t unit = begin; unit < end; ++unit) {
    const int64_t y = unit % s.out_height;
    const float* image = m.in + unit / s.out_height * s.height * s.width * s.channels;
    float* out = m.out + unit * s.out_width * s.out_channels;
    if (unit == begin || y == 0) in.next = sums.next = 0;
    const int64_t from = y * s.pool_stride_h - s.pool_pad_h;
    const int64_t top = pools ? std::max<int64_t>(from, 0) : y;
    const int64_t bottom = pools ? std::min(from + s.pool_h, height) : y + 1;
    for (sums.next = std::max(sums.next, top); sums.next < bottom; ++sums.next) {
      // Of the planes, with their padding.
      const int64_t first = sums.next * s.stride_h;
      for (in.next = std::max(in.next, first); in.next < first + in.rows; ++in.next) {
        copy_row(s, image, in.next - s.pad_h, in.row(in.next));
      }
      const float* tap[kPlanarTaps * kPlanes];
      for (int64_t t = 0; t < s.kernel_h; ++t) {
        for (int64_t c = 0; c < s.channels; ++c) {
          tap[t * s.channels + c] = in.row(first + t * s.dilation_h) + c * row_size;
        }
      }
      to.out = pools ? sums.row(sums.next) : out;
      planar_panels<V, kStride>(row, to, tap, width);
    }
    if (pools) pool_row<V>(s, sums, top, bottom, width, out);
  }
}

template <int V>
SPHEREFACE_INLINE void planar_units(const Step& s, const StepMemory& m, int64_t begin,
                                    int64_t end) {
  if (s.stride_w == 1) return planar_rows<V, 1>(s, m, begin, end);
  planar_rows<V, 2>(s, m, begin, end);
}

}  // namespace sphereface::cpu
