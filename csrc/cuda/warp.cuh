// One warp takes one row: sums over its columns, and the grid that covers all rows.
#pragma once

#include <cstdint>

#include "sphereface/problem.h"

namespace sphereface::cuda {

constexpr int kWarpSize = 32;
constexpr int kWarpsPerBlock = 8;
constexpr int kRowThreads = kWarpsPerBlock * kWarpSize;
constexpr unsigned kAllLanes = 0xffffffffu;
constexpr int64_t kMaxBlocks = int64_t{1} << 30;

inline unsigned blocks_for(int64_t rows) {
  const int64_t blocks = (rows + kWarpsPerBlock - 1) / kWarpsPerBlock;
  return static_cast<unsigned>(blocks < kMaxBlocks ? blocks : kMaxBlocks);
}

// For kernels whose blocks take one item at a time.
inline unsigned item_blocks(int64_t items) {
  return static_cast<unsigned>(items < kMaxBlocks ? items : kMaxBlocks);
}

__device__ inline int lane_id() { return threadIdx.x % kWarpSize; }
__device__ inline int64_t first_row() {
  return int64_t{blockIdx.x} * kWarpsPerBlock + threadIdx.x / kWarpSize;
}
__device__ inline int64_t row_step() { return int64_t{gridDim.x} * kWarpsPerBlock; }

// The sum of `value` over the lanes, the same in every lane and in every run.
__device__ inline double warp_sum(double value) {
  for (int offset = kWarpSize / 2; offset > 0; offset /= 2) {
    value += __shfl_xor_sync(kAllLanes, value, offset);
  }
  return value;
}

// In double, as on the CPU (csrc/cpu/vector.h).
template <typename A, typename B>
__device__ double warp_dot(const A* a, const B* b, int64_t count) {
  double sum = 0;
#pragma unroll 4
  for (int64_t k = lane_id(); k < count; k += kWarpSize) {
    sum += double{Scalar<A>::load(a[k])} * double{Scalar<B>::load(b[k])};
  }
  return warp_sum(sum);
}

template <typename T, typename Margin>
__device__ LabelGeometry label_geometry(const MarginProblem<T, Margin>& p, int64_t i) {
  const T* x = p.x.row(i);
  const T* w = p.weight.row(p.label_column(i));
  double xx = 0, ww = 0, xw = 0;
#pragma unroll 4
  for (int64_t k = lane_id(); k < p.x.cols; k += kWarpSize) {
    const double a = Scalar<T>::load(x[k]), b = Scalar<T>::load(w[k]);
    xx += a * a;
    ww += b * b;
    xw += a * b;
  }
  return seen_by(p.margin, {row_norm<T>(warp_sum(xx)), row_norm<T>(warp_sum(ww)), warp_sum(xw)});
}

}  // namespace sphereface::cuda
