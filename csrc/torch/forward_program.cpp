// sphereface::run_program: see csrc/cpu/forward_program.h and forward_images.h.
#include "forward_images.h"

#include <vector>

#include "tensors.h"
#include "threads.h"

namespace sphereface::torch_ops {

namespace {

void check(const Tensor& t, const char* name, ScalarType type) {
  if (!t.is_cpu() || t.scalar_type() != type) {
    fail(name, " is ", dtype_name(t.scalar_type()), " on ", device_of(t), "; expected ",
         dtype_name(type), " on cpu");
  }
}

// Buffers may be in any order in memory that has no holes; the program knows what it is.
void check_dense(const Tensor& t, int64_t index) {
  int64_t extent = t.numel() > 0 ? 1 : 0;
  for (int64_t d = 0; d < t.dim(); ++d) {
    if (t.size(d) > 1) extent += (t.size(d) - 1) * t.stride(d);
  }
  if (extent != t.numel()) fail("buffer ", index, " of shape ", shape_of(t), " has holes");
}

void run_program(std::vector<Tensor> buffers, Tensor constants, Tensor program) {
  check(constants, "constants", ScalarType::Float);
  check(program, "program", ScalarType::Long);
  if (program.dim() != 2 || program.size(1) != cpu::kStepFields || !program.is_contiguous() ||
      !constants.is_contiguous()) {
    fail("program of shape ", shape_of(program), "; expected (steps, ", cpu::kStepFields,
         "), contiguous, and contiguous constants");
  }
  const auto count = static_cast<int64_t>(buffers.size());
  const auto* steps = static_cast<const cpu::Step*>(program.const_data_ptr());
  std::vector<float*> memory;
  std::vector<int64_t> sizes;
  for (int64_t b = 0; b < count; ++b) {
    check(buffers[b], "a buffer", ScalarType::Float);
    check_dense(buffers[b], b);
    sizes.push_back(buffers[b].numel());
    memory.push_back(static_cast<float*>(buffers[b].mutable_data_ptr()));
  }
  int64_t at = 0;
  const char* problem =
      cpu::program_problem(steps, program.size(0), sizes.data(), count, constants.numel(), &at);
  if (problem != nullptr) fail("step ", at, ": ", problem);
  cpu::run_steps(steps, program.size(0), memory.data(),
                 static_cast<const float*>(constants.const_data_ptr()), torch_parallel_for);
}

}  // namespace

}  // namespace sphereface::torch_ops

STABLE_TORCH_LIBRARY_FRAGMENT(sphereface, m) {
  m.def("run_program(Tensor(a!)[] buffers, Tensor constants, Tensor program) -> ()");
}

STABLE_TORCH_LIBRARY_IMPL(sphereface, CPU, m) {
  m.impl("run_program", TORCH_BOX(&sphereface::torch_ops::run_program));
}
