// Tensors as the core's Matrix views, products through ATen, and the checks that name what is
// wrong.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <sstream>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "sphereface/problem.h"

namespace sphereface::torch_ops {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

template <typename... Parts>
[[noreturn]] void fail(const Parts&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  throw std::runtime_error(text.str());
}

// What a message begins with where Python has a class for the error (ops/_library.py).
inline constexpr const char *kBadValue = "[bad value] ", *kNonFinite = "[not finite] ",
                            *kNoMemory = "[no memory] ";

inline std::string shape_of(const Tensor& t) {
  std::ostringstream text;
  text << '(';
  for (int64_t d = 0; d < t.dim(); ++d) text << (d > 0 ? ", " : "") << t.size(d);
  text << ')';
  return text.str();
}

inline const char* dtype_name(ScalarType type) {
  switch (type) {
    case ScalarType::Float:
      return "float32";
    case ScalarType::Double:
      return "float64";
    case ScalarType::Half:
      return "float16";
    case ScalarType::BFloat16:
      return "bfloat16";
    case ScalarType::Long:
      return "int64";
    case ScalarType::Int:
      return "int32";
    case ScalarType::Short:
      return "int16";
    case ScalarType::Char:
      return "int8";
    case ScalarType::Byte:
      return "uint8";
    case ScalarType::Bool:
      return "bool";
    case ScalarType::ComplexFloat:
      return "complex64";
    default:
      return "another dtype";
  }
}

inline std::string device_of(const Tensor& t) {
  return t.is_cpu() ? "cpu" : "cuda:" + std::to_string(t.get_device_index());
}

inline void check_same_device(const Tensor& t, const char* name, const Tensor& x, const char* as) {
  if (device_of(t) != device_of(x)) {
    fail(name, " is on ", device_of(t), " and ", as, " on ", device_of(x),
         "; move them to one device");
  }
}

// Matrix<const T> to read, Matrix<T> to write: only the latter gives a tensor that shares memory
// until it is written (torch._lazy_clone) memory of its own.
template <typename T>
Matrix<T> matrix(const Tensor& t) {
  T* data;
  if constexpr (std::is_const_v<T>) {
    data = static_cast<T*>(t.const_data_ptr());
  } else {
    data = static_cast<T*>(t.mutable_data_ptr());
  }
  return {data, t.size(0), t.size(1), t.stride(0), t.stride(1)};
}

inline Tensor with_unit_columns(const Tensor& t) {
  return t.stride(1) == 1 || t.size(1) <= 1 ? t : torch::stable::contiguous(t);
}

// ATen's product on views of memory that tensors elsewhere own. Device::mm_out and addmm_out are
// the C shims of the device; the dispatcher's stable form takes no Scalar, so it cannot add.
template <typename Device, typename T>
class Gemm {
 public:
  explicit Gemm(const Tensor& like) : Gemm(like.device(), like.scalar_type()) {}
  Gemm(torch::stable::Device device, ScalarType type) : device_(device), type_(type) {}

  torch::stable::Device device() const { return device_; }

  void operator()(Matrix<const T> a, Matrix<const T> b, Matrix<T> c, bool accumulate) const {
    const Tensor left = view(a), right = view(b), out = view(c);
    if (accumulate) {
      TORCH_ERROR_CODE_CHECK(
          Device::addmm_out(out.get(), out.get(), left.get(), right.get(), 1.0, 1.0));
    } else {
      TORCH_ERROR_CODE_CHECK(Device::mm_out(out.get(), left.get(), right.get()));
    }
  }

 private:
  template <typename U>
  Tensor view(Matrix<U> m) const {
    const std::array<int64_t, 2> sizes{m.rows, m.cols}, strides{m.row_stride, m.col_stride};
    return torch::stable::from_blob(const_cast<T*>(m.data), {sizes.data(), 2}, {strides.data(), 2},
                                    device_, type_);
  }

  torch::stable::Device device_;
  ScalarType type_;
};

}  // namespace sphereface::torch_ops
