#include "forward_images.h"

namespace sphereface::cpu {

namespace {

constexpr int64_t kMostParts = 1 << 16;

const char* run_problem(const Step& run, int64_t behind, const int64_t* sizes, int64_t buffers) {
  if (run.height < 1 || run.height > behind) return "a run has no or too few steps";
  if (run.images < 1 || run.out_height < 1 || run.out_height > kMostParts) {
    return "a run has no images or no parts";
  }
  if (run.out_buffer < 0 || run.out_buffer >= buffers || run.out < 0 || run.channels < 0 ||
      run.out > sizes[run.out_buffer] ||
      run.channels > (sizes[run.out_buffer] - run.out) / run.out_height) {
    return "the memory of a run does not fit its buffer";
  }
  return nullptr;
}

// A step of a run, for one image of a part.
Step of_image(const Step& run, Step step, int64_t image, int64_t part) {
  const auto place = [&](int64_t& buffer, int64_t& offset, int64_t size) {
    if (buffer == kOwn) {
      buffer = run.out_buffer;
      offset += run.out + part * run.channels;
    } else {
      offset += image * size;
    }
  };
  int64_t out = step.out_height * step.out_width;  // of heads: pixels of each
  if (step.kind != StepKind::kHeads) out *= step.out_channels;
  place(step.in_buffer, step.in, step.height * step.width * step.channels);
  place(step.out_buffer, step.out, out);
  place(step.residual_buffer, step.residual, out);
  step.images = 1;
  return step;
}

void on_this_thread(int64_t count, int64_t, RangeBody body, const void* state) {
  body(state, 0, count);
}

void run_images(const Step& run, const Step* steps, float* const* buffers, const float* constants,
                ParallelFor parallel_for) {
  const auto one = [&](int64_t image, int64_t part, ParallelFor threads) {
    for (int64_t i = 0; i < run.height; ++i) {
      run_step(of_image(run, steps[i], image, part), buffers, constants, threads);
    }
  };
  const int64_t parts = run.out_height, rest = run.images % parts;
  // Few images that are left are shared by all threads; of many, some threads take one more.
  const int64_t taken = 2 * rest > parts ? run.images : run.images - rest;
  for_ranges(parallel_for, taken > 0 ? parts : 0, 1, [&](int64_t begin, int64_t end) {
    for (int64_t part = begin; part < end; ++part) {
      const int64_t stop = taken * (part + 1) / parts;
      for (int64_t i = taken * part / parts; i < stop; ++i) one(i, part, on_this_thread);
    }
  });
  for (int64_t i = taken; i < run.images; ++i) one(i, 0, parallel_for);
}

}  // namespace

const char* program_problem(const Step* steps, int64_t count, const int64_t* sizes, int64_t buffers,
                            int64_t constants, int64_t* at) {
  int64_t run_end = 0, own = -1, images = 0;
  for (*at = 0; *at < count; ++*at) {
    const Step& step = steps[*at];
    const bool inside = *at < run_end;
    const char* problem = nullptr;
    if (step.kind == StepKind::kByImage) {
      problem =
          inside ? "a run begins in another" : run_problem(step, count - *at - 1, sizes, buffers);
      run_end = *at + 1 + step.height, own = step.channels, images = step.images;
    } else {
      problem = step_problem(step, sizes, buffers, constants, inside ? own : -1);
      if (inside && step.images != images) problem = "a step has not the images of its run";
    }
    if (problem != nullptr) return problem;
  }
  return nullptr;
}

void run_steps(const Step* steps, int64_t count, float* const* buffers, const float* constants,
               ParallelFor parallel_for) {
  for (int64_t i = 0; i < count; ++i) {
    if (steps[i].kind != StepKind::kByImage) {
      run_step(steps[i], buffers, constants, parallel_for);
      continue;
    }
    run_images(steps[i], steps + i + 1, buffers, constants, parallel_for);
    i += steps[i].height;
  }
}

}  // namespace sphereface::cpu
