#include "sphereface/cpu.h"
#include <torch/csrc/inductor/aoti_torch/generated/c_shim_cpu.h>

#include <cmath>

#include "softmax_ops.h"
#include "sphereface/cpu_softmax.h"
#include "threads.h"
#include "wide_product.h"

namespace sphereface::torch_ops {

namespace {

struct Cpu;

// torch's own product where the processor has instructions for bfloat16.
struct Bfloat16Gemm {
  Gemm<Cpu, bfloat16> own;
  cpu::WideProduct<Gemm<Cpu, float>> wide;

  explicit Bfloat16Gemm(const Gemm<Cpu, bfloat16>& gemm)
      : own(gemm), wide({gemm.device(), ScalarType::Float}, torch_parallel_for) {}

  void operator()(Matrix<const bfloat16> a, Matrix<const bfloat16> b, Matrix<bfloat16> c,
                  bool accumulate) const {
    if (cpu::has_bfloat16_products()) return own(a, b, c, accumulate);
    wide(a, b, c, accumulate);
  }
};

struct Cpu {
  static constexpr auto mm_out = &aoti_torch_cpu_mm_out;
  static constexpr auto addmm_out = &aoti_torch_cpu_addmm_out;

  struct Context {
    explicit Context(const Tensor&) {}
  };

  template <typename F>
  static void dispatch(ScalarType type, const F& f) {
    switch (type) {
      case ScalarType::Float:
        return f(float{});
      case ScalarType::Double:
        return f(double{});
      case ScalarType::BFloat16:
        return f(bfloat16{});
      default:
        fail("x has dtype ", dtype_name(type),
             "; on the CPU expected float32, float64 or bfloat16");
    }
  }

  // Small pieces keep a product's operands in cache (MKL's A B^T gains half of its speed on AMD).
  // 16-bit gradients take far larger ones, because every piece that is summed rounds.
  template <typename T>
  static constexpr int64_t chunk_bytes() {
    return sizeof(T) < 4 ? int64_t{1} << 26 : int64_t{1} << 22;
  }

  static constexpr bool kCopiesRows = false;

  // Without kept logits the buffers of a pass stay below a tenth of M x N. All passes take about
  // the same number of classes, an odd multiple of 16, so that rows of logits do not all fall into
  // the same sets of a cache.
  template <typename T>
  static int64_t softmax_chunk(int64_t, int64_t, int64_t classes, bool, bool keep) {
    const int64_t most = keep ? classes : static_cast<int64_t>(0.09 * static_cast<double>(classes));
    const int64_t chunk = std::clamp<int64_t>(most / 32 * 32 - 16, 80, 2032);
    const int64_t passes = std::max<int64_t>((classes + chunk - 1) / chunk, 1);
    const int64_t even = (classes + passes - 1) / passes;
    return std::min(chunk, (even + 15) / 32 * 32 + 16);
  }

  template <typename T>
  static int64_t softmax_scratch(int64_t batch, int64_t chunk) {
    return cpu::softmax_scratch<T>(batch, chunk);
  }

  template <typename T, typename Margin>
  static void check_values(const Context&, const MarginProblem<T, Margin>& p) {
    const int64_t bad = cpu::first_bad_label(p.label, p.x.rows, p.all_classes(), p.ignore_index);
    if (bad >= 0) {
      fail(kBadValue, "label[", bad, "] is ", p.label[bad], "; expected 0 to ", p.all_classes() - 1,
           " (", p.all_classes(), " classes, counted from 0)",
           p.ignore_index == kNoIgnoreIndex
               ? std::string("; pass ignore_index for rows without a label")
               : " or ignore_index " + std::to_string(p.ignore_index));
    }
    if (!(*p.lambda >= 0) || std::isinf(*p.lambda)) {
      fail(kBadValue, "lambda_ is ", *p.lambda, "; expected a finite number >= 0");
    }
    const int64_t row = cpu::first_non_finite_row(p.x, torch_parallel_for);
    if (row >= 0) {
      fail(
          kNonFinite, "x has a NaN or infinite value in row ", row,
          "; the net before this layer diverged (lower the learning rate, raise lambda_min) or was "
          "fed bad data");
    }
  }

  template <typename T>
  static auto backend(const Context&, const Gemm<Cpu, T>& gemm) {
    using Product = std::conditional_t<std::is_same_v<T, bfloat16>, Bfloat16Gemm, Gemm<Cpu, T>>;
    return cpu::backend<T>(Product(gemm), torch_parallel_for, true);
  }

  template <typename T>
  static void normalize_in_place(const Context&, Matrix<T> rows) {
    const int64_t bad = cpu::normalize_rows(rows.as_const(), rows, torch_parallel_for);
    if (bad >= 0) fail_at_row(bad);
  }

  static void anneal(const Context&, const Annealing& annealing, const int64_t* iteration,
                     float* lambda) {
    *lambda = sphereface::annealed_lambda(annealing, *iteration);
  }

  static void fail_at_row(int64_t row) {
    fail(kNonFinite, "weight has a NaN or infinite value in row ", row,
         "; an earlier update diverged (lower the learning rate) or the file it came from is bad");
  }

  template <typename Backend, typename T, typename Margin>
  static void finish(const Context&, const Backend& backend, const MarginProblem<T, Margin>& p) {
    if (backend.non_finite_row != nullptr) {
      fail_at_row((backend.non_finite_row - p.weight.data) /
                  std::max<int64_t>(p.weight.row_stride, 1));
    }
  }
};

}  // namespace

}  // namespace sphereface::torch_ops

STABLE_TORCH_LIBRARY_IMPL(sphereface, CPU, m) {
  sphereface::torch_ops::register_kernels<sphereface::torch_ops::Cpu>(m);
  sphereface::torch_ops::register_softmax_kernels<sphereface::torch_ops::Cpu>(m);
}
