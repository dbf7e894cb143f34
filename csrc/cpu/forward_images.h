// A whole program. Runs of its steps may be taken image by image, a part of the images to a thread:
// what one step hands to the next then stays in that thread's cache, and nobody waits between them.
#pragma once

#include <cstdint>

#include "forward_program.h"

namespace sphereface::cpu {

// What is wrong with a program, or nullptr; `at` is the step's index then.
const char* program_problem(const Step* steps, int64_t count, const int64_t* buffer_sizes,
                            int64_t buffers, int64_t constants, int64_t* at);

// Runs a program in which program_problem found nothing.
void run_steps(const Step* steps, int64_t count, float* const* buffers, const float* constants,
               ParallelFor parallel_for);

}  // namespace sphereface::cpu
