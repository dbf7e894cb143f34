// Vectors of V floats for loops that keep sums in registers, and the instruction sets they are
// compiled for: each loop is a template that is inlined into a function of each set.
#pragma once

#include <cstring>

#include "vector.h"

#if defined(__x86_64__) && defined(__GNUC__)
#define SPHEREFACE_X86 1
#define SPHEREFACE_AVX2 __attribute__((target("avx2,fma")))
#define SPHEREFACE_AVX512 __attribute__((target("avx512f,avx512vl,avx512dq,avx512bw,fma")))
#endif

namespace sphereface::cpu {

enum class Vectors { kAnywhere, kAvx2, kAvx512 };  // 4, 8 and 16 floats

inline Vectors best_vectors() {
#ifdef SPHEREFACE_X86
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw")) {
    return Vectors::kAvx512;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return Vectors::kAvx2;
#endif
  return Vectors::kAnywhere;
}

template <int V>
struct VectorOf {
  typedef float type __attribute__((vector_size(V * sizeof(float))));
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

}  // namespace sphereface::cpu
