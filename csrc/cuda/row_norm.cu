#include "row_norm.cuh"

#include "launch.h"

namespace sphereface::cuda {

namespace {

__global__ void anneal_kernel(Annealing annealing, const int64_t* iteration, float* lambda) {
  *lambda = annealed_lambda(annealing, *iteration);
}

}  // namespace

template <typename T>
void normalize_rows(Matrix<const T> from, Matrix<T> to, cudaStream_t stream) {
  if (from.rows == 0) return;
  const bool aligned = has_aligned_rows(from) && has_aligned_rows(to);
  with_packs<T>(from.cols, aligned, [&](auto packs) {
    normalize_rows_kernel<T, packs><<<blocks_for(from.rows), kRowThreads, 0, stream>>>(from, to);
  });
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
