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

namespace sphereface::cuda {

template <typename T>
void normalize_rows(Matrix<const T> from, Matrix<T> to, cudaStream_t stream);

template <typename T>
void margin_forward(const MarginProblem<T>& problem, Matrix<T> y, cudaStream_t stream);

template <typename T>
void margin_input_gradient(const MarginProblem<T>& problem, Matrix<const T> grad, Matrix<T> dx,
                           cudaStream_t stream);

template <typename T>
void margin_weight_gradient(const MarginProblem<T>& problem, Matrix<const T> grad,
                            int64_t first_class, Matrix<T> dweight_rows, cudaStream_t stream);

// *lambda = annealed_lambda(annealing, *iteration), both on the device.
void anneal(const Annealing& annealing, const int64_t* iteration, float* lambda,
            cudaStream_t stream);

}  // namespace sphereface::cuda
