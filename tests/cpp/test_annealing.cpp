// lambda against values printed in public training logs of the original, and its limits.
#include "sphereface/annealing.h"

#include "check.h"

using sphereface::annealed_lambda;
using sphereface::Annealing;

int main() {
  // base 1000, gamma 0.12, lambda_min 5: a log line of iteration n shows the forward number n + 1.
  const Annealing published{1000, 0.12f, 1, 5};
  CHECK_NEAR(annealed_lambda(published, 501), 16.3613, 5e-5);
  CHECK_NEAR(annealed_lambda(published, 601), 13.6761, 5e-5);
  CHECK_NEAR(annealed_lambda(published, 701), 11.7481, 5e-5);
  CHECK_NEAR(annealed_lambda(published, 801), 10.2965, 5e-5);
  CHECK(annealed_lambda(published, 1658) > 5);
  CHECK_EQUAL(annealed_lambda(published, 1659), 5.0f);
  CHECK_EQUAL(annealed_lambda(published, 28000), 5.0f);

  const Annealing slow{10, 2e-5f, 1, 0};
  CHECK_NEAR(annealed_lambda(slow, 7001), 8.77178, 5e-6);

  CHECK_EQUAL(annealed_lambda(published, 0), 1000.0f);
  CHECK_EQUAL(annealed_lambda(Annealing{}, 12345), 1.0f);  // gamma 0: constant
  CHECK_NEAR(annealed_lambda({100, 0.5f, 2, 0}, 8), 4.0, 1e-6);
  CHECK_NEAR(annealed_lambda({2, 1, -1, 0}, 9), 20.0, 1e-5);  // a negative power grows
  // More forwards than 32 bits count.
  const int64_t many = int64_t{1} << 40;
  CHECK_NEAR(annealed_lambda({1e12f, 1, 1, 0}, many), 1e12 / static_cast<double>(many), 1e-6);
  return summary();
}
