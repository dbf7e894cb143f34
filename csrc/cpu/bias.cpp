#include "sphereface/cpu.h"

namespace sphereface::cpu {

template <typename T>
void add_bias(const MathOf<T>* bias, Matrix<T> logits, ParallelFor parallel_for) {
  for_ranges(parallel_for, logits.rows, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      T* z = logits.row(i);
      for (int64_t j = 0; j < logits.cols; ++j) {
        z[j] = Scalar<T>::store(Scalar<T>::load(z[j]) + bias[j]);
      }
    }
  });
}

template <typename T>
void column_sums(Matrix<const T> grad, MathOf<T>* sum, ParallelFor parallel_for) {
  constexpr int64_t kColumns = 256;  // their sums stay in registers and cache
  const int64_t blocks = (grad.cols + kColumns - 1) / kColumns;
  for_ranges(parallel_for, blocks, 1, [&](int64_t first, int64_t last) {
    for (int64_t block = first; block < last; ++block) {
      const int64_t begin = block * kColumns, count = std::min(kColumns, grad.cols - begin);
      double sums[kColumns] = {};
      for (int64_t i = 0; i < grad.rows; ++i) {
        const T* g = grad.row(i) + begin;
        for (int64_t j = 0; j < count; ++j) sums[j] += Scalar<T>::load(g[j]);
      }
      for (int64_t j = 0; j < count; ++j) sum[begin + j] = static_cast<MathOf<T>>(sums[j]);
    }
  });
}

#define SPHEREFACE_INSTANTIATE(T)                                   \
  template void add_bias(const MathOf<T>*, Matrix<T>, ParallelFor); \
  template void column_sums(Matrix<const T>, MathOf<T>*, ParallelFor);
SPHEREFACE_INSTANTIATE(float)
SPHEREFACE_INSTANTIATE(double)
SPHEREFACE_INSTANTIATE(bfloat16)
#undef SPHEREFACE_INSTANTIATE

}  // namespace sphereface::cpu
