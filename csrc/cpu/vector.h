// Sums over rows of unit stride, in double and in independent lanes, so that they vectorise without
// -ffast-math. In float, the norm of a long row would be off by more than unit_tolerance.
#pragma once

#include <cmath>
#include <cstdint>

#include "sphereface/problem.h"

// One binary for every x86-64: the loops are compiled for three instruction sets and picked when
// the library is loaded (by glibc; sanitizers are not ready at that point).
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define SPHEREFACE_MULTIVERSION __attribute__((target_clones("default", "avx2", "avx512f")))
#else
#define SPHEREFACE_MULTIVERSION
#endif
#define SPHEREFACE_INLINE inline __attribute__((always_inline))

namespace sphereface::cpu {

constexpr int kLanes = 32;

SPHEREFACE_INLINE double sum_lanes(const double (&lanes)[kLanes]) {
  double partial[kLanes / 2];
  for (int l = 0; l < kLanes / 2; ++l) partial[l] = lanes[l] + lanes[l + kLanes / 2];
  for (int width = kLanes / 4; width > 0; width /= 2) {
    for (int l = 0; l < width; ++l) partial[l] += partial[l + width];
  }
  return partial[0];
}

template <typename T>
SPHEREFACE_INLINE double dot(const T* a, const T* b, int64_t count) {
  using S = Scalar<T>;
  double lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (int l = 0; l < kLanes; ++l) {
      lanes[l] += double{S::load(a[i + l])} * double{S::load(b[i + l])};
    }
  }
  for (int l = 0; i + l < count; ++l) {
    lanes[l] += double{S::load(a[i + l])} * double{S::load(b[i + l])};
  }
  return sum_lanes(lanes);
}

template <typename T, typename Margin>
SPHEREFACE_INLINE LabelGeometry label_geometry(const MarginProblem<T, Margin>& p, int64_t i) {
  const T* x = p.x.row(i);
  const T* w = p.weight.row(p.label_column(i));
  const int64_t count = p.x.cols;
  return {row_norm<T>(dot(x, x, count)), row_norm<T>(dot(w, w, count)), dot(x, w, count)};
}

}  // namespace sphereface::cpu
