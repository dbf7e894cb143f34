#include "sphereface/binary_rows.h"

#include "launch.h"
#include "warp.cuh"

namespace sphereface::cuda {

namespace {

constexpr int kThreads = kWarpsPerBlock * kWarpSize;

// A warp takes a row.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    binary_update_kernel(MarginProblem<T, SphereFace2> p, SoftmaxOptions<T> s,
                         Matrix<const T> entries, SoftmaxRow* rows) {
  using Math = MathOf<T>;
  const BinaryRow<Math> terms(p.margin);
  for (int64_t i = first_row(); i < p.x.rows; i += row_step()) {
    const T* e = entries.row(i);
    const int64_t label = p.has_label(i) ? p.label_column(i) : -1;
    double sum = 0, best = -kInfinity;
    int64_t column = p.weight.rows;
#pragma unroll 4
    for (int64_t j = lane_id(); j < p.weight.rows; j += kWarpSize) {
      const Math bias = s.bias == nullptr ? 0 : s.bias[j];
      const Math z = terms.logit(Scalar<T>::load(e[j]), bias, j == label);
      sum += terms.loss(z, j == label);
      if (j != label && z > best) {
        best = z;
        column = j;
      }
    }
    sum = warp_sum(sum);
    for (int offset = kWarpSize / 2; offset > 0; offset /= 2) {
      const double other = __shfl_xor_sync(kAllLanes, best, offset);
      const long long at = __shfl_xor_sync(kAllLanes, static_cast<long long>(column), offset);
      if (other > best || (other == best && at < column)) {
        best = other;
        column = at;
      }
    }
    if (lane_id() != 0) continue;
    SoftmaxRow& row = rows[i];
    row.sum += sum;
    if (best > row.other) {
      row.other = best;
      row.other_class = p.first_class + column;
    }
    if (label >= 0) {
      const Math entry = Scalar<T>::load(e[label]), bias = s.bias == nullptr ? 0 : s.bias[label];
      row.target = terms.logit(entry, bias, true);
      row.plain = terms.logit(entry, bias, false);
      row.cosine = entry / terms.r;
    }
  }
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    binary_gradient_kernel(MarginProblem<T, SphereFace2> p, SoftmaxOptions<T> s,
                           const MathOf<T>* grad, Matrix<T> entries) {
  using Math = MathOf<T>;
  const BinaryRow<Math> terms(p.margin);
  for (int64_t i = first_row(); i < p.x.rows; i += row_step()) {
    T* e = entries.row(i);
    const int64_t label = p.has_label(i) ? p.label_column(i) : -1;
    const double own = binary_factor(p, i);
    const auto factor = static_cast<Math>(own * grad[i]);
#pragma unroll 4
    for (int64_t j = lane_id(); j < p.weight.rows; j += kWarpSize) {
      Math value = 0;
      if (own != 0) {  // otherwise an ignored row, whose entries may be anything
        const Math bias = s.bias == nullptr ? 0 : s.bias[j];
        const Math z = terms.logit(Scalar<T>::load(e[j]), bias, j == label);
        value = factor * terms.slope(z, j == label);
      }
      e[j] = Scalar<T>::store(value);
    }
  }
}

}  // namespace

template <typename T>
void binary_update(const MarginProblem<T, SphereFace2>& p, const SoftmaxOptions<T>& s,
                   Matrix<const T> entries, SoftmaxRow* rows, cudaStream_t stream) {
  if (p.x.rows == 0) return;
  binary_update_kernel<<<blocks_for(p.x.rows), kThreads, 0, stream>>>(p, s, entries, rows);
}

template <typename T>
void binary_gradient(const MarginProblem<T, SphereFace2>& p, const SoftmaxOptions<T>& s,
                     const MathOf<T>* grad, Matrix<T> entries, cudaStream_t stream) {
  if (p.x.rows == 0) return;
  binary_gradient_kernel<<<blocks_for(p.x.rows), kThreads, 0, stream>>>(p, s, grad, entries);
}

#define SPHEREFACE_INSTANTIATE(T)                                                               \
  template void binary_update(const MarginProblem<T, SphereFace2>&, const SoftmaxOptions<T>&,   \
                              Matrix<const T>, SoftmaxRow*, cudaStream_t);                      \
  template void binary_gradient(const MarginProblem<T, SphereFace2>&, const SoftmaxOptions<T>&, \
                                const MathOf<T>*, Matrix<T>, cudaStream_t);
SPHEREFACE_INSTANTIATE(float)
SPHEREFACE_INSTANTIATE(double)
SPHEREFACE_INSTANTIATE(__half)
SPHEREFACE_INSTANTIATE(__nv_bfloat16)
#undef SPHEREFACE_INSTANTIATE

}  // namespace sphereface::cuda
