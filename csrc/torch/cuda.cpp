// The operators on CUDA. Values are not checked, because that would wait for the device: see
// cuda/launch.h for what a bad label or a NaN does.
#include "cuda/launch.h"

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/inductor/aoti_torch/generated/c_shim_cuda.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/macros.h>

#include <cstdlib>

#include "softmax_ops.h"

namespace sphereface::torch_ops {

namespace {

struct Cuda {
  static constexpr auto mm_out = &aoti_torch_cuda_mm_out;
  static constexpr auto addmm_out = &aoti_torch_cuda_addmm_out;

  struct Context {
    torch::stable::accelerator::DeviceGuard guard;  // otherwise kernels launch on cuda:0
    cudaStream_t stream;

    explicit Context(const Tensor& t) : guard(t.get_device_index()), stream(current_stream(t)) {}

    static cudaStream_t current_stream(const Tensor& t) {
      void* stream = nullptr;
      TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(t.get_device_index(), &stream));
      return static_cast<cudaStream_t>(stream);
    }
  };

  template <typename F>
  static void dispatch(ScalarType type, const F& f) {
    switch (type) {
      case ScalarType::Float:
        return f(float{});
      case ScalarType::Double:
        return f(double{});
      case ScalarType::Half:
        return f(__half{});
      case ScalarType::BFloat16:
        return f(__nv_bfloat16{});
      default:
        fail("x has dtype ", dtype_name(type),
             "; on CUDA expected float32, float64, float16 or bfloat16");
    }
  }

  // Bounds the unit copies of a raw weight; one piece for every face problem up to 131,072 classes
  // of 512 float32 features. Smaller ones may stay in L2: the variable is for measuring that. Not
  // for 16-bit gradients, because every piece that is summed rounds.
  template <typename T>
  static int64_t chunk_bytes() {
    constexpr int64_t kBytes = int64_t{1} << 28;
    const char* given = sizeof(T) < 4 ? nullptr : std::getenv("SPHEREFACE_CUDA_PIECE_BYTES");
    return given == nullptr ? kBytes : std::max<int64_t>(std::atoll(given), 1);
  }

  static constexpr bool kCopiesRows = true;

  template <typename T>
  static int64_t softmax_chunk(int64_t batch, int64_t features, int64_t, bool raw, bool keep) {
    const int64_t width = keep ? features : batch + (raw ? features : 0);
    return chunk_bytes<T>() / static_cast<int64_t>(sizeof(T) * (width + 1));
  }

  template <typename T>
  static int64_t softmax_scratch(int64_t, int64_t) {
    return 0;
  }

  template <typename T, typename Margin>
  static void check_values(const Context&, const MarginProblem<T, Margin>&) {}

  template <typename T>
  static auto backend(const Context& context, const Gemm<Cuda, T>& gemm) {
    return cuda::backend<T>(gemm, context.stream);
  }

  template <typename Backend, typename T, typename Margin>
  static void finish(const Context&, const Backend&, const MarginProblem<T, Margin>&) {
    STD_CUDA_KERNEL_LAUNCH_CHECK();
  }

  template <typename T>
  static void normalize_in_place(const Context& context, Matrix<T> rows) {
    cuda::normalize_rows(rows.as_const(), rows, context.stream);
    STD_CUDA_KERNEL_LAUNCH_CHECK();
  }

  static void anneal(const Context& context, const Annealing& annealing, const int64_t* iteration,
                     float* lambda) {
    cuda::anneal(annealing, iteration, lambda, context.stream);
    STD_CUDA_KERNEL_LAUNCH_CHECK();
  }
};

}  // namespace

}  // namespace sphereface::torch_ops

STABLE_TORCH_LIBRARY_IMPL(sphereface, CUDA, m) {
  sphereface::torch_ops::register_kernels<sphereface::torch_ops::Cuda>(m);
  sphereface::torch_ops::register_softmax_kernels<sphereface::torch_ops::Cuda>(m);
}
