#include "kernel_gradient.h"

#if defined(__GNUC__) && !defined(__clang__)
// Functions with vectors are inlined into those that are compiled for them; none has an ABI.
#pragma GCC diagnostic ignored "-Wpsabi"
#endif

#include <algorithm>

#include "float_vector.h"

namespace sphereface::cpu {

namespace {

constexpr int kOutputs = 6;           // of a panel; times two vectors of channels: 12 sums
constexpr int64_t kBand = 256 << 10;  // floats of a band, images and gradients

int64_t panels_of(int64_t count, int64_t panel) { return (count + panel - 1) / panel; }

// The rows of images whose panels are in scratch together: rows of one, or several whole images.
struct Band {
  int64_t first_image, images, first_row, rows;

  // Of the input, padding included.
  int64_t in_rows(const ConvolutionShape& s) const {
    return (rows - 1) * s.stride_h + (s.kernel_h - 1) * s.dilation_h + 1;
  }
  static int64_t in_columns(const ConvolutionShape& s) {
    return (s.out_width - 1) * s.stride_w + (s.kernel_w - 1) * s.dilation_w + 1;
  }
};

Band largest_band(const ConvolutionShape& s) {
  const int64_t row = s.out_width * (s.channels * s.stride_h * s.stride_w + s.outputs);
  const int64_t fit = std::max<int64_t>(1, kBand / std::max<int64_t>(1, row));
  if (fit < s.out_height) return {0, 1, 0, fit};
  return {0, std::min(s.images, fit / s.out_height), 0, s.out_height};
}

// A range of panels.
struct Range {
  int64_t begin, end;

  int64_t count() const { return end - begin; }
};

// What a thread makes: some channels of some outputs. It has copies of its own of what it needs, so
// that threads wait for each other once a convolution and not once a band.
struct Part {
  Range channels, outputs;
  float *x, *grad;  // (panel, image, row, column, 2 V) and (panel, image, row, column, kOutputs)
};

template <int V, typename T>
void copy_images(const T* x, const ConvolutionShape& s, const Band& band, const Part& part) {
  constexpr int kWide = 2 * V;
  float* to = part.x;
  for (int64_t panel = part.channels.begin; panel < part.channels.end; ++panel) {
    const int64_t first = panel * kWide, count = std::min<int64_t>(kWide, s.channels - first);
    for (int64_t row = 0; row < band.images * band.in_rows(s); ++row) {
      const int64_t image = band.first_image + row / band.in_rows(s);
      const int64_t y = band.first_row * s.stride_h - s.pad_h + row % band.in_rows(s);
      for (int64_t column = 0; column < Band::in_columns(s); ++column, to += kWide) {
        const int64_t at = column - s.pad_w;
        if (y < 0 || y >= s.height || at < 0 || at >= s.width) {
          std::fill_n(to, kWide, 0.0f);
          continue;
        }
        const T* pixel = x + ((image * s.height + y) * s.width + at) * s.channels + first;
        if (count == kWide) {
          for (int c = 0; c < kWide; ++c) to[c] = Scalar<T>::load(pixel[c]);
        } else {
          for (int c = 0; c < kWide; ++c) to[c] = c < count ? Scalar<T>::load(pixel[c]) : 0.0f;
        }
      }
    }
  }
}

template <typename T>
void copy_grad(const T* grad, const ConvolutionShape& s, const Band& band, const Part& part) {
  const int64_t pixels = band.images * band.rows * s.out_width;  // they lie together
  const int64_t begin = (band.first_image * s.out_height + band.first_row) * s.out_width;
  float* to = part.grad;
  for (int64_t panel = part.outputs.begin; panel < part.outputs.end; ++panel) {
    const int64_t first = panel * kOutputs, count = std::min<int64_t>(kOutputs, s.outputs - first);
    for (int64_t i = 0; i < pixels; ++i, to += kOutputs) {
      const T* pixel = grad + (begin + i) * s.outputs + first;
      for (int o = 0; o < kOutputs; ++o) to[o] = o < count ? Scalar<T>::load(pixel[o]) : 0.0f;
    }
  }
}

// Adds a band to a part of the result.
template <int V>
SPHEREFACE_INLINE void add_products(const ConvolutionShape& s, const Band& band, const Part& part,
                                    float* result) {
  using Vector = typename VectorOf<V>::type;
  constexpr int kWide = 2 * V;
  const int64_t rows = band.in_rows(s), columns = Band::in_columns(s);
  for (int64_t piece = 0; piece < part.channels.count() * part.outputs.count(); ++piece) {
    const int64_t c = piece / part.outputs.count(), o = piece % part.outputs.count();
    for (int64_t i = 0; i < s.kernel_h; ++i) {
      for (int64_t j = 0; j < s.kernel_w; ++j) {
        Vector sum[kOutputs][2] = {};
        const float* g = part.grad + o * band.images * band.rows * s.out_width * kOutputs;
        for (int64_t n = 0; n < band.images; ++n) {
          for (int64_t y = 0; y < band.rows; ++y) {
            const int64_t row = (c * band.images + n) * rows + y * s.stride_h + i * s.dilation_h;
            const float* x = part.x + (row * columns + j * s.dilation_w) * kWide;
            for (int64_t column = 0; column < s.out_width; ++column) {
              const Vector low = load<V>(x), high = load<V>(x + V);
              for (int r = 0; r < kOutputs; ++r) {
                sum[r][0] += g[r] * low;
                sum[r][1] += g[r] * high;
              }
              x += s.stride_w * kWide;
              g += kOutputs;
            }
          }
        }
        const int64_t output = (part.outputs.begin + o) * kOutputs;
        const int64_t channel = (part.channels.begin + c) * kWide;
        const int64_t channels = std::min<int64_t>(kWide, s.channels - channel);
        for (int64_t r = 0; r < std::min<int64_t>(kOutputs, s.outputs - output); ++r) {
          const int64_t tap = ((output + r) * s.kernel_h + i) * s.kernel_w + j;
          float* to = result + tap * s.channels + channel;
          float one[kWide];
          store<V>(one, sum[r][0]);
          store<V>(one + V, sum[r][1]);
          for (int64_t k = 0; k < channels; ++k) to[k] += one[k];
        }
      }
    }
  }
}

using AddProducts = void (*)(const ConvolutionShape&, const Band&, const Part&, float*);

void add_products_anywhere(const ConvolutionShape& s, const Band& band, const Part& part,
                           float* result) {
  add_products<4>(s, band, part, result);
}

#ifdef SPHEREFACE_X86
SPHEREFACE_AVX2 void add_products_avx2(const ConvolutionShape& s, const Band& band,
                                       const Part& part, float* result) {
  add_products<8>(s, band, part, result);
}

SPHEREFACE_AVX512 void add_products_avx512(const ConvolutionShape& s, const Band& band,
                                           const Part& part, float* result) {
  add_products<16>(s, band, part, result);
}
#endif

// How many parts the result is cut into: near a square, which copies least.
struct Grid {
  int64_t channel_panels, output_panels, channel_parts, output_parts;

  Grid(const ConvolutionShape& s, int64_t wide, int64_t threads)
      : channel_panels(panels_of(s.channels, wide)), output_panels(panels_of(s.outputs, kOutputs)) {
    int64_t side = 1;
    while ((side + 1) * (side + 1) <= threads) ++side;
    output_parts = std::clamp<int64_t>(output_panels, 1, side);
    channel_parts = std::clamp<int64_t>(channel_panels, 1, threads / side);
  }

  int64_t parts() const { return channel_parts * output_parts; }
  int64_t floats_of_x(const ConvolutionShape& s, const Band& band, int64_t wide) const {
    return panels_of(channel_panels, channel_parts) * wide * band.images * band.in_rows(s) *
           Band::in_columns(s);
  }
  int64_t floats_of_part(const ConvolutionShape& s, const Band& band, int64_t wide) const {
    return floats_of_x(s, band, wide) + panels_of(output_panels, output_parts) * kOutputs *
                                            band.images * band.rows * s.out_width;
  }
};

template <int V, typename T>
void gradient(const T* grad, const T* x, const ConvolutionShape& s, int64_t threads, float* result,
              float* scratch, AddProducts add, ParallelFor parallel_for) {
  const Band most = largest_band(s);
  const Grid grid(s, 2 * V, threads);
  const auto range = [](int64_t panels, int64_t part, int64_t parts) {
    return Range{panels * part / parts, panels * (part + 1) / parts};
  };
  std::fill_n(result, s.outputs * s.kernel_h * s.kernel_w * s.channels, 0.0f);
  for_ranges(parallel_for, grid.parts(), 1, [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p) {
      float* memory = scratch + p * grid.floats_of_part(s, most, 2 * V);
      const Part part{range(grid.channel_panels, p / grid.output_parts, grid.channel_parts),
                      range(grid.output_panels, p % grid.output_parts, grid.output_parts), memory,
                      memory + grid.floats_of_x(s, most, 2 * V)};
      for (int64_t n = 0; n < s.images; n += most.images) {
        for (int64_t row = 0; row < s.out_height; row += most.rows) {
          const Band band{n, std::min(most.images, s.images - n), row,
                          std::min(most.rows, s.out_height - row)};
          copy_images<V>(x, s, band, part);
          copy_grad(grad, s, band, part);
          add(s, band, part, result);
        }
      }
    }
  });
}

Vectors vectors() {
  static const Vectors kVectors = best_vectors();
  return kVectors;
}

}  // namespace

int64_t kernel_gradient_scratch(const ConvolutionShape& s, int64_t threads) {
  const int64_t wide = vectors() == Vectors::kAvx512 ? 32 : vectors() == Vectors::kAvx2 ? 16 : 8;
  const Grid grid(s, wide, threads);
  return grid.parts() * grid.floats_of_part(s, largest_band(s), wide);
}

template <typename T>
void kernel_gradient(const T* grad, const T* x, const ConvolutionShape& s, int64_t threads,
                     float* result, float* scratch, ParallelFor parallel_for) {
  switch (vectors()) {
#ifdef SPHEREFACE_X86
    case Vectors::kAvx512:
      return gradient<16>(grad, x, s, threads, result, scratch, add_products_avx512, parallel_for);
    case Vectors::kAvx2:
      return gradient<8>(grad, x, s, threads, result, scratch, add_products_avx2, parallel_for);
#endif
    default:
      return gradient<4>(grad, x, s, threads, result, scratch, add_products_anywhere, parallel_for);
  }
}

#define SPHEREFACE_INSTANTIATE(T)                                                                \
  template void kernel_gradient<T>(const T*, const T*, const ConvolutionShape&, int64_t, float*, \
                                   float*, ParallelFor);
SPHEREFACE_INSTANTIATE(float)
SPHEREFACE_INSTANTIATE(bfloat16)
#undef SPHEREFACE_INSTANTIATE

}  // namespace sphereface::cpu
