// Softmax over pieces of the logits: a block takes a row, or a tile of one.
#pragma once

#include "packs.cuh"
#include "sphereface/softmax_rows.h"
#include "warp.cuh"

namespace sphereface::cuda {

constexpr int kSoftmaxThreads = 512;
constexpr int kSoftmaxWarps = kSoftmaxThreads / kWarpSize;
constexpr int kPacksInFlight = 4;
constexpr int64_t kTile = 16384;  // columns of a row that a block turns into their gradient

constexpr int64_t kNoColumn = std::numeric_limits<int64_t>::max();

__device__ inline float exponential(float x) { return expf(x); }
__device__ inline double exponential(double x) { return exp(x); }

// The largest of a thread's logits but the label's, its column, and sum exp(z - value) of all that
// came by.
template <typename Math>
struct Running {
  Math value = static_cast<Math>(-kInfinity);
  int64_t column = kNoColumn;
  double sum = 0, weighted = 0;

  __device__ void look_at(Math other, int64_t at) {
    if (other > value || (other == value && at < column)) {
      value = other;
      column = at;
    }
  }
};

// What a sum of exp(z - from) is multiplied with to be one of exp(z - to). A NaN among the z stays.
template <typename Math>
__device__ Math change_of_base(Math from, Math to) {
  return from == to ? Math(1) : exponential(from - to);
}

// The largest of the lanes, in every lane.
template <typename Math>
__device__ void warp_largest(Running<Math>& running) {
  for (int offset = kWarpSize / 2; offset > 0; offset /= 2) {
    const Math value = __shfl_xor_sync(kAllLanes, running.value, offset);
    const long long column =
        __shfl_xor_sync(kAllLanes, static_cast<long long>(running.column), offset);
    running.look_at(value, column);
  }
}

// Over the block, whole in the first warp; the same in every run.
template <typename Math>
__device__ Running<Math> block_total(const Running<Math>& mine, Running<Math>* shared) {
  const int warp = threadIdx.x / kWarpSize;
  Running<Math> total = mine;
  warp_largest(total);
  if (lane_id() == 0) shared[warp] = total;
  __syncthreads();
  total = lane_id() < kSoftmaxWarps ? shared[lane_id()] : Running<Math>();
  warp_largest(total);
  const double sum = warp_sum(mine.sum * change_of_base(mine.value, total.value));
  const double weighted = warp_sum(mine.weighted);
  __syncthreads();
  if (lane_id() == 0) {
    shared[warp].sum = sum;
    shared[warp].weighted = weighted;
  }
  __syncthreads();
  total.sum = warp_sum(lane_id() < kSoftmaxWarps ? shared[lane_id()].sum : 0);
  total.weighted = warp_sum(lane_id() < kSoftmaxWarps ? shared[lane_id()].weighted : 0);
  return total;
}
static_assert(kSoftmaxWarps <= kWarpSize);

// Takes n values in; column(v) is that of value v. Their sum is in Math, that over many calls in
// double.
template <int n, typename Math, typename Column>
__device__ void take_values(Running<Math>& running, const Math (&values)[n], const Column& column) {
  Math top = values[0];
#pragma unroll
  for (int v = 1; v < n; ++v) top = values[v] > top ? values[v] : top;
  if (top > running.value) {
    running.sum *= change_of_base(running.value, top);
    running.value = top;
#pragma unroll
    for (int v = n - 1; v >= 0; --v) {
      if (values[v] == top) running.column = column(v);
    }
  }
  const Math base = running.column == kNoColumn ? 0 : running.value;
  Math sum = 0;
#pragma unroll
  for (int v = 0; v < n; ++v) sum += exponential(values[v] - base);
  running.sum += sum;
}

// How many columns of a row a thread has in flight. kPacked: the row is aligned.
template <typename T, bool kPacked>
constexpr int kPackOf = kPacked ? kPackSize<T> : 1;
template <typename T, bool kPacked>
constexpr int kValuesOf = kPacksInFlight * kPackOf<T, kPacked>;

// Calls take(values, column) with a thread's share of a row, so many values at a time; column(v) is
// that of value v, and -infinity stands beyond the last.
template <typename T, bool kPacked, typename Take>
__device__ void for_values(const T* z, int64_t classes, const Take& take) {
  using S = Scalar<T>;
  using Math = MathOf<T>;
  constexpr int kPack = kPackOf<T, kPacked>, kValues = kValuesOf<T, kPacked>;
  constexpr Math kNone = static_cast<Math>(-kInfinity);
  for (int64_t begin = int64_t{threadIdx.x} * kPack; begin < classes;
       begin += int64_t{kSoftmaxThreads} * kValues) {
    const auto column = [&](int v) {
      return begin + int64_t{v / kPack} * (kSoftmaxThreads * kPack) + v % kPack;
    };
    Math values[kValues];
#pragma unroll
    for (int v = 0; v < kValues; v += kPack) {
      if (kPacked && column(v) + kPack <= classes) {
        const Pack<T> pack = Pack<T>::load(z + column(v));
#pragma unroll
        for (int e = 0; e < kPack; ++e) values[v + e] = S::load(pack.values[e]);
      } else {
#pragma unroll
        for (int e = 0; e < kPack; ++e) {
          values[v + e] = column(v + e) < classes ? S::load(z[column(v + e)]) : kNone;
        }
      }
    }
    take(values, column);
  }
}

// A thread's share of a row without the label's column.
template <typename T, bool kPacked>
__device__ Running<MathOf<T>> running_share(const T* z, int64_t classes, int64_t label,
                                            bool weighted, const MathOf<T>* class_weight) {
  using Math = MathOf<T>;
  constexpr int kPack = kPackOf<T, kPacked>, kValues = kValuesOf<T, kPacked>;
  Running<Math> running;
  for_values<T, kPacked>(z, classes, [&](auto& values, const auto& column) {
    if (weighted) {
#pragma unroll
      for (int v = 0; v < kValues; ++v) {
        if (column(v) >= classes) continue;
        const double value = values[v];
        running.weighted += class_weight == nullptr ? value : class_weight[column(v)] * value;
      }
    }
#pragma unroll
    for (int v = 0; v < kValues; v += kPack) {
      const int64_t at = label - column(v);
      if (at < 0 || at >= kPack) continue;
#pragma unroll
      for (int e = 0; e < kPack; ++e) {
        values[v + e] = e == at ? static_cast<Math>(-kInfinity) : values[v + e];
      }
    }
    take_values(running, values, column);
  });
  return running;
}

// A block takes a row.
template <typename T, typename Margin, bool kPacked>
__global__ void __launch_bounds__(kSoftmaxThreads)
    softmax_update_kernel(MarginProblem<T, Margin> p, SoftmaxOptions<T> s, Matrix<const T> logits,
                          SoftmaxRow* rows) {
  using Math = MathOf<T>;
  __shared__ Running<Math> shared[kSoftmaxWarps];
  for (int64_t i = blockIdx.x; i < p.x.rows; i += gridDim.x) {
    const T* z = logits.row(i);
    const bool here = p.has_label(i);
    const int64_t label = here ? p.label_column(i) : -1;
    const Running<Math> total = block_total(
        running_share<T, kPacked>(z, p.weight.rows, label, s.label_smoothing != 0, s.class_weight),
        shared);
    if (threadIdx.x < kWarpSize) {
      SoftmaxRow row = rows[i];
      if (here) {
        const LabelGeometry geometry = label_geometry(p, i);
        row.target = Scalar<T>::load(z[label]);
        row.plain = p.has_margin(i) ? plain_logit(p.margin, geometry) : row.target;
        row.cosine = geometry.has_angle() ? geometry.cosine() : 0;
      }
      const double largest = total.value, old = row.max;
      if (largest > row.other) {
        row.other = largest;
        row.other_class = p.first_class + total.column;
      }
      const double max = row.target > row.other ? row.target : row.other;
      if (max > old) row.max = max;
      row.sum = row.sum * change_of_base(old, row.max) +
                total.sum * change_of_base(largest, row.max) +
                (here ? change_of_base(row.target, row.max) : 0);
      row.weighted += total.weighted;
      if (lane_id() == 0) rows[i] = row;
    }
    __syncthreads();  // `shared` is free again
  }
}

template <typename T, typename Margin>
__global__ void softmax_finish_kernel(MarginProblem<T, Margin> p, SoftmaxOptions<T> s,
                                      const SoftmaxRow* rows, SoftmaxResult<T> result) {
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < p.x.rows; i += step) {
    store_softmax_row(p, s, rows[i], i, result);
  }
}

// A row's factors, in MathOf<T>; what rounding lse loses is in on_p.
template <typename T>
struct RowGradient {
  MathOf<T> on_p, on_w, lse;
  T of_label;  // the label's entry, made in double: p - 1 loses digits where p is near 1
};

// For the columns of a tile; `label` is none of them where it is negative.
template <typename T, typename Margin>
__device__ RowGradient<T> row_gradient(const MarginProblem<T, Margin>& p,
                                       const SoftmaxOptions<T>& s, int64_t i, MathOf<T> grad,
                                       double lse, const T* z, int64_t label) {
  using Math = MathOf<T>;
  const SoftmaxGradient d = softmax_gradient_of(p, s, i, grad);
  const Math rounded_lse = static_cast<Math>(lse);
  RowGradient<T> row{static_cast<Math>(d.on_p * exp(rounded_lse - lse)), static_cast<Math>(d.on_w),
                     rounded_lse, Scalar<T>::store(0)};
  if (d.on_p != 0 && label >= 0) {
    const double target = Scalar<T>::load(z[label]);
    const double share = s.class_weight == nullptr ? d.on_w : d.on_w * s.class_weight[label];
    row.of_label =
        Scalar<T>::store(static_cast<Math>(d.on_p * exp(target - lse) - share - d.on_label));
  }
  return row;
}

// Replaces columns [first, end) of a row by of(logit, column), the label's by of_label.
template <typename T, bool kPacked, typename Of>
__device__ void replace_columns(T* z, int64_t first, int64_t end, int64_t label, T of_label,
                                const Of& of) {
  constexpr int kPack = kPacked ? kPackSize<T> : 1;
  for (int64_t begin = first + int64_t{threadIdx.x} * kPack; begin < end;
       begin += int64_t{kSoftmaxThreads} * kPack * kPacksInFlight) {
    const auto column = [&](int n) { return begin + int64_t{n} * (kSoftmaxThreads * kPack); };
    T values[kPacksInFlight][kPack];
#pragma unroll
    for (int n = 0; n < kPacksInFlight; ++n) {
      if (kPacked && column(n) + kPack <= end) {
        const Pack<T> pack = Pack<T>::load(z + column(n));
#pragma unroll
        for (int e = 0; e < kPack; ++e) values[n][e] = pack.values[e % kPackSize<T>];
      } else {
#pragma unroll
        for (int e = 0; e < kPack; ++e) {
          values[n][e] = column(n) + e < end ? z[column(n) + e] : Scalar<T>::store(0);
        }
      }
    }
#pragma unroll
    for (int n = 0; n < kPacksInFlight; ++n) {
      const int64_t at = label - column(n);
#pragma unroll
      for (int e = 0; e < kPack; ++e) {
        values[n][e] = e == at ? of_label : of(values[n][e], column(n) + e);
      }
      if (kPacked && column(n) + kPack <= end) {
        Pack<T> pack;
#pragma unroll
        for (int e = 0; e < kPackSize<T>; ++e) pack.values[e] = values[n][e % kPack];
        pack.store(z + column(n));
      } else {
#pragma unroll
        for (int e = 0; e < kPack; ++e) {
          if (column(n) + e < end) z[column(n) + e] = values[n][e];
        }
      }
    }
  }
}

// A block takes kTile columns of a row, so that a small batch covers the device as well.
template <typename T, typename Margin, bool kPacked>
__global__ void __launch_bounds__(kSoftmaxThreads)
    softmax_gradient_kernel(MarginProblem<T, Margin> p, SoftmaxOptions<T> s, const MathOf<T>* grad,
                            const double* lse, Matrix<T> logits) {
  using S = Scalar<T>;
  using Math = MathOf<T>;
  __shared__ RowGradient<T> shared;
  const int64_t classes = p.weight.rows, tiles = (classes + kTile - 1) / kTile;
  for (int64_t item = blockIdx.x; item < p.x.rows * tiles; item += gridDim.x) {
    const int64_t i = item / tiles, first = item % tiles * kTile;
    const int64_t end = first + kTile < classes ? first + kTile : classes;
    int64_t label = p.has_label(i) ? p.label_column(i) : -1;
    if (label < first || label >= end) label = -1;  // another block has its column
    T* z = logits.row(i);
    if (threadIdx.x == 0) shared = row_gradient(p, s, i, grad[i], lse[i], z, label);
    __syncthreads();
    const RowGradient<T> row = shared;
    const auto probability = [&](T logit) {
      return row.on_p * exponential(S::load(logit) - row.lse);
    };
    if (row.on_p == 0) {  // an ignored row, whose logits may be anything
      replace_columns<T, kPacked>(z, first, end, label, row.of_label,
                                  [&](T, int64_t) { return S::store(0); });
    } else if (row.on_w == 0) {
      replace_columns<T, kPacked>(z, first, end, label, row.of_label,
                                  [&](T logit, int64_t) { return S::store(probability(logit)); });
    } else {
      replace_columns<T, kPacked>(z, first, end, label, row.of_label, [&](T logit, int64_t j) {
        const Math weight = s.class_weight == nullptr || j >= end ? 1 : __ldg(s.class_weight + j);
        return S::store(probability(logit) - row.on_w * weight);
      });
    }
    __syncthreads();  // `shared` is free again
  }
}

template <typename T>
__global__ void add_kernel(Matrix<const T> piece, Matrix<MathOf<T>> sum, bool first) {
  for (int64_t i = blockIdx.x; i < piece.rows; i += gridDim.x) {
    for (int64_t k = threadIdx.x; k < piece.cols; k += blockDim.x) {
      const MathOf<T> value = Scalar<T>::load(piece.row(i)[k]);
      sum.row(i)[k] = first ? value : sum.row(i)[k] + value;
    }
  }
}

template <typename T>
__global__ void round_kernel(Matrix<const MathOf<T>> sum, Matrix<T> dx) {
  for (int64_t i = blockIdx.x; i < dx.rows; i += gridDim.x) {
    for (int64_t k = threadIdx.x; k < dx.cols; k += blockDim.x) {
      dx.row(i)[k] = Scalar<T>::store(sum.row(i)[k]);
    }
  }
}

}  // namespace sphereface::cuda
