#include "prelu.h"

#include "vector.h"

namespace sphereface::cpu {

namespace {

// A range of (outer, channels) rows of which each value has a channel of its own.
template <typename T>
SPHEREFACE_INLINE void rows_of_channels(const T* grad, const T* x, const T* slope, bool shared,
                                        int64_t rows, int64_t channels, T* dx, double* sums) {
  using S = Scalar<T>;
  std::fill_n(sums, channels, 0.0);
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t c = 0; c < channels; ++c) {
      const MathOf<T> g = S::load(grad[c]), v = S::load(x[c]), a = S::load(slope[shared ? 0 : c]);
      dx[c] = S::store(v > 0 ? g : a * g);
      sums[c] += v > 0 ? 0.0 : double{v} * double{g};
    }
    grad += channels;
    x += channels;
    dx += channels;
  }
}

// One run of values of one channel; returns its part of dslope.
template <typename T>
SPHEREFACE_INLINE double run_of_channel(const T* grad, const T* x, MathOf<T> a, int64_t count,
                                        T* dx) {
  using S = Scalar<T>;
  double lanes[kLanes] = {};
  const auto one = [&](int64_t i, int l) {
    const MathOf<T> g = S::load(grad[i]), v = S::load(x[i]);
    dx[i] = S::store(v > 0 ? g : a * g);
    lanes[l] += v > 0 ? 0.0 : double{v} * double{g};
  };
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (int l = 0; l < kLanes; ++l) one(i + l, l);
  }
  for (int l = 0; i + l < count; ++l) one(i + l, l);
  return sum_lanes(lanes);
}

template <typename T>
SPHEREFACE_INLINE void piece_of(const T* grad, const T* x, const T* slope, bool shared,
                                PReluShape shape, int64_t first, int64_t last, T* dx,
                                double* sums) {
  const int64_t begin = first * shape.channels * shape.inner;
  if (shape.inner == 1) {
    return rows_of_channels(grad + begin, x + begin, slope, shared, last - first, shape.channels,
                            dx + begin, sums);
  }
  std::fill_n(sums, shape.channels, 0.0);
  for (int64_t n = first; n < last; ++n) {
    for (int64_t c = 0; c < shape.channels; ++c) {
      const int64_t at = (n * shape.channels + c) * shape.inner;
      sums[c] += run_of_channel(grad + at, x + at, Scalar<T>::load(slope[shared ? 0 : c]),
                                shape.inner, dx + at);
    }
  }
}

// Function templates cannot be multiversioned, so each storage type has its entry point.
#define SPHEREFACE_PRELU_PIECE(T)                                                            \
  SPHEREFACE_MULTIVERSION void piece(const T* grad, const T* x, const T* slope, bool shared, \
                                     PReluShape shape, int64_t first, int64_t last, T* dx,   \
                                     double* sums) {                                         \
    piece_of(grad, x, slope, shared, shape, first, last, dx, sums);                          \
  }
SPHEREFACE_PRELU_PIECE(float)
SPHEREFACE_PRELU_PIECE(double)
SPHEREFACE_PRELU_PIECE(bfloat16)
#undef SPHEREFACE_PRELU_PIECE

}  // namespace

template <typename T>
void prelu_backward(const T* grad, const T* x, const T* slope, bool shared, PReluShape shape, T* dx,
                    T* dslope, double* partials, ParallelFor parallel_for) {
  const int64_t pieces = shape.pieces();
  for_ranges(parallel_for, pieces, 1, [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p) {
      piece(grad, x, slope, shared, shape, shape.outer * p / pieces, shape.outer * (p + 1) / pieces,
            dx, partials + p * shape.channels);
    }
  });
  double all = 0;
  for (int64_t c = 0; c < shape.channels; ++c) {
    double sum = 0;
    for (int64_t p = 0; p < pieces; ++p) sum += partials[p * shape.channels + c];
    all += sum;
    if (!shared) dslope[c] = Scalar<T>::store(static_cast<MathOf<T>>(sum));
  }
  if (shared) *dslope = Scalar<T>::store(static_cast<MathOf<T>>(all));
}

#define SPHEREFACE_INSTANTIATE(T)                                                                  \
  template void prelu_backward<T>(const T*, const T*, const T*, bool, PReluShape, T*, T*, double*, \
                                  ParallelFor);
SPHEREFACE_INSTANTIATE(float)
SPHEREFACE_INSTANTIATE(double)
SPHEREFACE_INSTANTIATE(bfloat16)
#undef SPHEREFACE_INSTANTIATE

}  // namespace sphereface::cpu
