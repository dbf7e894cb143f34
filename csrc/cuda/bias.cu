#include "launch.h"
#include "warp.cuh"

namespace sphereface::cuda {

namespace {

constexpr int kThreads = kWarpsPerBlock * kWarpSize;
constexpr int64_t kMaxBlockRows = 65535;

// Blocks lie over the columns, and, to add, over the rows as well.
dim3 grid_of(int64_t rows, int64_t cols) {
  const int64_t blocks = (cols + kThreads - 1) / kThreads;
  return {static_cast<unsigned>(blocks < kMaxBlocks ? blocks : kMaxBlocks),
          static_cast<unsigned>(rows < kMaxBlockRows ? rows : kMaxBlockRows)};
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    add_bias_kernel(const MathOf<T>* bias, Matrix<T> logits) {
  const int64_t step = int64_t{gridDim.x} * kThreads;
  for (int64_t i = blockIdx.y; i < logits.rows; i += gridDim.y) {
    T* z = logits.row(i);
    for (int64_t j = int64_t{blockIdx.x} * kThreads + threadIdx.x; j < logits.cols; j += step) {
      z[j] = Scalar<T>::store(Scalar<T>::load(z[j]) + bias[j]);
    }
  }
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    column_sums_kernel(Matrix<const T> grad, MathOf<T>* sum) {
  const int64_t step = int64_t{gridDim.x} * kThreads;
  for (int64_t j = int64_t{blockIdx.x} * kThreads + threadIdx.x; j < grad.cols; j += step) {
    double total = 0;
#pragma unroll 8
    for (int64_t i = 0; i < grad.rows; ++i) total += Scalar<T>::load(grad.row(i)[j]);
    sum[j] = static_cast<MathOf<T>>(total);
  }
}

}  // namespace

template <typename T>
void add_bias(const MathOf<T>* bias, Matrix<T> logits, cudaStream_t stream) {
  if (logits.rows == 0 || logits.cols == 0) return;
  add_bias_kernel<<<grid_of(logits.rows, logits.cols), kThreads, 0, stream>>>(bias, logits);
}

template <typename T>
void column_sums(Matrix<const T> grad, MathOf<T>* sum, cudaStream_t stream) {
  if (grad.cols == 0) return;
  column_sums_kernel<<<grid_of(1, grad.cols), kThreads, 0, stream>>>(grad, sum);
}

#define SPHEREFACE_INSTANTIATE(T)                                    \
  template void add_bias(const MathOf<T>*, Matrix<T>, cudaStream_t); \
  template void column_sums(Matrix<const T>, MathOf<T>*, cudaStream_t);
SPHEREFACE_INSTANTIATE(float)
SPHEREFACE_INSTANTIATE(double)
SPHEREFACE_INSTANTIATE(__half)
SPHEREFACE_INSTANTIATE(__nv_bfloat16)
#undef SPHEREFACE_INSTANTIATE

}  // namespace sphereface::cuda
