// Steps of forward_program.cpp that read no kernel: channelwise ones, pooling, softmax.
#pragma once

#include <cmath>

#include "forward_tiles.h"

namespace sphereface::cpu {

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

// Whether each of `count` windows along an axis has a pixel of `size` pixels in it.
inline bool windows_meet(int64_t count, int64_t kernel, int64_t stride, int64_t pad, int64_t size) {
  return pad < kernel && (count - 1) * stride - pad < size;
}

// A unit is an output pixel. Windows are clipped to the image; averages divide by the part of the
// window that is inside the padding.
template <int V, bool kMax>
SPHEREFACE_INLINE void pool_units(const Step& s, const StepMemory& m, int64_t begin, int64_t end) {
  if constexpr (V > 4) {
    if (s.channels < V) return pool_units<V / 2, kMax>(s, m, begin, end);
  }
  using Vector = typename VectorOf<V>::type;
  const int64_t area = s.out_height * s.out_width;
  // The last vector overlaps the one before.
  const int64_t whole = s.channels >= V ? s.channels : 0;
  int64_t number = begin / area, y = begin % area / s.out_width, x = begin % s.out_width - 1;
  for (int64_t unit = begin; unit < end; ++unit) {
    if (++x == s.out_width) {
      x = 0;
      if (++y == s.out_height) {
        y = 0;
        ++number;
      }
    }
    const float* image = m.in + number * s.height * s.width * s.channels;
    const int64_t top = y * s.stride_h - s.pad_h, left = x * s.stride_w - s.pad_w;
    const int64_t bottom = std::min(top + s.kernel_h, s.height + s.pad_h);
    const int64_t right = std::min(left + s.kernel_w, s.width + s.pad_w);
    const int64_t y0 = std::max<int64_t>(top, 0), y1 = std::min(bottom, s.height);
    const int64_t x0 = std::max<int64_t>(left, 0), x1 = std::min(right, s.width);
    const float size = static_cast<float>((bottom - top) * (right - left));
    const auto window = [&](auto combine) SPHEREFACE_LAMBDA_INLINE {
      for (int64_t row = y0; row < y1; ++row) {
        const float* pixel = image + (row * s.width + x0) * s.channels;
        for (int64_t i = x0; i < x1; ++i, pixel += s.channels) combine(pixel);
      }
    };
    const float* first = image + (y0 * s.width + x0) * s.channels;
    float* out = m.out + unit * s.channels;
    for (int64_t from = 0; from < whole; from += V) {
      const int64_t c = std::min(from, s.channels - V);
      if constexpr (kMax) {
        Maximum<V> largest(load<V>(first + c));
        window([&](const float* p) SPHEREFACE_LAMBDA_INLINE { largest.take(load<V>(p + c)); });
        store<V>(out + c, largest.value());
      } else {
        Vector sum{};
        window([&](const float* p) SPHEREFACE_LAMBDA_INLINE { sum += load<V>(p + c); });
        store<V>(out + c, sum / size);
      }
    }
    for (int64_t c = whole; c < s.channels; ++c) {
      float value = kMax ? first[c] : 0;
      window([&](const float* p) SPHEREFACE_LAMBDA_INLINE {
        if (kMax) value = p[c] > value || p[c] != p[c] ? p[c] : value;
        if (!kMax) value += p[c];
      });
      out[c] = kMax ? value : value / size;
    }
  }
}

// A unit is a row of images whose channels are planes; they become pixels.
inline void interleave_units(const Step& s, const StepMemory& m, int64_t begin, int64_t end) {
  const int64_t area = s.height * s.width;
  for (int64_t unit = begin; unit < end; ++unit) {
    const int64_t image = unit / s.height, y = unit % s.height;
    const float* in = m.in + image * s.channels * area + y * s.width;
    float* out = m.out + unit * s.width * s.channels;
    for (int64_t c = 0; c < s.channels; ++c) {
      for (int64_t x = 0; x < s.width; ++x) out[x * s.channels + c] = in[c * area + x];
    }
  }
}

// A unit is a pixel, whose channels become probabilities.
inline void softmax_units(const Step& s, const StepMemory& m, int64_t begin, int64_t end) {
  for (int64_t unit = begin; unit < end; ++unit) {
    const float* in = m.in + unit * s.channels;
    float* out = m.out + unit * s.channels;
    float largest = in[0], sum = 0;
    for (int64_t c = 1; c < s.channels; ++c) {
      if (in[c] > largest || in[c] != in[c]) largest = in[c];
    }
    for (int64_t c = 0; c < s.channels; ++c) {
      const float below = in[c] - largest;
      sum += out[c] = below == 0 ? 1 : std::exp(below);
    }
    for (int64_t c = 0; c < s.channels; ++c) out[c] /= sum;
  }
}

}  // namespace sphereface::cpu
