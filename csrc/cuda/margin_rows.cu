#include "sphereface/margin_rows.h"

#include "launch.h"
#include "warp.cuh"

namespace sphereface::cuda {

namespace {

constexpr int kThreads = kWarpsPerBlock * kWarpSize;

template <typename T, typename Margin>
__global__ void __launch_bounds__(kThreads)
    margin_forward_kernel(MarginProblem<T, Margin> p, Matrix<T> y) {
  for (int64_t i = first_row(); i < p.x.rows; i += row_step()) {
    if (!p.has_margin(i)) continue;
    const double logit = label_logit(p.margin, *p.lambda, label_geometry(p, i));
    if (lane_id() == 0) y.at(i, p.label_column(i)) = rounded<T>(logit);
  }
}

template <typename T, typename Margin>
__global__ void __launch_bounds__(kThreads)
    margin_input_gradient_kernel(MarginProblem<T, Margin> p, Matrix<const T> grad, Matrix<T> dx) {
  for (int64_t i = first_row(); i < p.x.rows; i += row_step()) {
    if (!p.has_margin(i)) continue;
    const LabelGeometry row = label_geometry(p, i);
    if (!row.has_angle()) continue;
    const int64_t j = p.label_column(i);
    const InputUpdate update = input_update(p, row, Scalar<T>::load(grad.at(i, j)));
    const T *w = p.weight.row(j), *x = p.x.row(i);
    T* out = dx.row(i);
#pragma unroll 4
    for (int64_t k = lane_id(); k < p.x.cols; k += kWarpSize) out[k] = update(out[k], w[k], x[k]);
  }
}

// A warp owns a class: it looks through the labels for its own, in order, so that repeated labels
// need no atomics, and then takes the row through the normalisation.
template <typename T, typename Margin>
__global__ void __launch_bounds__(kThreads)
    margin_weight_gradient_kernel(MarginProblem<T, Margin> p, Matrix<const T> grad,
                                  Matrix<T> dweight_rows) {
  for (int64_t j = first_row(); j < dweight_rows.rows; j += row_step()) {
    const T* w = p.weight.row(j);
    T* out = dweight_rows.row(j);
    for (int64_t begin = 0; begin < p.x.rows; begin += kWarpSize) {
      const int64_t mine = begin + lane_id();
      unsigned found = __ballot_sync(
          kAllLanes, mine < p.x.rows && p.has_margin(mine) && p.label_column(mine) == j);
      for (; found != 0; found &= found - 1) {
        const int64_t i = begin + __ffs(found) - 1;
        const WeightUpdate update =
            weight_update(p, label_geometry(p, i), Scalar<T>::load(grad.at(i, j)));
        const T* x = p.x.row(i);
        for (int64_t k = lane_id(); k < p.x.cols; k += kWarpSize) {
          out[k] = update(out[k], x[k], w[k]);
        }
      }
    }
    if (Margin::kFreeWeight) continue;
    const Projection<T> through(row_norm<T>(warp_dot(w, w, p.x.cols)),
                                warp_dot(w, static_cast<const T*>(out), p.x.cols));
#pragma unroll 4
    for (int64_t k = lane_id(); k < p.x.cols; k += kWarpSize) out[k] = through(out[k], w[k]);
  }
}

}  // namespace

template <typename T, typename Margin>
void margin_forward(const MarginProblem<T, Margin>& p, Matrix<T> y, cudaStream_t stream) {
  if (p.x.rows == 0) return;
  margin_forward_kernel<<<blocks_for(p.x.rows), kThreads, 0, stream>>>(p, y);
}

template <typename T, typename Margin>
void margin_input_gradient(const MarginProblem<T, Margin>& p, Matrix<const T> grad, Matrix<T> dx,
                           cudaStream_t stream) {
  if (p.x.rows == 0) return;
  margin_input_gradient_kernel<<<blocks_for(p.x.rows), kThreads, 0, stream>>>(p, grad, dx);
}

template <typename T, typename Margin>
void margin_weight_gradient(const MarginProblem<T, Margin>& p, Matrix<const T> grad,
                            Matrix<T> dweight_rows, cudaStream_t stream) {
  if (dweight_rows.rows == 0) return;
  margin_weight_gradient_kernel<<<blocks_for(dweight_rows.rows), kThreads, 0, stream>>>(
      p, grad, dweight_rows);
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
#undef SPHEREFACE_INSTANTIATE

}  // namespace sphereface::cuda
