// A warp normalises a row.
#pragma once

#include "packs.cuh"
#include "warp.cuh"

namespace sphereface::cuda {

// kPacks: of with_packs.
template <typename T, int kPacks>
__global__ void __launch_bounds__(kRowThreads)
    normalize_rows_kernel(Matrix<const T> from, Matrix<T> to) {
  using S = Scalar<T>;
  for (int64_t i = first_row(); i < from.rows; i += row_step()) {
    const T* source = from.row(i);
    T* target = to.row(i);
    if constexpr (kPacks > 0) {
      auto row = PackedRow<T, kPacks>::load(source, from.cols);
      double squared = 0;
      row.each_with(row, [&](T& a, T) { squared += double{S::load(a)} * double{S::load(a)}; });
      const MathOf<T> scale = unit_scale<T>(warp_sum(squared));
      if (scale == 1 && source == target) continue;
      row.each_with(row, [&](T& a, T) { a = S::store(scale * S::load(a)); });
      row.store(target, from.cols);
    } else {
      const MathOf<T> scale = unit_scale<T>(warp_dot(source, source, from.cols));
      if (scale == 1 && source == target) continue;
#pragma unroll 4
      for (int64_t k = lane_id(); k < from.cols; k += kWarpSize) {
        target[k] = S::store(scale * S::load(source[k]));
      }
    }
  }
}

}  // namespace sphereface::cuda
