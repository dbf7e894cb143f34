#include "row_norm.cuh"

#include "launch.h"

namespace sphereface::cuda {

namespace {

template <typename T>
__global__ void __launch_bounds__(kWarpsPerBlock* kWarpSize)
    scale_rows_kernel(Matrix<const T> x, const MathOf<T>* scale, Matrix<T> to) {
  for (int64_t i = first_row(); i < x.rows; i += row_step()) {
    const T* from = x.row(i);
    const double norm = row_norm<T>(warp_dot(from, from, x.cols));
    const auto factor = static_cast<MathOf<T>>(norm == 0 ? 0 : *scale / norm);
    for (int64_t k = lane_id(); k < x.cols; k += kWarpSize) {
      to.row(i)[k] = Scalar<T>::store(factor * Scalar<T>::load(from[k]));
    }
  }
}

template <typename T>
__global__ void __launch_bounds__(kWarpsPerBlock* kWarpSize)
    scale_gradient_kernel(Matrix<const T> x, const MathOf<T>* scale, Matrix<MathOf<T>> dx,
                          double* dscale) {
  for (int64_t i = first_row(); i < x.rows; i += row_step()) {
    const T* from = x.row(i);
    MathOf<T>* d = dx.row(i);
    const double norm = row_norm<T>(warp_dot(from, from, x.cols));
    const double inverse = norm == 0 ? 0 : 1 / norm, along = inverse * warp_dot(from, d, x.cols);
    for (int64_t k = lane_id(); k < x.cols; k += kWarpSize) {
      const double side = d[k] - along * inverse * Scalar<T>::load(from[k]);
      d[k] = static_cast<MathOf<T>>(*scale * inverse * side);
    }
    if (dscale != nullptr && lane_id() == 0) dscale[i] = along;
  }
}

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

template <typename T>
void scale_rows(Matrix<const T> x, const MathOf<T>* scale, Matrix<T> to, cudaStream_t stream) {
  if (x.rows == 0) return;
  scale_rows_kernel<<<blocks_for(x.rows), kWarpsPerBlock * kWarpSize, 0, stream>>>(x, scale, to);
}

template <typename T>
void scale_gradient(Matrix<const T> x, const MathOf<T>* scale, Matrix<MathOf<T>> dx, double* dscale,
                    cudaStream_t stream) {
  if (x.rows == 0) return;
  scale_gradient_kernel<<<blocks_for(x.rows), kWarpsPerBlock * kWarpSize, 0, stream>>>(x, scale, dx,
                                                                                       dscale);
}

void anneal(const Annealing& annealing, const int64_t* iteration, float* lambda,
            cudaStream_t stream) {
  anneal_kernel<<<1, 1, 0, stream>>>(annealing, iteration, lambda);
}

#define SPHEREFACE_INSTANTIATE(T)                                                                \
  template void normalize_rows<T>(Matrix<const T>, Matrix<T>, cudaStream_t);                     \
  template void scale_rows<T>(Matrix<const T>, const MathOf<T>*, Matrix<T>, cudaStream_t);       \
  template void scale_gradient<T>(Matrix<const T>, const MathOf<T>*, Matrix<MathOf<T>>, double*, \
                                  cudaStream_t);
SPHEREFACE_INSTANTIATE(float)
SPHEREFACE_INSTANTIATE(double)
SPHEREFACE_INSTANTIATE(__half)
SPHEREFACE_INSTANTIATE(__nv_bfloat16)
#undef SPHEREFACE_INSTANTIATE

}  // namespace sphereface::cuda
