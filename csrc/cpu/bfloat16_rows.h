// Rows of bfloat16 as float and back, so that loops over them are loops over float.
#pragma once

#include <algorithm>
#include <type_traits>

#include "vector.h"

namespace sphereface::cpu {

// Both round to nearest, even. Processors with instructions for that (AVX512-BF16) take a seventh
// of the others' and make zeros of what is below float's smallest normal number.
void narrow(const float* from, bfloat16* to, int64_t count);
// to = factor from
void multiply(const bfloat16* from, float factor, bfloat16* to, int64_t count);

// Calls f(MathOf<T>* piece, begin, count), an always inlined loop that changes the piece, over the
// whole row z.
template <typename T, typename F>
SPHEREFACE_INLINE void change_pieces(T* z, int64_t count, const F& f) {
  if constexpr (std::is_same_v<T, bfloat16>) {
    constexpr int64_t kPiece = 512;  // stays in L1 beside what it is made of
    alignas(64) float piece[kPiece];
    for (int64_t begin = 0; begin < count; begin += kPiece) {
      const int64_t some = std::min(kPiece, count - begin);
      for (int64_t k = 0; k < some; ++k) piece[k] = Scalar<T>::load(z[begin + k]);
      f(piece, begin, some);
      narrow(piece, z + begin, some);
    }
  } else {
    f(z, 0, count);
  }
}

}  // namespace sphereface::cpu
