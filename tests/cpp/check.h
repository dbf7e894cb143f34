// Checks for the plain mains of this folder, which end in `return summary();`. A failed check
// prints where it stands and what it saw, and the main goes on.
#pragma once

#include <cmath>
#include <cstdio>

struct Checks {
  long done = 0;
  long failed = 0;
};

inline Checks& checks() {
  static Checks counted;
  return counted;
}

inline void check(bool ok, const char* file, int line, const char* what, double actual = 0,
                  double expected = 0) {
  ++checks().done;
  if (ok || ++checks().failed > 20) return;
  std::printf("%s:%d: %s: %.17g, expected %.17g\n", file, line, what, actual, expected);
}

// NaN is near nothing.
#define CHECK_NEAR(actual, expected, tolerance)                                                   \
  check(std::fabs(static_cast<double>((actual) - (expected))) <= (tolerance), __FILE__, __LINE__, \
        #actual, static_cast<double>(actual), static_cast<double>(expected))
#define CHECK_EQUAL(actual, expected)                                                     \
  check((actual) == (expected), __FILE__, __LINE__, #actual, static_cast<double>(actual), \
        static_cast<double>(expected))
#define CHECK(condition) check(condition, __FILE__, __LINE__, #condition, 0, 1)

inline int summary() {
  std::printf("%ld checks, %ld failed\n", checks().done, checks().failed);
  return checks().failed == 0 && checks().done > 0 ? 0 : 1;
}
