// How the CPU kernels are threaded: the caller passes a ParallelFor, so that torch's own pool is
// used under torch and a host program keeps its own. openmp_parallel_for is the default elsewhere.
#pragma once

#include <algorithm>
#include <cstdint>

#ifdef _OPENMP
#include <omp.h>
#endif

namespace sphereface {

using RangeBody = void (*)(const void* state, int64_t begin, int64_t end);

// Calls body(state, b, e) over disjoint ranges that cover [0, count), each of at least `grain`
// items unless it is the only one or the last, in any order and on any threads; returns when all
// are done.
using ParallelFor = void (*)(int64_t count, int64_t grain, RangeBody body, const void* state);

template <typename F>
void for_ranges(ParallelFor parallel_for, int64_t count, int64_t grain, const F& f) {
  if (count <= 0) return;
  parallel_for(
      count, grain,
      [](const void* state, int64_t begin, int64_t end) {
        (*static_cast<const F*>(state))(begin, end);
      },
      &f);
}

inline void openmp_parallel_for(int64_t count, int64_t grain, RangeBody body, const void* state) {
#ifdef _OPENMP
  const int threads = static_cast<int>(std::min<int64_t>(omp_get_max_threads(), count / grain));
  if (threads > 1 && !omp_in_parallel()) {
#pragma omp parallel num_threads(threads)
    {
      const int64_t parts = omp_get_num_threads(), part = omp_get_thread_num();
      const int64_t begin = count * part / parts, end = count * (part + 1) / parts;
      if (begin < end) body(state, begin, end);
    }
    return;
  }
#endif
  (void)grain;
  body(state, 0, count);
}

}  // namespace sphereface
