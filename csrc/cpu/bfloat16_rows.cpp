#include "bfloat16_rows.h"

#include "float_vector.h"

// Defined already, it is left as it is.
#if defined(SPHEREFACE_AVX512_BF16)
#elif defined(SPHEREFACE_X86) && (defined(__clang__) || __GNUC__ >= 11)
#define SPHEREFACE_AVX512_BF16 1
#else
#define SPHEREFACE_AVX512_BF16 0
#endif

#if SPHEREFACE_AVX512_BF16
#ifndef __clang__
// GCC 12 finds its own _mm512_undefined_ps() uninitialised.
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>
#endif

namespace sphereface::cpu {

namespace {

constexpr int64_t kInFloat = 16;  // products that a lane of float adds up

SPHEREFACE_MULTIVERSION double squares_anywhere(const bfloat16* a, int64_t count) {
  double sum = 0;
  int64_t i = 0;
  while (i + kLanes <= count) {
    float lanes[kLanes] = {};
    for (const int64_t end = std::min(i + kInFloat * kLanes, count); i + kLanes <= end;
         i += kLanes) {
      for (int l = 0; l < kLanes; ++l) {
        const float value = Scalar<bfloat16>::load(a[i + l]);
        lanes[l] += value * value;
      }
    }
    double wide[kLanes];
    for (int l = 0; l < kLanes; ++l) wide[l] = lanes[l];
    sum += sum_lanes(wide);
  }
  return i < count ? sum + dot(a + i, a + i, count - i) : sum;
}

SPHEREFACE_MULTIVERSION void narrow_anywhere(const float* from, bfloat16* to, int64_t count) {
  for (int64_t k = 0; k < count; ++k) to[k] = Scalar<bfloat16>::store(from[k]);
}

SPHEREFACE_MULTIVERSION void multiply_anywhere(const bfloat16* from, float factor, bfloat16* to,
                                               int64_t count) {
  using S = Scalar<bfloat16>;
  for (int64_t k = 0; k < count; ++k) to[k] = S::store(factor * S::load(from[k]));
}

#if SPHEREFACE_AVX512_BF16
#define SPHEREFACE_BF16_FUNCTION __attribute__((target("avx512f,avx512bw,avx512vl,avx512bf16")))

bool has_instructions() {
  static const bool kHas = __builtin_cpu_supports("avx512bf16");
  return kHas;
}

// The first 32 of `count`, zeros behind them.
SPHEREFACE_BF16_FUNCTION inline __m512i load_32(const bfloat16* from, int64_t count) {
  if (count >= 32) return _mm512_loadu_si512(from);
  return _mm512_maskz_loadu_epi16((__mmask32{1} << count) - 1, from);
}

SPHEREFACE_BF16_FUNCTION inline __m512 load_16(const float* from, int64_t count) {
  if (count >= 16) return _mm512_loadu_ps(from);
  const int64_t some = std::max<int64_t>(count, 0);
  return _mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << some) - 1), from);
}

SPHEREFACE_BF16_FUNCTION inline void store_32(bfloat16* to, __m512bh value, int64_t count) {
  __m512i bits;
  std::memcpy(&bits, &value, sizeof(bits));
  if (count >= 32) return _mm512_storeu_si512(to, bits);
  _mm512_mask_storeu_epi16(to, (__mmask32{1} << count) - 1, bits);
}

SPHEREFACE_BF16_FUNCTION inline __m512 wide(__m256i bits) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}

SPHEREFACE_BF16_FUNCTION double squares_by_instruction(const bfloat16* a, int64_t count) {
  double sum = 0;
  for (int64_t i = 0; i < count;) {
    __m512 lanes[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
    for (const int64_t end = std::min(i + 2 * 16 * kInFloat, count); i < end; i += 64) {
      for (int l = 0; l < 2; ++l) {
        if (i + 32 * l >= end) continue;
        const __m512i bits = load_32(a + i + 32 * l, end - i - 32 * l);
        __m512bh value;
        std::memcpy(&value, &bits, sizeof(value));
        lanes[l] = _mm512_dpbf16_ps(lanes[l], value, value);
      }
    }
    const __m512 both = _mm512_add_ps(lanes[0], lanes[1]);
    sum += _mm512_reduce_add_pd(_mm512_add_pd(
        _mm512_cvtps_pd(_mm512_castps512_ps256(both)),
        _mm512_cvtps_pd(_mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(both), 1)))));
  }
  return sum;
}

SPHEREFACE_BF16_FUNCTION void narrow_by_instruction(const float* from, bfloat16* to,
                                                    int64_t count) {
  for (int64_t k = 0; k < count; k += 32) {
    const __m512 low = load_16(from + k, count - k);
    const __m512 high = load_16(from + k + 16, count - k - 16);
    store_32(to + k, _mm512_cvtne2ps_pbh(high, low), count - k);
  }
}

SPHEREFACE_BF16_FUNCTION void multiply_by_instruction(const bfloat16* from, float factor,
                                                      bfloat16* to, int64_t count) {
  const __m512 times = _mm512_set1_ps(factor);
  for (int64_t k = 0; k < count; k += 32) {
    const __m512i bits = load_32(from + k, count - k);
    const __m512 low = _mm512_mul_ps(times, wide(_mm512_castsi512_si256(bits)));
    const __m512 high = _mm512_mul_ps(times, wide(_mm512_extracti64x4_epi64(bits, 1)));
    store_32(to + k, _mm512_cvtne2ps_pbh(high, low), count - k);
  }
}
#endif

}  // namespace

double squares_in_float(const bfloat16* a, int64_t count) {
#if SPHEREFACE_AVX512_BF16
  if (has_instructions()) return squares_by_instruction(a, count);
#endif
  return squares_anywhere(a, count);
}

void narrow(const float* from, bfloat16* to, int64_t count) {
#if SPHEREFACE_AVX512_BF16
  if (has_instructions()) return narrow_by_instruction(from, to, count);
#endif
  narrow_anywhere(from, to, count);
}

void multiply(const bfloat16* from, float factor, bfloat16* to, int64_t count) {
#if SPHEREFACE_AVX512_BF16
  if (has_instructions()) return multiply_by_instruction(from, factor, to, count);
#endif
  multiply_anywhere(from, factor, to, count);
}

}  // namespace sphereface::cpu
