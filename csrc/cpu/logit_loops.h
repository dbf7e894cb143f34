// Loops over entries of one row, compiled for several instruction sets (vector.h).
#pragma once

#include "sphereface/problem.h"

namespace sphereface::cpu {

// What makes a row of logits z its gradient: g = on_p exp(z - lse) - on_w weight, with `total`
// total += g, and with `radial` radial += g z and then g scale column.
template <typename Math>
struct RowGradient {
  Math lse, on_p, on_w, scale;
  const Math *weight, *column;
  Math *radial, *total;

  RowGradient from(int64_t j) const {
    RowGradient r = *this;
    if (weight != nullptr) r.weight += j;
    if (column != nullptr) r.column += j;
    if (radial != nullptr) r.radial += j;
    if (total != nullptr) r.total += j;
    return r;
  }
};

// Function templates cannot be multiversioned, so each storage type has its own.
#define SPHEREFACE_LOGIT_LOOPS(T)                                          \
  MathOf<T> largest(const T* z, int64_t count);                            \
  /* of exp(z - max), in MathOf<T> within pieces, in double over them */   \
  double exponential_sum(const T* z, int64_t count, MathOf<T> max);        \
  /* z *= row column; without columns z *= row */                          \
  void scale(T* z, int64_t count, MathOf<T> row, const MathOf<T>* column); \
  void to_gradient(T* z, int64_t count, const RowGradient<MathOf<T>>& f);  \
  /* d -= factor w */                                                      \
  void subtract(T* d, const T* w, int64_t count, MathOf<T> factor);        \
  /* the first entry that is `value`, or count */                          \
  int64_t find(const T* z, int64_t count, MathOf<T> value);
SPHEREFACE_LOGIT_LOOPS(float)
SPHEREFACE_LOGIT_LOOPS(double)
SPHEREFACE_LOGIT_LOOPS(bfloat16)
#undef SPHEREFACE_LOGIT_LOOPS

}  // namespace sphereface::cpu
