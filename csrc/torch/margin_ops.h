// The operators over a device policy (CPU in cpu.cpp, CUDA in cuda.cpp): check, allocate, run the
// core. A policy has
//   mm_out, addmm_out                products, as ATen's C shims
//   dispatch(dtype, f)               calls f(T{}) with the storage type, or fails naming the dtype
//   Context(tensor)                  guards the device and knows the stream
//   check_values(context, problem)   what can be checked without waiting for the device
//   backend<T>(context, gemm)        a backend of sphereface/margin_inner_product.h
//   finish(context, backend, problem)  reports what the backend met
//   normalize_in_place(context, rows), anneal(context, annealing, iteration, lambda)
//   chunk_bytes<T>()                 how much of the weight a product takes at once
#pragma once

#include <optional>

#include "sphereface/annealing.h"
#include "sphereface/margin_inner_product.h"
#include "tensors.h"

namespace sphereface::torch_ops {

// The checked arguments that forward and backward share.
struct Arguments {
  Tensor x, weight, label, lambda;
  double margin;
  bool exact, unit_rows;
  std::optional<int64_t> ignore_index;

  Arguments(const Tensor& x_in, const Tensor& weight_in, const Tensor& label_in,
            const Tensor& lambda_in, double margin_in, bool exact_in, bool unit_rows_in,
            std::optional<int64_t> ignore_index_in)
      : x(x_in),
        weight(weight_in),
        label(label_in),
        lambda(lambda_in),
        margin(margin_in),
        exact(exact_in),
        unit_rows(unit_rows_in),
        ignore_index(ignore_index_in) {
    check();
    x = with_unit_columns(x);
    weight = with_unit_columns(weight);
    label = torch::stable::contiguous(label);
    const ScalarType math =
        x.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
    if (lambda.scalar_type() != math) lambda = torch::stable::to(lambda, math);
  }

  template <typename T, typename Margin>
  MarginProblem<T, Margin> problem(const Margin& policy) const {
    MarginProblem<T, Margin> p;
    p.x = matrix<const T>(x);
    p.weight = matrix<const T>(weight);
    p.label = static_cast<const int64_t*>(label.const_data_ptr());
    p.lambda = static_cast<const MathOf<T>*>(lambda.const_data_ptr());
    p.margin = policy;
    p.gradient = exact ? Gradient::kExact : Gradient::kCaffe;
    p.unit_rows = unit_rows;
    p.ignore_index = ignore_index.value_or(kNoIgnoreIndex);
    return p;
  }

 private:
  void check() const {
    if (x.dim() != 2) fail("x has shape ", shape_of(x), "; expected (M, K)");
    if (weight.dim() != 2 || weight.size(1) != x.size(1)) {
      fail("weight has shape ", shape_of(weight), "; expected (N, ", x.size(1), ") for x of shape ",
           shape_of(x));
    }
    if (label.dim() != 1 || label.size(0) != x.size(0)) {
      fail("label has shape ", shape_of(label), "; expected (", x.size(0),
           ",), one for each row of x");
    }
    if (label.scalar_type() != ScalarType::Long) {
      fail("label has dtype ", dtype_name(label.scalar_type()), "; expected int64");
    }
    if (weight.scalar_type() != x.scalar_type()) {
      fail("weight has dtype ", dtype_name(weight.scalar_type()), " and x ",
           dtype_name(x.scalar_type()), "; cast one of them, or run under torch.autocast");
    }
    if (lambda.numel() != 1 ||
        (lambda.scalar_type() != ScalarType::Float && lambda.scalar_type() != ScalarType::Double)) {
      fail("lambda_ has shape ", shape_of(lambda), " and dtype ", dtype_name(lambda.scalar_type()),
           "; expected one value of float32 or float64");
    }
    if (!(margin >= 1) || std::isinf(margin)) fail("margin is ", margin, "; expected 1 or more");
    check_same_device(weight, "weight", x, "x");
    check_same_device(label, "label", x, "x");
    check_same_device(lambda, "lambda_", x, "x");
  }
};

inline void check_grad(const Tensor& grad, const Arguments& a) {
  if (grad.dim() != 2 || grad.size(0) != a.x.size(0) || grad.size(1) != a.weight.size(0)) {
    fail("grad has shape ", shape_of(grad), "; expected (", a.x.size(0), ", ", a.weight.size(0),
         ")");
  }
  if (grad.scalar_type() != a.x.scalar_type()) {
    fail("grad has dtype ", dtype_name(grad.scalar_type()), "; expected ",
         dtype_name(a.x.scalar_type()));
  }
  check_same_device(grad, "grad", a.x, "x");
}

inline Tensor new_matrix(const Tensor& like, int64_t rows, int64_t cols) {
  const std::array<int64_t, 2> sizes{rows, cols};
  try {
    return torch::stable::new_empty(like, {sizes.data(), 2});
  } catch (const std::runtime_error&) {  // the stable ABI loses what torch said
    fail(kNoMemory, "no memory on ", device_of(like), " for a tensor of shape (", rows, ", ", cols,
         ") and dtype ", dtype_name(like.scalar_type()));
  }
}

// Unit copies of all rows that a forward has kept for its backward: N x K, or nothing.
inline bool has_unit_rows(const Tensor& unit, const Arguments& a) {
  if (unit.numel() == 0) return false;
  if (unit.dim() != 2 || unit.size(0) != a.weight.size(0) || unit.size(1) != a.weight.size(1) ||
      unit.scalar_type() != a.weight.scalar_type() || !unit.is_contiguous()) {
    fail("unit has shape ", shape_of(unit), "; expected what the forward kept, (", a.weight.size(0),
         ", ", a.weight.size(1), ")");
  }
  check_same_device(unit, "unit", a.x, "x");
  return true;
}

// Rows of the weight that one product takes, and the memory for unit copies, if they need any: of
// so many rows, or those of all that were `kept`.
template <typename Device, typename T>
struct Chunk {
  int64_t rows;
  Tensor storage;
  Matrix<T> workspace;

  Chunk(const Arguments& a, bool needs_workspace, bool keep, const Tensor* kept)
      : rows(std::max<int64_t>(
            1,
            std::min(a.weight.size(0), Device::template chunk_bytes<T>() /
                                           static_cast<int64_t>(sizeof(T) * (a.x.size(1) + 1))))) {
    const int64_t copies = !needs_workspace ? 0 : keep ? a.weight.size(0) : rows;
    storage = kept != nullptr ? *kept : new_matrix(a.x, copies, a.x.size(1));
    workspace = matrix<T>(storage);
  }
};

// Runs body(problem, chunk, backend) on the device of a.x.
template <typename Device, typename Body>
void run(const Arguments& a, bool needs_workspace, bool keep, const Tensor* kept,
         const Body& body) {
  const typename Device::Context context(a.x);
  Device::dispatch(a.x.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    const auto problem = a.problem<T>(ASoftmax(a.margin));
    Device::check_values(context, problem);
    const Chunk<Device, T> chunk(a, needs_workspace, keep, kept);
    auto backend = Device::template backend<T>(context, Gemm<Device, T>(a.x));
    body(problem, chunk, backend);
    Device::finish(context, backend, problem);
  });
}

template <typename Device>
std::tuple<Tensor, Tensor> margin_inner_product(Tensor x, Tensor weight, Tensor label,
                                                Tensor lambda, double margin, bool exact,
                                                bool unit_rows, std::optional<int64_t> ignore_index,
                                                bool keep_unit) {
  const Arguments a(x, weight, label, lambda, margin, exact, unit_rows, ignore_index);
  const Tensor y = new_matrix(a.x, a.x.size(0), a.weight.size(0));
  const bool keep = keep_unit && !unit_rows;
  Tensor unit;
  run<Device>(a, !unit_rows, keep, nullptr,
              [&](const auto& problem, const auto& chunk, auto& backend) {
                using T = std::remove_pointer_t<decltype(chunk.workspace.data)>;
                sphereface::margin_inner_product(problem, matrix<T>(y), chunk.rows, chunk.workspace,
                                                 backend);
                unit = keep ? chunk.storage : new_matrix(a.x, 0, a.x.size(1));
              });
  return {y, unit};
}

template <typename Device>
Tensor margin_inner_product_input_gradient(Tensor grad, Tensor x, Tensor weight, Tensor unit,
                                           Tensor label, Tensor lambda, double margin, bool exact,
                                           bool unit_rows, std::optional<int64_t> ignore_index) {
  const Arguments a(x, weight, label, lambda, margin, exact, unit_rows, ignore_index);
  check_grad(grad, a);
  const bool ready = !unit_rows && has_unit_rows(unit, a);
  const Tensor dx = new_matrix(a.x, a.x.size(0), a.x.size(1));
  run<Device>(a, !unit_rows, ready, ready ? &unit : nullptr,
              [&](const auto& problem, const auto& chunk, auto& backend) {
                using T = std::remove_pointer_t<decltype(chunk.workspace.data)>;
                sphereface::margin_inner_product_input_gradient(problem, matrix<const T>(grad),
                                                                matrix<T>(dx), chunk.rows,
                                                                chunk.workspace, backend, ready);
              });
  return dx;
}

template <typename Device>
Tensor margin_inner_product_weight_gradient(Tensor grad, Tensor x, Tensor weight, Tensor label,
                                            Tensor lambda, double margin, bool exact,
                                            bool unit_rows, std::optional<int64_t> ignore_index) {
  const Arguments a(x, weight, label, lambda, margin, exact, unit_rows, ignore_index);
  check_grad(grad, a);
  const Tensor dweight = new_matrix(a.x, a.weight.size(0), a.weight.size(1));
  run<Device>(a, false, false, nullptr, [&](const auto& problem, const auto& chunk, auto& backend) {
    using T = std::remove_pointer_t<decltype(chunk.workspace.data)>;
    sphereface::margin_inner_product_weight_gradient(problem, matrix<const T>(grad),
                                                     matrix<T>(dweight), chunk.rows, backend);
  });
  return dweight;
}

template <typename Device>
void normalize_rows(Tensor weight) {
  if (weight.dim() != 2) fail("weight has shape ", shape_of(weight), "; expected (N, K)");
  if (weight.size(1) > 1 && weight.stride(1) != 1) {
    fail("weight is normalised in place and needs contiguous rows; its strides are (",
         weight.stride(0), ", ", weight.stride(1), ")");
  }
  const typename Device::Context context(weight);
  Device::dispatch(weight.scalar_type(), [&](auto zero) {
    Device::normalize_in_place(context, matrix<decltype(zero)>(weight));
  });
}

template <typename Device>
Tensor annealed_lambda(Tensor iteration, double base, double gamma, double power,
                       double lambda_min) {
  if (iteration.numel() != 1 || iteration.scalar_type() != ScalarType::Long) {
    fail("iteration has shape ", shape_of(iteration), " and dtype ",
         dtype_name(iteration.scalar_type()), "; expected one int64 value");
  }
  const Tensor lambda = torch::stable::new_empty(iteration, {}, ScalarType::Float);
  const Annealing annealing{static_cast<float>(base), static_cast<float>(gamma),
                            static_cast<float>(power), static_cast<float>(lambda_min)};
  Device::anneal(typename Device::Context(iteration), annealing,
                 static_cast<const int64_t*>(iteration.const_data_ptr()),
                 static_cast<float*>(lambda.mutable_data_ptr()));
  return lambda;
}

// Called in a STABLE_TORCH_LIBRARY_IMPL block.
template <typename Device>
void register_kernels(torch::stable::detail::StableLibrary& m) {
  m.impl("margin_inner_product", TORCH_BOX(&margin_inner_product<Device>));
  m.impl("margin_inner_product_input_gradient",
         TORCH_BOX(&margin_inner_product_input_gradient<Device>));
  m.impl("margin_inner_product_weight_gradient",
         TORCH_BOX(&margin_inner_product_weight_gradient<Device>));
  m.impl("normalize_rows_", TORCH_BOX(&normalize_rows<Device>));
  m.impl("annealed_lambda", TORCH_BOX(&annealed_lambda<Device>));
}

}  // namespace sphereface::torch_ops
