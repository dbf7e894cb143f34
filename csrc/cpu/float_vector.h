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

// The largest of vectors of floats, or NaN if there is one, as torch has it. Numbers that are not
// positive have a NaN as their sum only if one of them is: where two comparisons choose, GCC takes
// 16 floats apart.
template <int V>
class Maximum {
  using Vector = typename VectorOf<V>::type;

 public:
  SPHEREFACE_INLINE explicit Maximum(Vector first) : largest_(first), sum_(Vector{}) {
    take(first);
  }

  SPHEREFACE_INLINE void take(Vector value) {
    const Vector zero{};
    largest_ = largest_ < value ? value : largest_;
    sum_ += zero < value ? zero : value;
  }

  SPHEREFACE_INLINE Vector value() const { return sum_ == sum_ ? largest_ : sum_; }

 private:
  Vector largest_, sum_;
};

}  // namespace sphereface::cpu
