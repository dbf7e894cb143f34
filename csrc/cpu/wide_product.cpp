#include "wide_product.h"

#include "bfloat16_rows.h"
#include "vector.h"

namespace sphereface::cpu {

bool has_bfloat16_products() {
#if defined(__x86_64__) && defined(__GNUC__)
  static const bool kHas = __builtin_cpu_supports("avx512bf16");
  return kHas;
#else
  return true;
#endif
}

SPHEREFACE_MULTIVERSION void widen(Matrix<const bfloat16> from, Matrix<float> to) {
  for (int64_t i = 0; i < from.rows; ++i) {
    const bfloat16* const __restrict source = from.row(i);
    float* const __restrict target = to.row(i);
    if (from.col_stride == 1) {
      for (int64_t k = 0; k < from.cols; ++k) target[k] = Scalar<bfloat16>::load(source[k]);
    } else {
      for (int64_t k = 0; k < from.cols; ++k) {
        target[k] = Scalar<bfloat16>::load(source[k * from.col_stride]);
      }
    }
  }
}

void narrow(Matrix<const float> from, Matrix<bfloat16> to) {
  for (int64_t i = 0; i < from.rows; ++i) narrow(from.row(i), to.row(i), from.cols);
}

}  // namespace sphereface::cpu
