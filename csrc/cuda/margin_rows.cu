#include "margin_rows.cuh"

#include "launch.h"

namespace sphereface::cuda {

template <typename T, typename Margin>
void margin_forward(const MarginProblem<T, Margin>& p, Matrix<T> y, cudaStream_t stream) {
  if (p.x.rows == 0) return;
  margin_forward_kernel<<<blocks_for(p.x.rows), kRowThreads, 0, stream>>>(p, y);
}

template <typename T, typename Margin>
void margin_input_gradient(const MarginProblem<T, Margin>& p, Matrix<const T> grad, Matrix<T> dx,
                           cudaStream_t stream) {
  if (p.x.rows == 0) return;
  margin_input_gradient_kernel<<<blocks_for(p.x.rows), kRowThreads, 0, stream>>>(p, grad, dx);
}

template <typename T, typename Margin>
void margin_weight_gradient(const MarginProblem<T, Margin>& p, Matrix<const T> grad,
                            Matrix<T> dweight_rows, cudaStream_t stream) {
  if (dweight_rows.rows == 0) return;
  if (p.x.rows > 0 && !p.margin.is_plain()) {
    margin_weight_gradient_kernel<<<blocks_for(p.x.rows), kRowThreads, 0, stream>>>(p, grad,
                                                                                    dweight_rows);
  }
  if constexpr (!Margin::kFreeWeight) {
    const bool aligned = has_aligned_rows(p.weight) && has_aligned_rows(dweight_rows);
    with_packs<T>(p.weight.cols, aligned, [&](auto packs) {
      project_rows_kernel<T, packs>
          <<<blocks_for(dweight_rows.rows), kRowThreads, 0, stream>>>(p.weight, dweight_rows);
    });
  }
}

#define SPHEREFACE_INSTANTIATE(T, Margin)                                                          \
  template void margin_forward(const MarginProblem<T, Margin>&, Matrix<T>, cudaStream_t);          \
  template void margin_input_gradient(const MarginProblem<T, Margin>&, Matrix<const T>, Matrix<T>, \
                                      cudaStream_t);                                               \
  template void margin_weight_gradient(const MarginProblem<T, Margin>&, Matrix<const T>,           \
                                       Matrix<T>, cudaStream_t);
SPHEREFACE_INSTANTIATE(float, ASoftmax)
SPHEREFACE_INSTANTIATE(double, ASoftmax)
SPHEREFACE_INSTANTIATE(__half, ASoftmax)
SPHEREFACE_INSTANTIATE(__nv_bfloat16, ASoftmax)
SPHEREFACE_INSTANTIATE(float, LSoftmax)
SPHEREFACE_INSTANTIATE(double, LSoftmax)
SPHEREFACE_INSTANTIATE(__half, LSoftmax)
SPHEREFACE_INSTANTIATE(__nv_bfloat16, LSoftmax)
SPHEREFACE_INSTANTIATE(float, SphereFace2)
SPHEREFACE_INSTANTIATE(double, SphereFace2)
SPHEREFACE_INSTANTIATE(__half, SphereFace2)
SPHEREFACE_INSTANTIATE(__nv_bfloat16, SphereFace2)
SPHEREFACE_INSTANTIATE(float, CombinedMargin)
SPHEREFACE_INSTANTIATE(double, CombinedMargin)
SPHEREFACE_INSTANTIATE(__half, CombinedMargin)
SPHEREFACE_INSTANTIATE(__nv_bfloat16, CombinedMargin)
SPHEREFACE_INSTANTIATE(float, CosineMargin)
SPHEREFACE_INSTANTIATE(double, CosineMargin)
SPHEREFACE_INSTANTIATE(__half, CosineMargin)
SPHEREFACE_INSTANTIATE(__nv_bfloat16, CosineMargin)
#undef SPHEREFACE_INSTANTIATE

}  // namespace sphereface::cuda
