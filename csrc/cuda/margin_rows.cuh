// What the margin adds to the logits, to dx and to dweight: a warp takes a row.
#pragma once

#include "packs.cuh"
#include "sphereface/margin_rows.h"
#include "warp.cuh"

namespace sphereface::cuda {

template <typename T, typename Margin>
__global__ void __launch_bounds__(kRowThreads)
    margin_forward_kernel(MarginProblem<T, Margin> p, Matrix<T> y) {
  for (int64_t i = first_row(); i < p.x.rows; i += row_step()) {
    if (!p.has_margin(i)) continue;
    const double logit = label_logit(p.margin, *p.lambda, label_geometry(p, i));
    if (lane_id() == 0) y.at(i, p.label_column(i)) = rounded<T>(logit);
  }
}

template <typename T, typename Margin>
__global__ void __launch_bounds__(kRowThreads)
    margin_input_gradient_kernel(MarginProblem<T, Margin> p, Matrix<const T> grad, Matrix<T> dx) {
  for (int64_t i = first_row(); i < p.x.rows; i += row_step()) {
    if (!p.has_margin(i)) continue;
    const LabelGeometry row = label_geometry(p, i);
    if (!row.has_angle()) continue;
    const int64_t j = p.label_column(i);
    const InputUpdate update = input_update(p, row, Scalar<T>::load(grad.at(i, j)));
    const T* __restrict__ w = p.weight.row(j);
    const T* __restrict__ x = p.x.row(i);
    T* __restrict__ out = dx.row(i);
#pragma unroll 4
    for (int64_t k = lane_id(); k < p.x.cols; k += kWarpSize) out[k] = update(out[k], w[k], x[k]);
  }
}

// The rows of the batch from `begin` on, up to 32 of them, with the label of row i: a bit for each.
template <typename T, typename Margin>
__device__ unsigned rows_with_label_of(const MarginProblem<T, Margin>& p, int64_t i, int64_t begin,
                                       int64_t end) {
  const int64_t mine = begin + lane_id();
  return __ballot_sync(kAllLanes, mine < end && p.label[mine] == p.label[i]);
}

// The warp of the first row with a label adds what all rows of that label have for its class, in
// their order: no atomics, no search of the batch for classes that are nobody's label, and the same
// sum in every run.
template <typename T, typename Margin>
__global__ void __launch_bounds__(kRowThreads)
    margin_weight_gradient_kernel(MarginProblem<T, Margin> p, Matrix<const T> grad,
                                  Matrix<T> dweight_rows) {
  for (int64_t first = first_row(); first < p.x.rows; first += row_step()) {
    if (!p.has_margin(first)) continue;
    bool is_first = true;
    for (int64_t begin = 0; is_first && begin < first; begin += kWarpSize) {
      is_first = rows_with_label_of(p, first, begin, first) == 0;
    }
    if (!is_first) continue;
    const int64_t j = p.label_column(first);
    const T* __restrict__ w = p.weight.row(j);
    T* __restrict__ out = dweight_rows.row(j);
    for (int64_t begin = first; begin < p.x.rows; begin += kWarpSize) {
      unsigned found = rows_with_label_of(p, first, begin, p.x.rows);
      for (; found != 0; found &= found - 1) {
        const int64_t i = begin + __ffs(found) - 1;
        const WeightUpdate update =
            weight_update(p, label_geometry(p, i), Scalar<T>::load(grad.at(i, j)));
        const T* __restrict__ x = p.x.row(i);
#pragma unroll 4
        for (int64_t k = lane_id(); k < p.x.cols; k += kWarpSize)
          out[k] = update(out[k], x[k], w[k]);
      }
    }
  }
}

// Rows of dweight through the normalisation. kPacks: of with_packs.
template <typename T, int kPacks>
__global__ void __launch_bounds__(kRowThreads)
    project_rows_kernel(Matrix<const T> weight, Matrix<T> dweight_rows) {
  using S = Scalar<T>;
  for (int64_t j = first_row(); j < dweight_rows.rows; j += row_step()) {
    const T* __restrict__ w = weight.row(j);
    T* __restrict__ out = dweight_rows.row(j);
    double ww = 0, wd = 0;
    const auto add = [&](T w_k, T d_k) {
      const double a = S::load(w_k);
      ww += a * a;
      wd += a * double{S::load(d_k)};
    };
    if constexpr (kPacks > 0) {
      const auto w_row = PackedRow<T, kPacks>::load(w, weight.cols);
      auto d_row = PackedRow<T, kPacks>::load(out, weight.cols);
      d_row.each_with(w_row, [&](T& d_k, T w_k) { add(w_k, d_k); });
      const Projection<T> through(row_norm<T>(warp_sum(ww)), warp_sum(wd));
      d_row.each_with(w_row, [&](T& d_k, T w_k) { d_k = through(d_k, w_k); });
      d_row.store(out, weight.cols);
    } else {
#pragma unroll 4
      for (int64_t k = lane_id(); k < weight.cols; k += kWarpSize) add(w[k], out[k]);
      const Projection<T> through(row_norm<T>(warp_sum(ww)), warp_sum(wd));
#pragma unroll 4
      for (int64_t k = lane_id(); k < weight.cols; k += kWarpSize) out[k] = through(out[k], w[k]);
    }
  }
}

}  // namespace sphereface::cuda
