#include "launch.h"
#include "warp.cuh"

namespace sphereface::cuda {

namespace {

constexpr int kThreads = kWarpsPerBlock * kWarpSize;

template <typename T>
__global__ void __launch_bounds__(kThreads) margin_forward_kernel(MarginProblem<T> p, Matrix<T> y) {
  for (int64_t i = first_row(); i < p.x.rows; i += row_step()) {
    if (!p.has_margin(i)) continue;
    const double logit = label_logit(p.margin, *p.lambda, label_geometry(p, i));
    if (lane_id() == 0) y.at(i, p.label[i]) = Scalar<T>::store(static_cast<MathOf<T>>(logit));
  }
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    margin_input_gradient_kernel(MarginProblem<T> p, Matrix<const T> grad, Matrix<T> dx) {
  using S = Scalar<T>;
  for (int64_t i = first_row(); i < p.x.rows; i += row_step()) {
    if (!p.has_margin(i)) continue;
    const LabelGeometry row = label_geometry(p, i);
    if (!row.has_angle()) continue;
    const LabelGradient d = label_gradient(p.gradient, p.margin, *p.lambda, row);
    const double g = S::load(grad.at(i, p.label[i]));
    const double on_w = g * (d.weight - 1) / row.w_norm, on_x = g * d.input;
    const T* x = p.x.row(i);
    const T* w = p.weight.row(p.label[i]);
    T* out = dx.row(i);
#pragma unroll 4
    for (int64_t k = lane_id(); k < p.x.cols; k += kWarpSize) {
      const double sum = S::load(out[k]) + on_w * S::load(w[k]) + on_x * S::load(x[k]);
      out[k] = S::store(static_cast<MathOf<T>>(sum));
    }
  }
}

// A warp owns a class: it looks through the labels for its own, in order, so that repeated labels
// need no atomics, and then takes the row through the normalisation.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    margin_weight_gradient_kernel(MarginProblem<T> p, Matrix<const T> grad, int64_t first_class,
                                  Matrix<T> dweight_rows) {
  using S = Scalar<T>;
  using Math = MathOf<T>;
  for (int64_t j = first_row(); j < dweight_rows.rows; j += row_step()) {
    const int64_t label = first_class + j;
    const T* w = p.weight.row(label);
    T* out = dweight_rows.row(j);
    for (int64_t begin = 0; begin < p.x.rows; begin += kWarpSize) {
      const int64_t mine = begin + lane_id();
      unsigned found =
          __ballot_sync(kAllLanes, mine < p.x.rows && p.label[mine] == label && p.has_margin(mine));
      for (; found != 0; found &= found - 1) {
        const int64_t i = begin + __ffs(found) - 1;
        const LabelGradient d =
            label_gradient(p.gradient, p.margin, *p.lambda, label_geometry(p, i));
        const auto a = static_cast<Math>(S::load(grad.at(i, label)) * (d.weight - 1));
        const T* x = p.x.row(i);
        for (int64_t k = lane_id(); k < p.x.cols; k += kWarpSize) {
          out[k] = S::store(S::load(out[k]) + a * S::load(x[k]));
        }
      }
    }
    const double norm = row_norm<T>(warp_dot(w, w, p.x.cols));
    const double inverse = norm == 0 ? 0 : 1 / norm;
    const auto scale = static_cast<Math>(inverse);
    const auto radial =
        static_cast<Math>(inverse * inverse * warp_dot(w, static_cast<const T*>(out), p.x.cols));
#pragma unroll 4
    for (int64_t k = lane_id(); k < p.x.cols; k += kWarpSize) {
      out[k] = S::store(scale * (S::load(out[k]) - radial * S::load(w[k])));
    }
  }
}

}  // namespace

template <typename T>
void margin_forward(const MarginProblem<T>& p, Matrix<T> y, cudaStream_t stream) {
  if (p.x.rows == 0) return;
  margin_forward_kernel<<<blocks_for(p.x.rows), kThreads, 0, stream>>>(p, y);
}

template <typename T>
void margin_input_gradient(const MarginProblem<T>& p, Matrix<const T> grad, Matrix<T> dx,
                           cudaStream_t stream) {
  if (p.x.rows == 0) return;
  margin_input_gradient_kernel<<<blocks_for(p.x.rows), kThreads, 0, stream>>>(p, grad, dx);
}

template <typename T>
void margin_weight_gradient(const MarginProblem<T>& p, Matrix<const T> grad, int64_t first_class,
                            Matrix<T> dweight_rows, cudaStream_t stream) {
  if (dweight_rows.rows == 0) return;
  margin_weight_gradient_kernel<<<blocks_for(dweight_rows.rows), kThreads, 0, stream>>>(
      p, grad, first_class, dweight_rows);
}

#define SPHEREFACE_INSTANTIATE(T)                                                             \
  template void margin_forward<T>(const MarginProblem<T>&, Matrix<T>, cudaStream_t);          \
  template void margin_input_gradient<T>(const MarginProblem<T>&, Matrix<const T>, Matrix<T>, \
                                         cudaStream_t);                                       \
  template void margin_weight_gradient<T>(const MarginProblem<T>&, Matrix<const T>, int64_t,  \
                                          Matrix<T>, cudaStream_t);
SPHEREFACE_INSTANTIATE(float)
SPHEREFACE_INSTANTIATE(double)
SPHEREFACE_INSTANTIATE(__half)
SPHEREFACE_INSTANTIATE(__nv_bfloat16)
#undef SPHEREFACE_INSTANTIATE

}  // namespace sphereface::cuda
