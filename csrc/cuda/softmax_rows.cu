#include "sphereface/softmax_rows.h"

#include "launch.h"
#include "warp.cuh"

namespace sphereface::cuda {

namespace {

constexpr int kThreads = kWarpsPerBlock * kWarpSize;
constexpr int64_t kMaxRowBlocks = int64_t{1} << 20;

unsigned block_rows(int64_t rows) {
  return static_cast<unsigned>(rows < kMaxRowBlocks ? rows : kMaxRowBlocks);
}

__device__ inline float exponential(float x) { return expf(x); }
__device__ inline double exponential(double x) { return exp(x); }

// The sum over the block, the same in every thread and in every run.
__device__ double block_sum(double value, double* shared) {
  value = warp_sum(value);
  __syncthreads();
  if (lane_id() == 0) shared[threadIdx.x / kWarpSize] = value;
  __syncthreads();
  double sum = 0;
  for (int w = 0; w < kWarpsPerBlock; ++w) sum += shared[w];
  return sum;
}

struct Best {
  double value;
  int64_t column;

  __device__ void take(double other, int64_t at) {
    if (other > value || (other == value && at < column)) {
      value = other;
      column = at;
    }
  }
};

__device__ Best block_best(Best best, Best* shared) {
  for (int offset = kWarpSize / 2; offset > 0; offset /= 2) {
    const double value = __shfl_xor_sync(kAllLanes, best.value, offset);
    const long long column =
        __shfl_xor_sync(kAllLanes, static_cast<long long>(best.column), offset);
    best.take(value, column);
  }
  __syncthreads();
  if (lane_id() == 0) shared[threadIdx.x / kWarpSize] = best;
  __syncthreads();
  for (int w = 0; w < kWarpsPerBlock; ++w) best.take(shared[w].value, shared[w].column);
  return best;
}

// A block takes a row.
template <typename T, typename Margin>
__global__ void __launch_bounds__(kThreads)
    softmax_update_kernel(MarginProblem<T, Margin> p, SoftmaxOptions<T> s, Matrix<const T> logits,
                          SoftmaxRow* rows) {
  using S = Scalar<T>;
  using Math = MathOf<T>;
  __shared__ double sums[kWarpsPerBlock];
  __shared__ Best bests[kWarpsPerBlock];
  const int64_t classes = p.weight.rows;
  for (int64_t i = blockIdx.x; i < p.x.rows; i += gridDim.x) {
    const T* z = logits.row(i);
    const bool here = p.has_label(i);
    const int64_t label = here ? p.label_column(i) : -1;
    Best best{-kInfinity, classes};
#pragma unroll 4
    for (int64_t j = threadIdx.x; j < classes; j += kThreads) {
      if (j != label) best.take(S::load(z[j]), j);
    }
    best = block_best(best, bests);
    SoftmaxRow row = rows[i];
    if (here) row.target = S::load(z[label]);
    if (best.value > row.other) {
      row.other = best.value;
      row.other_class = p.first_class + best.column;
    }
    const double max = row.target > row.other ? row.target : row.other;
    if (max > row.max) {
      row.sum *= exp(row.max - max);
      row.max = max;
    }
    const Math top = static_cast<Math>(row.max);
    double sum = 0, weighted = 0;
#pragma unroll 4
    for (int64_t j = threadIdx.x; j < classes; j += kThreads) {
      sum += exponential(S::load(z[j]) - top);
    }
    row.sum += block_sum(sum, sums);
    if (s.label_smoothing != 0) {
      for (int64_t j = threadIdx.x; j < classes; j += kThreads) {
        const double value = S::load(z[j]);
        weighted += s.class_weight == nullptr ? value : s.class_weight[j] * value;
      }
      row.weighted += block_sum(weighted, sums);
    }
    if (here && threadIdx.x < kWarpSize) {
      const LabelGeometry geometry = label_geometry(p, i);
      row.plain = p.has_margin(i) ? plain_logit(p.margin, geometry) : row.target;
      row.cosine = geometry.has_angle() ? geometry.cosine() : 0;
    }
    __syncthreads();  // every thread has read rows[i]
    if (threadIdx.x == 0) rows[i] = row;
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

template <typename T, typename Margin>
__global__ void __launch_bounds__(kThreads)
    softmax_gradient_kernel(MarginProblem<T, Margin> p, SoftmaxOptions<T> s, const MathOf<T>* grad,
                            const double* lse, Matrix<T> logits) {
  using S = Scalar<T>;
  using Math = MathOf<T>;
  const int64_t classes = p.weight.rows;
  for (int64_t i = blockIdx.x; i < p.x.rows; i += gridDim.x) {
    T* z = logits.row(i);
    const SoftmaxGradient d = softmax_gradient_of(p, s, i, grad[i]);
    const int64_t label = p.has_label(i) ? p.label_column(i) : -1;
    // What rounding lse to Math loses goes into the factor.
    const Math rounded_lse = static_cast<Math>(lse[i]);
    const auto on_p = static_cast<Math>(d.on_p * exp(rounded_lse - lse[i]));
    const auto on_w = static_cast<Math>(d.on_w);
#pragma unroll 4
    for (int64_t j = threadIdx.x; j < classes; j += kThreads) {
      Math value = 0;
      if (d.on_p != 0) {  // otherwise an ignored row, whose logits may be anything
        const Math share = s.class_weight == nullptr ? on_w : on_w * s.class_weight[j];
        value = on_p * exponential(S::load(z[j]) - rounded_lse) - share;
        if (j == label) value -= static_cast<Math>(d.on_label);
      }
      z[j] = S::store(value);
    }
  }
}

__global__ void clear_rows_kernel(SoftmaxRow* rows, int64_t count) {
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += step) {
    rows[i] = SoftmaxRow::empty();
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

}  // namespace

void clear_rows(SoftmaxRow* rows, int64_t count, cudaStream_t stream) {
  if (count > 0) clear_rows_kernel<<<blocks_for(count), kThreads, 0, stream>>>(rows, count);
}

template <typename T, typename Margin>
void softmax_update(const MarginProblem<T, Margin>& p, const SoftmaxOptions<T>& s,
                    Matrix<const T> logits, SoftmaxRow* rows, cudaStream_t stream) {
  if (p.x.rows == 0 || p.weight.rows == 0) return;
  if constexpr (kIsBinary<Margin>) {
    binary_update(p, s, logits, rows, stream);
  } else {
    softmax_update_kernel<<<block_rows(p.x.rows), kThreads, 0, stream>>>(p, s, logits, rows);
  }
}

template <typename T, typename Margin>
void softmax_finish(const MarginProblem<T, Margin>& p, const SoftmaxOptions<T>& s,
                    const SoftmaxRow* rows, const SoftmaxResult<T>& result, cudaStream_t stream) {
  if (p.x.rows == 0) return;
  softmax_finish_kernel<<<blocks_for(p.x.rows), kThreads, 0, stream>>>(p, s, rows, result);
}

template <typename T, typename Margin>
void softmax_gradient(const MarginProblem<T, Margin>& p, const SoftmaxOptions<T>& s,
                      const MathOf<T>* grad, const double* lse, Matrix<T> logits,
                      cudaStream_t stream) {
  if (p.x.rows == 0 || p.weight.rows == 0) return;
  if constexpr (kIsBinary<Margin>) {
    binary_gradient(p, s, grad, logits, stream);
  } else {
    softmax_gradient_kernel<<<block_rows(p.x.rows), kThreads, 0, stream>>>(p, s, grad, lse, logits);
  }
}

template <typename T>
void add(Matrix<const T> piece, Matrix<MathOf<T>> sum, bool first, cudaStream_t stream) {
  if (piece.rows == 0) return;
  add_kernel<<<block_rows(piece.rows), kThreads, 0, stream>>>(piece, sum, first);
}

template <typename T>
void round(Matrix<const MathOf<T>> sum, Matrix<T> dx, cudaStream_t stream) {
  if (dx.rows == 0) return;
  round_kernel<<<block_rows(dx.rows), kThreads, 0, stream>>>(sum, dx);
}

#define SPHEREFACE_INSTANTIATE(T, Margin)                                                   \
  template void softmax_update(const MarginProblem<T, Margin>&, const SoftmaxOptions<T>&,   \
                               Matrix<const T>, SoftmaxRow*, cudaStream_t);                 \
  template void softmax_finish(const MarginProblem<T, Margin>&, const SoftmaxOptions<T>&,   \
                               const SoftmaxRow*, const SoftmaxResult<T>&, cudaStream_t);   \
  template void softmax_gradient(const MarginProblem<T, Margin>&, const SoftmaxOptions<T>&, \
                                 const MathOf<T>*, const double*, Matrix<T>, cudaStream_t);
#define SPHEREFACE_INSTANTIATE_ALL(T)                                        \
  SPHEREFACE_INSTANTIATE(T, ASoftmax)                                        \
  SPHEREFACE_INSTANTIATE(T, LSoftmax)                                        \
  SPHEREFACE_INSTANTIATE(T, SphereFace2)                                     \
  SPHEREFACE_INSTANTIATE(T, CombinedMargin)                                  \
  template void add(Matrix<const T>, Matrix<MathOf<T>>, bool, cudaStream_t); \
  template void round(Matrix<const MathOf<T>>, Matrix<T>, cudaStream_t);
SPHEREFACE_INSTANTIATE_ALL(float)
SPHEREFACE_INSTANTIATE_ALL(double)
SPHEREFACE_INSTANTIATE_ALL(__half)
SPHEREFACE_INSTANTIATE_ALL(__nv_bfloat16)
#undef SPHEREFACE_INSTANTIATE_ALL
#undef SPHEREFACE_INSTANTIATE

}  // namespace sphereface::cuda
