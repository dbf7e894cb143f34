// sphereface::prelu_backward for the CPU; a GPU has torch's own. Its layouts, autograd and the fake
// kernel are in python/sphereface/ops/prelu.py.
#include "prelu.h"

#include <tuple>

#include "tensors.h"
#include "threads.h"

namespace sphereface::torch_ops {

namespace {

template <typename T>
std::tuple<Tensor, Tensor> backward(const Tensor& grad, const Tensor& x, const Tensor& slope) {
  const cpu::PReluShape shape{x.size(0), x.size(1), x.size(2)};
  const std::array<int64_t, 3> sizes{shape.outer, shape.channels, shape.inner};
  const int64_t slopes = slope.numel(), partials = shape.partials();
  Tensor dx = torch::stable::new_empty(x, {sizes.data(), 3});
  Tensor dslope = torch::stable::new_empty(slope, {&slopes, slope.dim() == 0 ? 0u : 1u});
  const Tensor scratch = torch::stable::new_empty(x, {&partials, 1}, ScalarType::Double);
  cpu::prelu_backward(
      static_cast<const T*>(grad.const_data_ptr()), static_cast<const T*>(x.const_data_ptr()),
      static_cast<const T*>(slope.const_data_ptr()), slopes == 1, shape,
      static_cast<T*>(dx.mutable_data_ptr()), static_cast<T*>(dslope.mutable_data_ptr()),
      static_cast<double*>(scratch.mutable_data_ptr()), torch_parallel_for);
  return {dx, dslope};
}

std::tuple<Tensor, Tensor> prelu_backward(const Tensor& grad_in, const Tensor& x_in,
                                          const Tensor& slope_in) {
  if (x_in.dim() != 3) fail("x has shape ", shape_of(x_in), "; expected (outer, C, inner)");
  if (shape_of(grad_in) != shape_of(x_in)) {
    fail("grad has shape ", shape_of(grad_in), "; expected ", shape_of(x_in), ", that of x");
  }
  if (slope_in.dim() > 1 || (slope_in.numel() != 1 && slope_in.numel() != x_in.size(1))) {
    fail("slope has shape ", shape_of(slope_in), "; expected (", x_in.size(1), ",) or one number");
  }
  for (const Tensor* t : {&grad_in, &slope_in}) {
    if (t->scalar_type() != x_in.scalar_type()) {
      fail(t == &grad_in ? "grad" : "slope", " has dtype ", dtype_name(t->scalar_type()), " and x ",
           dtype_name(x_in.scalar_type()), "; expected one dtype");
    }
  }
  const Tensor grad = torch::stable::contiguous(grad_in), x = torch::stable::contiguous(x_in),
               slope = torch::stable::contiguous(slope_in);
  switch (x.scalar_type()) {
    case ScalarType::Float:
      return backward<float>(grad, x, slope);
    case ScalarType::Double:
      return backward<double>(grad, x, slope);
    case ScalarType::BFloat16:
      return backward<bfloat16>(grad, x, slope);
    default:
      fail("x has dtype ", dtype_name(x.scalar_type()), "; expected float32, float64 or bfloat16");
  }
}

}  // namespace

}  // namespace sphereface::torch_ops

STABLE_TORCH_LIBRARY_FRAGMENT(sphereface, m) {
  m.def("prelu_backward(Tensor grad, Tensor x, Tensor slope) -> (Tensor dx, Tensor dslope)");
}

STABLE_TORCH_LIBRARY_IMPL(sphereface, CPU, m) {
  m.impl("prelu_backward", TORCH_BOX(&sphereface::torch_ops::prelu_backward));
}
