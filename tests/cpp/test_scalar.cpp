// bfloat16 storage against rounding worked out in double, and the tolerance of unit rows.
#include "sphereface/scalar.h"

#include <limits>
#include <random>

#include "check.h"

using sphereface::bfloat16;
using sphereface::Scalar;
using sphereface::unit_tolerance;

namespace {

using S = Scalar<bfloat16>;

float from_bits(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

void check_every_pattern() {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const float value = S::load({static_cast<uint16_t>(bits)});
    const bfloat16 stored = S::store(value);
    if (std::isnan(value)) {
      CHECK(std::isnan(S::load(stored)));
      CHECK_EQUAL(stored.bits & 0x8000u, bits & 0x8000u);
    } else {
      CHECK_EQUAL(stored.bits, bits);
    }
  }
}

// A NaN whose payload lies in the lower half only must not become an infinity.
void check_nan() {
  for (const uint32_t bits : {0x7F800001u, 0x7FFFFFFFu, 0xFF800001u, 0xFFFFFFFFu, 0x7FC00000u}) {
    CHECK(std::isnan(S::load(S::store(from_bits(bits)))));
  }
}

void check_ties_and_limits() {
  const float ulp = 0.0078125f;                                  // between 1 and 2
  CHECK_EQUAL(S::load(S::store(1 + ulp / 2)), 1.0f);             // to even: down
  CHECK_EQUAL(S::load(S::store(1 + 3 * ulp / 2)), 1 + 2 * ulp);  // to even: up
  CHECK_EQUAL(S::load(S::store(-1 - 3 * ulp / 2)), -1 - 2 * ulp);
  CHECK_EQUAL(S::load(S::store(from_bits(0x3F808001))), 1 + ulp);  // just above the tie
  CHECK_EQUAL(S::load(S::store(from_bits(0x3F807FFF))), 1.0f);     // just below
  const float infinity = std::numeric_limits<float>::infinity();
  CHECK_EQUAL(S::load(S::store(std::numeric_limits<float>::max())), infinity);
  CHECK_EQUAL(S::load(S::store(-infinity)), -infinity);
  CHECK_EQUAL(S::store(-0.0f).bits, 0x8000u);
}

// Nearest among the multiples of the spacing at the value, ties to even.
void check_random() {
  std::mt19937 random(3);
  for (int i = 0; i < 200000; ++i) {
    const float value = from_bits(random());
    if (!std::isfinite(value) || std::fabs(value) < 1e-37f || std::fabs(value) > 1e38f) continue;
    int exponent;
    std::frexp(value, &exponent);
    const double spacing = std::ldexp(1.0, exponent - 8);
    CHECK_EQUAL(S::load(S::store(value)), std::nearbyint(value / spacing) * spacing);
  }
}

}  // namespace

int main() {
  check_every_pattern();
  check_nan();
  check_ties_and_limits();
  check_random();
  CHECK_EQUAL(Scalar<float>::load(0.1f), 0.1f);
  CHECK_EQUAL(Scalar<double>::store(0.1), 0.1);
  CHECK_NEAR(unit_tolerance<float>(), 8 * std::ldexp(1.0, -23), 0);
  CHECK_NEAR(unit_tolerance<double>(), 8 * std::ldexp(1.0, -52), 0);
  CHECK_NEAR(unit_tolerance<bfloat16>(), std::ldexp(1.0, -7) + 8 * std::ldexp(1.0, -23), 0);
  return summary();
}
