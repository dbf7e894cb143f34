// The CUDA counterparts of sphereface/cpu.h, for float, double, __half and __nv_bfloat16 storage.
// Everything is asynchronous on `stream`: nothing is allocated, read back or synchronised, so the
// calls can be captured in a CUDA graph. Launch errors are left for cudaGetLastError().
//
// A label outside [0, N) leaves its row a plain product; values that are not finite show in their
// row of the result. Sizes and offsets are 64-bit; sums have a fixed order.
#pragma once

#include <cuda_runtime_api.h>

#include "scalar.h"
#include "sphereface/annealing.h"
#include "sphereface/problem.h"
#include "sphereface/softmax_rows.h"

namespace sphereface::cuda {

template <typename T>
void normalize_rows(Matrix<const T> from, Matrix<T> to, cudaStream_t stream);

template <typename T, typename Margin>
void margin_forward(const MarginProblem<T, Margin>& problem, Matrix<T> y, cudaStream_t stream);

template <typename T, typename Margin>
void margin_input_gradient(const MarginProblem<T, Margin>& problem, Matrix<const T> grad,
                           Matrix<T> dx, cudaStream_t stream);

template <typename T, typename Margin>
void margin_weight_gradient(const MarginProblem<T, Margin>& problem, Matrix<const T> grad,
                            Matrix<T> dweight_rows, cudaStream_t stream);

// *lambda = annealed_lambda(annealing, *iteration), both on the device.
void anneal(const Annealing& annealing, const int64_t* iteration, float* lambda,
            cudaStream_t stream);

void clear_rows(SoftmaxRow* rows, int64_t count, cudaStream_t stream);

template <typename T, typename Margin>
void softmax_update(const MarginProblem<T, Margin>& part, const SoftmaxOptions<T>& options,
                    Matrix<const T> logits, SoftmaxRow* rows, cudaStream_t stream);

template <typename T, typename Margin>
void softmax_finish(const MarginProblem<T, Margin>& problem, const SoftmaxOptions<T>& options,
                    const SoftmaxRow* rows, const SoftmaxResult<T>& result, cudaStream_t stream);

template <typename T, typename Margin>
void softmax_gradient(const MarginProblem<T, Margin>& part, const SoftmaxOptions<T>& options,
                      const MathOf<T>* grad, const double* lse, Matrix<T> logits,
                      cudaStream_t stream);

// SphereFace2's part of these two, called by them.
template <typename T>
void binary_update(const MarginProblem<T, SphereFace2>& part, const SoftmaxOptions<T>& options,
                   Matrix<const T> entries, SoftmaxRow* rows, cudaStream_t stream);
template <typename T>
void binary_gradient(const MarginProblem<T, SphereFace2>& part, const SoftmaxOptions<T>& options,
                     const MathOf<T>* grad, Matrix<T> entries, cudaStream_t stream);

// logits += bias, one value a class; sum = the columns' sums of grad, in double.
template <typename T>
void add_bias(const MathOf<T>* bias, Matrix<T> logits, cudaStream_t stream);
template <typename T>
void column_sums(Matrix<const T> grad, MathOf<T>* sum, cudaStream_t stream);

// sum (+)= piece and dx = sum, for dx in 16 bits.
template <typename T>
void add(Matrix<const T> piece, Matrix<MathOf<T>> sum, bool first, cudaStream_t stream);
template <typename T>
void round(Matrix<const MathOf<T>> sum, Matrix<T> dx, cudaStream_t stream);

// to = scale x / |x|, 0 for a zero row, and what becomes of the gradient on the way back: dscale
// (M, may be null) gets each row's share of the scale's.
template <typename T>
void scale_rows(Matrix<const T> x, const MathOf<T>* scale, Matrix<T> to, cudaStream_t stream);
template <typename T>
void scale_gradient(Matrix<const T> x, const MathOf<T>* scale, Matrix<MathOf<T>> dx, double* dscale,
                    cudaStream_t stream);

// A backend of sphereface/margin_inner_product.h and margin_softmax.h out of these kernels and the
// caller's product.
template <typename T, typename Gemm>
struct Backend {
  Gemm gemm;  // (Matrix<const T> a, Matrix<const T> b, Matrix<T> c, bool accumulate), on stream
  cudaStream_t stream;

  void normalize_rows(Matrix<const T> from, Matrix<T> to) {
    cuda::normalize_rows(from, to, stream);
  }
  template <typename Margin>
  void margin_forward(const MarginProblem<T, Margin>& p, Matrix<T> y) {
    cuda::margin_forward(p, y, stream);
  }
  template <typename Margin>
  void margin_input_gradient(const MarginProblem<T, Margin>& p, Matrix<const T> grad,
                             Matrix<T> dx) {
    cuda::margin_input_gradient(p, grad, dx, stream);
  }
  template <typename Margin>
  void margin_weight_gradient(const MarginProblem<T, Margin>& p, Matrix<const T> grad,
                              Matrix<T> dweight_rows) {
    cuda::margin_weight_gradient(p, grad, dweight_rows, stream);
  }
  void clear_rows(SoftmaxRow* rows, int64_t count) { cuda::clear_rows(rows, count, stream); }
  template <typename Margin>
  void softmax_update(const MarginProblem<T, Margin>& part, const SoftmaxOptions<T>& options,
                      Matrix<const T> logits, SoftmaxRow* rows) {
    cuda::softmax_update(part, options, logits, rows, stream);
  }
  template <typename Margin>
  void softmax_finish(const MarginProblem<T, Margin>& p, const SoftmaxOptions<T>& options,
                      const SoftmaxRow* rows, const SoftmaxResult<T>& result) {
    cuda::softmax_finish(p, options, rows, result, stream);
  }
  template <typename Margin>
  void softmax_gradient(const MarginProblem<T, Margin>& part, const SoftmaxOptions<T>& options,
                        const MathOf<T>* grad, const double* lse, Matrix<T> logits) {
    cuda::softmax_gradient(part, options, grad, lse, logits, stream);
  }
  void add_bias(const MathOf<T>* bias, Matrix<T> logits) { cuda::add_bias(bias, logits, stream); }
  void column_sums(Matrix<const T> grad, MathOf<T>* sum) { cuda::column_sums(grad, sum, stream); }
  void add(Matrix<const T> piece, Matrix<MathOf<T>> sum, bool first) {
    cuda::add(piece, sum, first, stream);
  }
  void round(Matrix<const MathOf<T>> sum, Matrix<T> dx) { cuda::round(sum, dx, stream); }
  void scale_rows(Matrix<const T> x, const MathOf<T>* scale, Matrix<T> to) {
    cuda::scale_rows(x, scale, to, stream);
  }
  void scale_gradient(Matrix<const T> x, const MathOf<T>* scale, Matrix<MathOf<T>> dx,
                      double* dscale) {
    cuda::scale_gradient(x, scale, dx, dscale, stream);
  }
};

template <typename T, typename Gemm>
Backend<T, Gemm> backend(Gemm gemm, cudaStream_t stream) {
  return {gemm, stream};
}

}  // namespace sphereface::cuda
