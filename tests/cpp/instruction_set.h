// What the CPU kernels compute when they are compiled for one instruction set. instruction_set.cpp
// is compiled once for each.
#pragma once

#include <string>
#include <vector>

// Values that every instruction set has to give, up to `tolerance` times the largest of them.
struct Computed {
  std::string what;
  double tolerance;
  std::vector<double> values;
};

// 0: no vectors at all; 1: the compiler's default; 2: x86-64-v3 (AVX2); 3: x86-64-v4 (AVX-512).
std::vector<Computed> computed_by_set_0();
std::vector<Computed> computed_by_set_1();
std::vector<Computed> computed_by_set_2();
std::vector<Computed> computed_by_set_3();
