// A ParallelFor on kThreads std::threads whatever the grain, so that small problems are split too
// and threading is tested in builds without OpenMP.
#pragma once

#include <thread>
#include <vector>

#include "sphereface/parallel.h"

template <int kThreads>
void thread_pieces(int64_t count, int64_t, sphereface::RangeBody body, const void* state) {
  std::vector<std::thread> threads;
  for (int64_t t = 0; t < kThreads; ++t) {
    const int64_t begin = count * t / kThreads, end = count * (t + 1) / kThreads;
    if (begin < end) threads.emplace_back(body, state, begin, end);
  }
  for (std::thread& thread : threads) thread.join();
}
