// Sums over rows of unit stride, in double and in independent lanes, so that they vectorise without
// -ffast-math. In float, the norm of a long row would be off by more than unit_tolerance.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <type_traits>

#include "sphereface/problem.h"

// One binary for every x86-64: the loops are compiled for three instruction sets and picked when
// the library is loaded (by glibc; sanitizers are not ready at that point). The levels have fused
// multiplication and addition, which older compilers cannot ask for in a clone. Defined already,
// it is left as it is.
#if defined(SPHEREFACE_MULTIVERSION)
#elif defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#if __GNUC__ >= 12
#define SPHEREFACE_MULTIVERSION \
  __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#else
#define SPHEREFACE_MULTIVERSION __attribute__((target_clones("default", "avx2", "avx512f")))
#endif
#else
#define SPHEREFACE_MULTIVERSION
#endif
#define SPHEREFACE_INLINE inline __attribute__((always_inline))
// A lambda that is compiled for the instruction set of its caller.
#define SPHEREFACE_LAMBDA_INLINE __attribute__((always_inline))

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

template <typename A, typename B>
SPHEREFACE_INLINE double dot(const A* a, const B* b, int64_t count) {
  double lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (int l = 0; l < kLanes; ++l) {
      lanes[l] += double{Scalar<A>::load(a[i + l])} * double{Scalar<B>::load(b[i + l])};
    }
  }
  for (int l = 0; i + l < count; ++l) {
    lanes[l] += double{Scalar<A>::load(a[i + l])} * double{Scalar<B>::load(b[i + l])};
  }
  return sum_lanes(lanes);
}

// The same of a and a, up to the rounding of float: products of bfloat16 are exact in it, and a few
// are added up in it with half of double's work.
double squares_in_float(const bfloat16* a, int64_t count);

// dot(a, a); of bfloat16 in double where a product may be out of float's range.
template <typename T>
SPHEREFACE_INLINE double squared_norm(const T* a, int64_t count) {
  if constexpr (std::is_same_v<T, bfloat16>) {
    const double sum = squares_in_float(a, count);
    if (sum > 1e-20 && sum < 1e30) return sum;
  }
  return dot(a, a, count);
}

// dot(a, b) for whoever is not compiled for the instruction sets himself.
double inner(const float* a, const float* b, int64_t count);
double inner(const double* a, const double* b, int64_t count);
double inner(const bfloat16* a, const bfloat16* b, int64_t count);
// And squared_norm(a).
double squared(const float* a, int64_t count);
double squared(const double* a, int64_t count);
double squared(const bfloat16* a, int64_t count);

template <typename T, typename Margin>
LabelGeometry label_geometry(const MarginProblem<T, Margin>& p, int64_t i) {
  const T* x = p.x.row(i);
  const T* w = p.weight.row(p.label_column(i));
  const int64_t count = p.x.cols;
  LabelGeometry row{row_norm<T>(inner(x, x, count)), row_norm<T>(inner(w, w, count)),
                    inner(x, w, count)};
  if (p.scale != nullptr && row.x_norm != 0) {
    row.dot *= *p.scale / row.x_norm;
    row.x_norm = *p.scale;
  }
  return seen_by(p.margin, row);
}

}  // namespace sphereface::cpu
