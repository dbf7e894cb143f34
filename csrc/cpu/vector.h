// Sums over rows of unit stride, in independent lanes so that they vectorise without -ffast-math
// and round better than one running sum.
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

template <typename Acc>
SPHEREFACE_INLINE Acc sum_lanes(const Acc (&lanes)[kLanes]) {
  Acc partial[kLanes / 2];
  for (int l = 0; l < kLanes / 2; ++l) partial[l] = lanes[l] + lanes[l + kLanes / 2];
  for (int width = kLanes / 4; width > 0; width /= 2) {
    for (int l = 0; l < width; ++l) partial[l] += partial[l + width];
  }
  return partial[0];
}

template <typename T>
SPHEREFACE_INLINE MathOf<T> dot(const T* a, const T* b, int64_t count) {
  using Acc = MathOf<T>;
  using S = Scalar<T>;
  Acc lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (int l = 0; l < kLanes; ++l) lanes[l] += S::load(a[i + l]) * S::load(b[i + l]);
  }
  for (int l = 0; i + l < count; ++l) lanes[l] += S::load(a[i + l]) * S::load(b[i + l]);
  return sum_lanes(lanes);
}

template <typename T>
SPHEREFACE_INLINE LabelGeometry<MathOf<T>> label_geometry(const MarginProblem<T>& p, int64_t i) {
  const T* x = p.x.row(i);
  const T* w = p.weight.row(p.label[i]);
  const int64_t count = p.x.cols;
  return {std::sqrt(dot(x, x, count)), std::sqrt(dot(w, w, count)), dot(x, w, count)};
}

}  // namespace sphereface::cpu
