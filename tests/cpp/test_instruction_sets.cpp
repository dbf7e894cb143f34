// Every instruction set for which the kernels' loops are compiled, as far as this processor has
// it, against the same loops without vectors; says which ones ran.
#include <algorithm>

#include "check.h"
#include "instruction_set.h"

namespace {

struct Set {
  const char* name;
  bool here;
  std::vector<Computed> (*computed)();
};

bool has(int level) {
#if defined(__x86_64__) && defined(__GNUC__)
  const bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
                  __builtin_cpu_supports("bmi2");
  const bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                  __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                  __builtin_cpu_supports("avx512vl");
  return level == 3 ? v3 : v4;
#else
  return false && level > 0;
#endif
}

// The largest difference to `expected`, in tolerances.
double difference(const Computed& computed, const Computed& expected) {
  double largest = 1e-300, wrong = 0;
  for (const double value : expected.values) largest = std::max(largest, std::fabs(value));
  for (size_t i = 0; i < expected.values.size(); ++i) {
    const double off = std::fabs(computed.values[i] - expected.values[i]);
    if (!(off <= expected.tolerance * largest)) wrong = std::max(wrong, off / largest);
  }
  return wrong;
}

}  // namespace

int main() {
  const Set sets[] = {{"the compiler's default", true, computed_by_set_1},
                      {"x86-64-v3 (AVX2)", has(3), computed_by_set_2},
                      {"x86-64-v4 (AVX-512)", has(4), computed_by_set_3}};
  const std::vector<Computed> expected = computed_by_set_0();
  for (const Set& set : sets) {
    std::printf("%s: %s\n", set.name, set.here ? "compared" : "not on this processor");
    if (!set.here) continue;
    const std::vector<Computed> computed = set.computed();
    CHECK_EQUAL(computed.size(), expected.size());
    for (size_t i = 0; i < std::min(computed.size(), expected.size()); ++i) {
      const double wrong = difference(computed[i], expected[i]);
      if (wrong > 0) std::printf("%s, %s:\n", set.name, expected[i].what.c_str());
      CHECK_EQUAL(wrong, 0.0);
    }
  }
  return summary();
}
