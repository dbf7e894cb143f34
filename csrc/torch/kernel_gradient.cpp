// sphereface::convolution_kernel_gradient for the CPU; layouts and autograd are in
// python/sphereface/ops/convolution.py.
#include "kernel_gradient.h"

#include <vector>

#include "tensors.h"
#include "threads.h"

namespace sphereface::torch_ops {

namespace {

// What an axis of the result has; 0 where the kernel does not fit. Sizes may be anything.
int64_t out_size(int64_t size, int64_t kernel, int64_t stride, int64_t pad, int64_t dilation) {
  constexpr int64_t kMost = int64_t{1} << 24;
  for (const int64_t value : {size, kernel, stride, dilation}) {
    if (value < 1 || value > kMost) return 0;
  }
  if (pad < 0 || pad > kMost) return 0;
  const int64_t room = size + 2 * pad - (dilation * (kernel - 1) + 1);
  return room < 0 ? 0 : room / stride + 1;
}

template <typename T>
void run(const Tensor& grad, const Tensor& x, const cpu::ConvolutionShape& shape, Tensor& result) {
  const int64_t threads = torch::stable::get_num_threads();
  const int64_t floats = cpu::kernel_gradient_scratch(shape, threads);
  Tensor scratch = torch::stable::new_empty(x, {&floats, 1}, ScalarType::Float);
  cpu::kernel_gradient(static_cast<const T*>(grad.const_data_ptr()),
                       static_cast<const T*>(x.const_data_ptr()), shape, threads,
                       static_cast<float*>(result.mutable_data_ptr()),
                       static_cast<float*>(scratch.mutable_data_ptr()), torch_parallel_for);
}

Tensor convolution_kernel_gradient(const Tensor& grad_in, const Tensor& x_in,
                                   std::vector<int64_t> kernel, std::vector<int64_t> stride,
                                   std::vector<int64_t> pad, std::vector<int64_t> dilation) {
  if (x_in.dim() != 4) fail("x has shape ", shape_of(x_in), "; expected (N, H, W, channels)");
  for (const auto* pair : {&kernel, &stride, &pad, &dilation}) {
    if (pair->size() != 2) fail("an option has ", pair->size(), " numbers; expected 2");
  }
  const int64_t height = out_size(x_in.size(1), kernel[0], stride[0], pad[0], dilation[0]);
  const int64_t width = out_size(x_in.size(2), kernel[1], stride[1], pad[1], dilation[1]);
  constexpr double kMost = 1LL << 40;  // numbers of a padded image
  if (height < 1 || width < 1 ||
      double(x_in.size(1) + 2 * pad[0]) * double(x_in.size(2) + 2 * pad[1]) * double(x_in.size(3)) >
          kMost) {
    fail("x has shape ", shape_of(x_in), ", which these kernels, strides and pads do not fit");
  }
  if (grad_in.dim() != 4 || grad_in.size(0) != x_in.size(0) || grad_in.size(1) != height ||
      grad_in.size(2) != width) {
    fail("grad has shape ", shape_of(grad_in), "; expected (", x_in.size(0), ", ", height, ", ",
         width, ", outputs)");
  }
  if (grad_in.scalar_type() != x_in.scalar_type()) {
    fail("grad has dtype ", dtype_name(grad_in.scalar_type()), " and x ",
         dtype_name(x_in.scalar_type()), "; expected one dtype");
  }
  const Tensor grad = torch::stable::contiguous(grad_in), x = torch::stable::contiguous(x_in);
  const cpu::ConvolutionShape shape{x.size(0), x.size(1),    x.size(2), x.size(3),   height,
                                    width,     grad.size(3), kernel[0], kernel[1],   stride[0],
                                    stride[1], pad[0],       pad[1],    dilation[0], dilation[1]};
  const std::array<int64_t, 4> sizes{shape.outputs, kernel[0], kernel[1], shape.channels};
  Tensor result = torch::stable::new_empty(x, {sizes.data(), 4}, ScalarType::Float);
  switch (x.scalar_type()) {
    case ScalarType::Float:
      run<float>(grad, x, shape, result);
      break;
    case ScalarType::BFloat16:
      run<bfloat16>(grad, x, shape, result);
      break;
    default:
      fail("x has dtype ", dtype_name(x.scalar_type()), "; expected float32 or bfloat16");
  }
  return result;
}

}  // namespace

}  // namespace sphereface::torch_ops

STABLE_TORCH_LIBRARY_FRAGMENT(sphereface, m) {
  m.def(
      "convolution_kernel_gradient(Tensor grad, Tensor x, int[] kernel, int[] stride, int[] pad, "
      "int[] dilation) -> Tensor");
}

STABLE_TORCH_LIBRARY_IMPL(sphereface, CPU, m) {
  m.impl("convolution_kernel_gradient",
         TORCH_BOX(&sphereface::torch_ops::convolution_kernel_gradient));
}
