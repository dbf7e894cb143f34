// Steps of csrc/cpu/forward_program.h against plain loops in double, over vectors of every width
// that this processor has.
#include <algorithm>
#include <limits>
#include <random>
#include <vector>

#include "check.h"
#include "forward_program.h"

namespace {

using namespace sphereface;
using namespace sphereface::cpu;

// Two pieces, as two threads would take them.
void halves(int64_t count, int64_t, RangeBody body, const void* state) {
  if (count > 1) body(state, 0, count / 2);
  body(state, count > 1 ? count / 2 : 0, count);
}

std::mt19937& generator() {
  static std::mt19937 random(7);
  return random;
}

std::vector<float> normal(int64_t count) {
  std::normal_distribution<float> number;
  std::vector<float> values(count);
  for (float& value : values) value = number(generator());
  return values;
}

struct Case {
  int64_t images, channels, height, width, outputs, kernel, stride, pad, dilation, pool,
      pool_stride, pool_pad;
  Activation activation;
};

int64_t extent(int64_t size, const Case& c) {
  return (size + 2 * c.pad - c.dilation * (c.kernel - 1) - 1) / c.stride + 1;
}

// Caffe's size of a pooling.
int64_t windows(int64_t size, const Case& c) {
  int64_t count = (size + 2 * c.pool_pad - c.pool + c.pool_stride - 1) / c.pool_stride + 1;
  count = std::max<int64_t>(count, 1);
  if (c.pool_pad > 0 && (count - 1) * c.pool_stride >= size + c.pool_pad) --count;
  return count;
}

Step empty_step() {
  Step s{};
  s.out_buffer = 1;
  s.residual_buffer = s.bias = s.slopes = -1;
  s.kernel_h = s.kernel_w = s.stride_h = s.stride_w = s.dilation_h = s.dilation_w = 1;
  return s;
}

// Where the weight of an output stands among the constants.
int64_t weight_at(int64_t output, int64_t tap, int64_t taps, int64_t channel, int64_t channels) {
  return ((output / kPanel * taps + tap) * channels + channel) * kPanel + output % kPanel;
}

std::vector<Vectors> here() {
  std::vector<Vectors> found{Vectors::kAnywhere};
  if (best_vectors() != Vectors::kAnywhere) found.push_back(Vectors::kAvx2);
  if (best_vectors() == Vectors::kAvx512) found.push_back(Vectors::kAvx512);
  return found;
}

// Runs a step over whatever vectors there are, and compares what it writes behind a margin.
void compare(const Step& s, std::vector<float> in, const std::vector<float>& constants,
             const std::vector<std::vector<double>>& expected, double tolerance) {
  for (const Vectors vectors : here()) {
    std::vector<std::vector<float>> out;
    std::vector<float*> buffers{in.data()};
    std::vector<int64_t> sizes{static_cast<int64_t>(in.size())};
    for (const auto& values : expected) {
      out.emplace_back(values.size() + 32, -77.f);
      sizes.push_back(values.size());
    }
    for (auto& values : out) buffers.push_back(values.data());
    const char* problem = step_problem(s, sizes.data(), sizes.size(), constants.size(), -1);
    if (problem != nullptr) std::printf("%s\n", problem);
    CHECK(problem == nullptr);
    if (problem != nullptr) return;
    run_step(s, buffers.data(), constants.data(), halves, vectors);
    for (size_t b = 0; b < out.size(); ++b) {
      for (size_t i = 0; i < expected[b].size(); ++i) {
        if (std::isnan(expected[b][i])) {
          CHECK(std::isnan(out[b][i]));
        } else {
          CHECK_NEAR(out[b][i], expected[b][i], tolerance);
        }
      }
      for (size_t i = expected[b].size(); i < out[b].size(); ++i) CHECK_EQUAL(out[b][i], -77.f);
    }
  }
}

// The largest of a window; NaN where there is one.
double maximum(const std::vector<double>& image, int64_t height, int64_t width, int64_t outputs,
               int64_t top, int64_t left, int64_t pool, int64_t o) {
  double best = -std::numeric_limits<double>::infinity();
  for (int64_t y = std::max<int64_t>(top, 0); y < std::min(top + pool, height); ++y) {
    for (int64_t x = std::max<int64_t>(left, 0); x < std::min(left + pool, width); ++x) {
      const double value = image[(y * width + x) * outputs + o];
      if (value > best || std::isnan(value)) best = value;
      if (std::isnan(best)) return best;
    }
  }
  return best;
}

void planar(const Case& c, bool with_nan) {
  const int64_t taps = c.kernel * c.kernel, padded = padded_channels(c.outputs);
  Step s = empty_step();
  s.kind = StepKind::kPlanar;
  s.images = c.images, s.height = c.height, s.width = c.width, s.channels = c.channels;
  s.out_channels = c.outputs;
  s.kernel_h = s.kernel_w = c.kernel;
  s.stride_h = s.stride_w = c.stride;
  s.pad_h = s.pad_w = c.pad;
  s.dilation_h = s.dilation_w = c.dilation;
  s.activation = c.activation;
  const int64_t height = extent(c.height, c), width = extent(c.width, c);
  s.out_height = height, s.out_width = width;
  if (c.pool > 0) {
    s.pool_h = s.pool_w = c.pool;
    s.pool_stride_h = s.pool_stride_w = c.pool_stride;
    s.pool_pad_h = s.pool_pad_w = c.pool_pad;
    s.out_height = windows(height, c), s.out_width = windows(width, c);
  }
  std::vector<float> in = normal(c.images * c.channels * c.height * c.width);
  if (with_nan) in[in.size() / 2] = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> weight = normal(c.outputs * taps * c.channels);
  const std::vector<float> bias = normal(c.outputs), slopes = normal(c.outputs);
  std::vector<float> constants(padded * taps * c.channels + 2 * padded);
  s.bias = padded * taps * c.channels;
  s.slopes = s.bias + padded;
  std::copy(bias.begin(), bias.end(), constants.begin() + s.bias);
  std::copy(slopes.begin(), slopes.end(), constants.begin() + s.slopes);
  std::vector<double> expected;
  for (int64_t o = 0; o < c.outputs; ++o) {
    for (int64_t t = 0; t < taps; ++t) {
      for (int64_t i = 0; i < c.channels; ++i) {
        constants[weight_at(o, t, taps, i, c.channels)] = weight[(o * taps + t) * c.channels + i];
      }
    }
  }
  for (int64_t n = 0; n < c.images; ++n) {
    std::vector<double> image(height * width * c.outputs);
    for (int64_t at = 0; at < height * width * c.outputs; ++at) {
      const int64_t o = at % c.outputs, x = at / c.outputs % width, y = at / c.outputs / width;
      double sum = bias[o];
      for (int64_t t = 0; t < taps; ++t) {
        const int64_t row = y * c.stride - c.pad + t / c.kernel * c.dilation;
        const int64_t column = x * c.stride - c.pad + t % c.kernel * c.dilation;
        if (row < 0 || row >= c.height || column < 0 || column >= c.width) continue;
        for (int64_t i = 0; i < c.channels; ++i) {
          sum += double{weight[(o * taps + t) * c.channels + i]} *
                 in[((n * c.channels + i) * c.height + row) * c.width + column];
        }
      }
      if (c.activation == Activation::kReLU && sum < 0) sum = 0;
      if (c.activation == Activation::kSlopes && sum < 0) sum *= slopes[o];
      image[at] = sum;
    }
    if (c.pool == 0) {
      expected.insert(expected.end(), image.begin(), image.end());
      continue;
    }
    for (int64_t at = 0; at < s.out_height * s.out_width * c.outputs; ++at) {
      const int64_t o = at % c.outputs, x = at / c.outputs % s.out_width;
      const int64_t y = at / c.outputs / s.out_width;
      expected.push_back(maximum(image, height, width, c.outputs, y * c.pool_stride - c.pool_pad,
                                 x * c.pool_stride - c.pool_pad, c.pool, o));
    }
  }
  compare(s, in, constants, {expected}, 1e-4);
}

void planar_cases() {
  const auto none = Activation::kNone, relu = Activation::kReLU, slopes = Activation::kSlopes;
  for (const int64_t width : {3, 4, 12, 13, 18, 24, 31, 50}) {
    for (const int64_t outputs : {1, 10, 16, 28, 40}) {
      const auto activation = width % 2 ? relu : slopes;
      planar({2, 3, 9, width, outputs, 3, 1, 0, 1, 2, 2, 0, activation}, false);
      planar({1, 3, 8, width, outputs, 3, 1, 1, 1, 3, 2, 0, activation}, false);
      planar({2, 3, 7, width, outputs, 3, 2, 1, 1, 0, 0, 0, activation}, false);
    }
  }
  planar({1, 1, 3, 3, 10, 3, 1, 0, 1, 2, 2, 0, slopes}, false);  // one pixel
  planar({1, 4, 20, 21, 20, 7, 2, 3, 1, 3, 2, 1, relu}, false);  // windows over padding
  planar({1, 2, 15, 17, 5, 2, 1, 2, 3, 0, 0, 0, none}, false);   // holes between taps
  planar({2, 3, 15, 19, 5, 3, 1, 0, 1, 2, 4, 0, none}, false);   // rows that no window has
  planar({1, 3, 14, 30, 33, 3, 1, 0, 1, 3, 1, 1, none}, false);
  planar({2, 3, 11, 26, 10, 3, 1, 0, 1, 2, 2, 0, slopes}, true);
  planar({1, 3, 11, 26, 28, 3, 1, 0, 1, 3, 2, 0, relu}, true);
  planar({1, 3, 11, 26, 28, 3, 1, 0, 1, 0, 0, 0, none}, true);
}

void heads(int64_t images, int64_t height, int64_t width, int64_t channels,
           const std::vector<int64_t>& counts, int64_t softmaxed, bool with_bias) {
  Step s = empty_step();
  s.kind = StepKind::kHeads;
  s.images = images, s.height = s.out_height = height, s.width = s.out_width = width;
  s.channels = channels, s.softmaxed = softmaxed;
  for (size_t h = 0; h < counts.size(); ++h) s.heads[h] = counts[h], s.out_channels += counts[h];
  const int64_t area = height * width;
  std::vector<float> in = normal(images * area * channels);
  if (with_bias) in[in.size() / 2] = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> weight = normal(s.out_channels * channels), bias = normal(kPanel);
  std::vector<float> constants((channels + 1) * kPanel);
  for (int64_t o = 0; o < s.out_channels; ++o) {
    for (int64_t i = 0; i < channels; ++i) constants[i * kPanel + o] = weight[o * channels + i];
    constants[channels * kPanel + o] = bias[o];
  }
  if (with_bias) s.bias = channels * kPanel;
  std::vector<std::vector<double>> expected;
  int64_t first = 0;
  for (size_t h = 0; h < counts.size(); first += counts[h++]) {
    std::vector<double> plane(images * area * counts[h]);
    for (int64_t pixel = 0; pixel < images * area; ++pixel) {
      std::vector<double> sums(counts[h]);
      double total = 0, largest = -1e300;
      for (int64_t o = 0; o < counts[h]; ++o) {
        sums[o] = with_bias ? bias[first + o] : 0;
        for (int64_t i = 0; i < channels; ++i) {
          sums[o] += double{weight[(first + o) * channels + i]} * in[pixel * channels + i];
        }
        largest = sums[o] > largest || std::isnan(sums[o]) ? sums[o] : largest;
      }
      for (const double sum : sums) total += std::exp(sum - largest);
      for (int64_t o = 0; o < counts[h]; ++o) {
        plane[(pixel / area * counts[h] + o) * area + pixel % area] =
            softmaxed >> h & 1 ? std::exp(sums[o] - largest) / total : sums[o];
      }
    }
    expected.push_back(plane);
  }
  compare(s, in, constants, expected, 1e-4);
}

void pooling(int64_t channels, bool with_nan) {
  Step s = empty_step();
  s.kind = StepKind::kMaxPool;
  s.images = 1, s.height = 7, s.width = 8, s.channels = s.out_channels = channels;
  s.out_height = 3, s.out_width = 4;
  s.kernel_h = s.kernel_w = 3, s.stride_h = s.stride_w = 2;
  s.weight = -1;
  std::vector<float> in = normal(s.height * s.width * channels);
  if (with_nan) in[in.size() / 2] = std::numeric_limits<float>::quiet_NaN();
  std::vector<double> expected;
  const std::vector<double> image(in.begin(), in.end());
  for (int64_t at = 0; at < s.out_height * s.out_width * channels; ++at) {
    const int64_t o = at % channels, x = at / channels % s.out_width;
    expected.push_back(
        maximum(image, s.height, s.width, channels, at / channels / s.out_width * 2, x * 2, 3, o));
  }
  compare(s, in, {0.f}, {expected}, 0);
}

}  // namespace

int main() {
  planar_cases();
  for (const int64_t width : {1, 5, 12, 47, 48, 49, 100}) {
    heads(2, 1, width, 32, {2, 4}, 1, true);
    heads(1, 3, width, 7, {1, 5, 10}, 4, false);
  }
  heads(16, 1, 1, 128, {2, 4, 10}, 1, true);
  heads(1, 1, 1, 3, {16}, 1, true);
  heads(50, 1, 1, 5, {1, 2, 3, 4}, 15, false);
  for (const int64_t channels : {1, 3, 4, 7, 10, 16, 28, 64}) {
    pooling(channels, false);
    pooling(channels, true);
  }
  for (const Vectors vectors : here()) std::printf("vectors %d\n", static_cast<int>(vectors));
  return summary();
}
