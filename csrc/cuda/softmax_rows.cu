#include "softmax_rows.cuh"

#include "launch.h"

namespace sphereface::cuda {

namespace {

__global__ void clear_rows_kernel(SoftmaxRow* rows, int64_t count) {
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += step) {
    rows[i] = SoftmaxRow::empty();
  }
}

}  // namespace

void clear_rows(SoftmaxRow* rows, int64_t count, cudaStream_t stream) {
  if (count > 0) clear_rows_kernel<<<blocks_for(count), kRowThreads, 0, stream>>>(rows, count);
}

template <typename T, typename Margin>
void softmax_update(const MarginProblem<T, Margin>& p, const SoftmaxOptions<T>& s,
                    Matrix<const T> logits, SoftmaxRow* rows, cudaStream_t stream) {
  if (p.x.rows == 0 || p.weight.rows == 0) return;
  if constexpr (kIsBinary<Margin>) {
    binary_update(p, s, logits, rows, stream);
  } else {
    with_packed(logits, [&](auto packed) {
      softmax_update_kernel<T, Margin, packed>
          <<<item_blocks(p.x.rows), kSoftmaxThreads, 0, stream>>>(p, s, logits, rows);
    });
  }
}

template <typename T, typename Margin>
void softmax_finish(const MarginProblem<T, Margin>& p, const SoftmaxOptions<T>& s,
                    const SoftmaxRow* rows, const SoftmaxResult<T>& result, cudaStream_t stream) {
  if (p.x.rows == 0) return;
  softmax_finish_kernel<<<blocks_for(p.x.rows), kRowThreads, 0, stream>>>(p, s, rows, result);
}

template <typename T, typename Margin>
void softmax_gradient(const MarginProblem<T, Margin>& p, const SoftmaxOptions<T>& s,
                      const MathOf<T>* grad, const double* lse, Matrix<T> logits,
                      cudaStream_t stream) {
  if (p.x.rows == 0 || p.weight.rows == 0) return;
  if constexpr (kIsBinary<Margin>) {
    binary_gradient(p, s, grad, logits, stream);
  } else {
    const int64_t tiles = (p.weight.rows + kTile - 1) / kTile;
    with_packed(logits, [&](auto packed) {
      softmax_gradient_kernel<T, Margin, packed>
          <<<item_blocks(p.x.rows * tiles), kSoftmaxThreads, 0, stream>>>(p, s, grad, lse, logits);
    });
  }
}

template <typename T>
void add(Matrix<const T> piece, Matrix<MathOf<T>> sum, bool first, cudaStream_t stream) {
  if (piece.rows == 0) return;
  add_kernel<<<item_blocks(piece.rows), kRowThreads, 0, stream>>>(piece, sum, first);
}

template <typename T>
void round(Matrix<const MathOf<T>> sum, Matrix<T> dx, cudaStream_t stream) {
  if (dx.rows == 0) return;
  round_kernel<<<item_blocks(dx.rows), kRowThreads, 0, stream>>>(sum, dx);
}

#define SPHEREFACE_INSTANTIATE(T, Margin)                                                   \
  template void softmax_update(const MarginProblem<T, Margin>&, const SoftmaxOptions<T>&,   \
                               Matrix<const T>, SoftmaxRow*, cudaStream_t);                 \
  template void softmax_finish(const MarginProblem<T, Margin>&, const SoftmaxOptions<T>&,   \
                               const SoftmaxRow*, const SoftmaxResult<T>&, cudaStream_t);   \
  template void softmax_gradient(const MarginProblem<T, Margin>&, const SoftmaxOptions<T>&, \
                                 const MathOf<T>*, const double*, Matrix<T>, cudaStream_t);
#define SPHEREFACE_INSTANTIATE_ALL(T)                                        \
  SPHEREFACE_INSTANTIATE(T, ASoftmax)                                        \
  SPHEREFACE_INSTANTIATE(T, LSoftmax)                                        \
  SPHEREFACE_INSTANTIATE(T, SphereFace2)                                     \
  SPHEREFACE_INSTANTIATE(T, CombinedMargin)                                  \
  SPHEREFACE_INSTANTIATE(T, CosineMargin)                                    \
  template void add(Matrix<const T>, Matrix<MathOf<T>>, bool, cudaStream_t); \
  template void round(Matrix<const MathOf<T>>, Matrix<T>, cudaStream_t);
SPHEREFACE_INSTANTIATE_ALL(float)
SPHEREFACE_INSTANTIATE_ALL(double)
SPHEREFACE_INSTANTIATE_ALL(__half)
SPHEREFACE_INSTANTIATE_ALL(__nv_bfloat16)
#undef SPHEREFACE_INSTANTIATE_ALL
#undef SPHEREFACE_INSTANTIATE

}  // namespace sphereface::cuda
