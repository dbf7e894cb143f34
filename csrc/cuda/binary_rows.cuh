// SphereFace2's losses over pieces of the entries: a block takes a row, or a tile of one.
#pragma once

#include "softmax_rows.cuh"
#include "sphereface/binary_rows.h"

namespace sphereface::cuda {

// Not loaded again after a store, which might alias.
template <typename T>
__device__ MathOf<T> bias_of(const SoftmaxOptions<T>& s, int64_t j) {
  return s.bias == nullptr ? 0 : __ldg(s.bias + j);
}

template <typename T, bool kPacked>
__global__ void __launch_bounds__(kSoftmaxThreads)
    binary_update_kernel(MarginProblem<T, SphereFace2> p, SoftmaxOptions<T> s,
                         Matrix<const T> entries, SoftmaxRow* rows) {
  using Math = MathOf<T>;
  constexpr int kValues = kValuesOf<T, kPacked>;
  __shared__ Running<Math> shared[kSoftmaxWarps];
  const BinaryRow<Math> terms(p.margin);
  const int64_t classes = p.weight.rows;
  for (int64_t i = blockIdx.x; i < p.x.rows; i += gridDim.x) {
    const T* e = entries.row(i);
    const int64_t label = p.has_label(i) ? p.label_column(i) : -1;
    Running<Math> mine;  // its `weighted`, which no base changes, is the sum of the losses
    for_values<T, kPacked>(e, classes, [&](auto& values, const auto& column) {
#pragma unroll
      for (int v = 0; v < kValues; ++v) {
        const int64_t j = column(v);
        if (j >= classes) continue;
        const Math z = terms.logit(values[v], bias_of(s, j), j == label);
        mine.weighted += terms.loss(z, j == label);
        if (j != label) mine.look_at(z, j);
      }
    });
    const Running<Math> total = block_total(mine, shared);
    if (threadIdx.x == 0) {
      SoftmaxRow& row = rows[i];
      row.sum += total.weighted;
      if (total.value > row.other) {
        row.other = total.value;
        row.other_class = p.first_class + total.column;
      }
      if (label >= 0) {
        const Math entry = Scalar<T>::load(e[label]), bias = bias_of(s, label);
        row.target = terms.logit(entry, bias, true);
        row.plain = terms.logit(entry, bias, false);
        row.cosine = entry / terms.r;
      }
    }
    __syncthreads();  // `shared` is free again
  }
}

template <typename T, bool kPacked>
__global__ void __launch_bounds__(kSoftmaxThreads)
    binary_gradient_kernel(MarginProblem<T, SphereFace2> p, SoftmaxOptions<T> s,
                           const MathOf<T>* grad, Matrix<T> entries) {
  using S = Scalar<T>;
  using Math = MathOf<T>;
  const BinaryRow<Math> terms(p.margin);
  const int64_t classes = p.weight.rows, tiles = (classes + kTile - 1) / kTile;
  for (int64_t item = blockIdx.x; item < p.x.rows * tiles; item += gridDim.x) {
    const int64_t i = item / tiles, first = item % tiles * kTile;
    const int64_t end = first + kTile < classes ? first + kTile : classes;
    const int64_t label = p.has_label(i) ? p.label_column(i) : -1;
    const auto factor = static_cast<Math>(binary_gradient_factor(p, i, grad[i]));
    replace_columns<T, kPacked>(
        entries.row(i), first, end, -1, S::store(0), [&](T entry, int64_t j) {
          if (factor == 0) return S::store(0);  // an ignored row, whose entries may be anything
          const Math bias = j < end ? bias_of(s, j) : 0;
          const Math z = terms.logit(S::load(entry), bias, j == label);
          return S::store(factor * terms.slope(z, j == label));
        });
  }
}

}  // namespace sphereface::cuda
