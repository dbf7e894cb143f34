#include "launch.h"
#include "warp.cuh"

namespace sphereface::cuda {

namespace {

template <typename T>
__global__ void __launch_bounds__(kWarpsPerBlock* kWarpSize)
    normalize_rows_kernel(Matrix<const T> from, Matrix<T> to) {
  using Math = MathOf<T>;
  for (int64_t i = first_row(); i < from.rows; i += row_step()) {
    const T* source = from.row(i);
    T* target = to.row(i);
    const double squared = warp_dot(source, source, from.cols), norm = row_norm<T>(squared);
    const bool keep = norm == 0 || !isfinite(squared) || fabs(squared - 1) <= unit_tolerance<T>();
    if (keep && source == target) continue;
    const Math scale = keep ? Math(1) : static_cast<Math>(1 / norm);
#pragma unroll 4
    for (int64_t k = lane_id(); k < from.cols; k += kWarpSize) {
      target[k] = Scalar<T>::store(scale * Scalar<T>::load(source[k]));
    }
  }
}

__global__ void anneal_kernel(Annealing annealing, const int64_t* iteration, float* lambda) {
  *lambda = annealed_lambda(annealing, *iteration);
}

}  // namespace

template <typename T>
void normalize_rows(Matrix<const T> from, Matrix<T> to, cudaStream_t stream) {
  if (from.rows == 0) return;
  normalize_rows_kernel<<<blocks_for(from.rows), kWarpsPerBlock * kWarpSize, 0, stream>>>(from, to);
}

void anneal(const Annealing& annealing, const int64_t* iteration, float* lambda,
            cudaStream_t stream) {
  anneal_kernel<<<1, 1, 0, stream>>>(annealing, iteration, lambda);
}

template void normalize_rows<float>(Matrix<const float>, Matrix<float>, cudaStream_t);
template void normalize_rows<double>(Matrix<const double>, Matrix<double>, cudaStream_t);
template void normalize_rows<__half>(Matrix<const __half>, Matrix<__half>, cudaStream_t);
template void normalize_rows<__nv_bfloat16>(Matrix<const __nv_bfloat16>, Matrix<__nv_bfloat16>,
                                            cudaStream_t);

}  // namespace sphereface::cuda
