// The kernels' sources in a namespace of their own, compiled for the set number INSTRUCTION_SET.
// Standard headers come first, so that their inline functions, of which the linker keeps one, are
// those of any processor.
#include "instruction_set.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <type_traits>

#ifdef _OPENMP
#include <omp.h>
#endif

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define SPHEREFACE_MULTIVERSION
#if INSTRUCTION_SET != 3
#define SPHEREFACE_AVX512_BF16 0
#endif
#define SPHEREFACE_NAME_OF(set) sphereface_##set
#define SPHEREFACE_NAME(set) SPHEREFACE_NAME_OF(set)
#define sphereface SPHEREFACE_NAME(INSTRUCTION_SET)
#define COMPUTED_NAME_OF(set) computed_by_set_##set
#define COMPUTED_NAME(set) COMPUTED_NAME_OF(set)

#if defined(__GNUC__) && !defined(__clang__)
// It takes the anonymous namespace of a source that is included for that of a header.
#pragma GCC diagnostic ignored "-Wsubobject-linkage"
#if INSTRUCTION_SET == 0
#pragma GCC optimize("no-tree-vectorize")
#elif defined(__x86_64__) && __GNUC__ >= 12 && INSTRUCTION_SET == 2
#pragma GCC target("arch=x86-64-v3")
#elif defined(__x86_64__) && __GNUC__ >= 12 && INSTRUCTION_SET == 3
#pragma GCC target("arch=x86-64-v4")
#endif
#endif

#include "bfloat16_rows.cpp"
#include "logit_loops.cpp"
#include "row_norm.cpp"
#include "wide_product.cpp"

namespace {

using namespace sphereface;

template <typename T>
constexpr double kTolerance = 4 * Scalar<T>::kEpsilon + 2 * Scalar<T>::kRoundoff;

class Recorder {
 public:
  explicit Recorder(std::vector<Computed>& all) : all_(all) {}

  template <typename T>
  void keep(const char* what, const std::vector<T>& values, double tolerance) {
    all_.push_back({what + std::string(", ") + std::to_string(values.size()), tolerance, {}});
    for (const T value : values) all_.back().values.push_back(Scalar<T>::load(value));
  }
  void keep(const char* what, double value, double tolerance) {
    all_.push_back({what, tolerance, {value}});
  }

 private:
  std::vector<Computed>& all_;
};

template <typename T>
void loops(int64_t count, std::mt19937& random, Recorder& out) {
  using Math = MathOf<T>;
  std::normal_distribution<double> normal;
  const auto values = [&](double scale) {
    std::vector<T> v(count);
    for (T& value : v) value = Scalar<T>::store(static_cast<Math>(scale * normal(random)));
    return v;
  };
  const auto factors = [&] {
    std::vector<Math> v(count);
    for (Math& value : v) value = static_cast<Math>(normal(random));
    return v;
  };
  const std::vector<T> z = values(30), w = values(1);
  const std::vector<Math> weight = factors(), column = factors();
  const Math top = cpu::largest(z.data(), count);
  out.keep("largest", top, 0);
  out.keep("find", cpu::find(z.data(), count, top), 0);
  out.keep("find nothing", cpu::find(z.data(), count, top + 1), 0);
  // Sums of as many terms as there are entries.
  const double math = 16 * std::numeric_limits<Math>::epsilon();
  out.keep("exponential_sum", cpu::exponential_sum(z.data(), count, top), math);
  out.keep("inner", cpu::inner(z.data(), w.data(), count) / (30.0 * count), 1e-15);
  out.keep("squared", cpu::squared(z.data(), count), sizeof(T) == 2 ? 1e-6 : 1e-15);

  std::vector<T> changed = z;
  cpu::scale(changed.data(), count, Math(0.7), nullptr);
  out.keep("scale", changed, 0);
  changed = z;
  cpu::scale(changed.data(), count, Math(0.7), column.data());
  out.keep("scale columns", changed, 0);
  changed = z;
  cpu::subtract(changed.data(), w.data(), count, Math(0.3));
  out.keep("subtract", changed, kTolerance<T>);
  for (int kind = 0; kind < 8; ++kind) {
    std::vector<Math> radial(count, 1), total(count, 2);
    const cpu::RowGradient<Math> f{top + 1,
                                   Math(0.4),
                                   kind & 1 ? Math(0.01) : Math(0),
                                   Math(0.9),
                                   kind & 1 ? weight.data() : nullptr,
                                   column.data(),
                                   kind & 2 ? radial.data() : nullptr,
                                   kind & 4 ? total.data() : nullptr};
    changed = z;
    cpu::to_gradient(changed.data(), count, f);
    out.keep("gradient", changed, math + kTolerance<T>);
    for (int64_t j = 0; j < count; ++j) radial[j] += total[j];
    out.keep("sums of the gradient", std::vector<double>(radial.begin(), radial.end()), math);
  }
  std::vector<T> unit(count);
  const Matrix<const T> row{z.data(), 1, count, count, 1};
  const int64_t bad =
      cpu::normalize_rows(row, {unit.data(), 1, count, count, 1}, openmp_parallel_for);
  out.keep("normalize_rows", unit, kTolerance<T>);
  out.keep("first row that is not finite",
           double(bad + cpu::first_non_finite_row(row, openmp_parallel_for)), 0);
}

void conversions(std::mt19937& random, Recorder& out) {
  std::vector<float> wide(1031), back(1031);
  std::vector<bfloat16> narrow(1031);
  for (float& value : wide) {
    uint32_t bits = random();
    std::memcpy(&value, &bits, sizeof(value));
    if (!std::isfinite(value)) value = 0;
  }
  cpu::narrow({wide.data(), 1, 1031, 1031, 1}, {narrow.data(), 1, 1031, 1031, 1});
  cpu::widen({narrow.data(), 1, 1031, 1031, 1}, {back.data(), 1, 1031, 1031, 1});
  for (float& value : back) value = std::log(std::fabs(value) + 1e-30f);
  out.keep("narrow and widen", back, 0);
}

}  // namespace

std::vector<Computed> COMPUTED_NAME(INSTRUCTION_SET)() {
  std::vector<Computed> all;
  Recorder out(all);
  std::mt19937 random(6);
  for (const int64_t count : {1, 7, 31, 32, 33, 64, 95, 512, 1033, 2050}) {
    loops<float>(count, random, out);
    loops<double>(count, random, out);
    loops<bfloat16>(count, random, out);
  }
  conversions(random, out);
  return all;
}
