// for_ranges covers every index once, in ranges no smaller than the grain, also when nested.
#include "sphereface/parallel.h"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <vector>

#include "check.h"
#include "thread_pieces.h"

using sphereface::for_ranges;
using sphereface::openmp_parallel_for;

namespace {

struct Range {
  int64_t begin, end;
};

std::vector<Range> ranges_of(sphereface::ParallelFor parallel_for, int64_t count, int64_t grain) {
  std::mutex lock;
  std::vector<Range> ranges;
  for_ranges(parallel_for, count, grain, [&](int64_t begin, int64_t end) {
    const std::lock_guard<std::mutex> guard(lock);
    ranges.push_back({begin, end});
  });
  std::sort(ranges.begin(), ranges.end(),
            [](const Range& a, const Range& b) { return a.begin < b.begin; });
  return ranges;
}

void check_cover(sphereface::ParallelFor parallel_for, int64_t count, int64_t grain) {
  int64_t next = 0;
  for (const Range& range : ranges_of(parallel_for, count, grain)) {
    CHECK_EQUAL(range.begin, next);
    CHECK(range.end > range.begin);
    next = range.end;
  }
  CHECK_EQUAL(next, count);
}

void check_grain(int64_t count, int64_t grain) {
  const std::vector<Range> ranges = ranges_of(openmp_parallel_for, count, grain);
  for (size_t i = 0; i + 1 < ranges.size(); ++i) {
    CHECK(ranges[i].end - ranges[i].begin >= grain);
  }
}

void check_nested() {
  std::atomic<int64_t> sum{0};
  for_ranges(openmp_parallel_for, 64, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      for_ranges(openmp_parallel_for, 8, 1, [&](int64_t b, int64_t e) { sum += i * (e - b); });
    }
  });
  CHECK_EQUAL(sum.load(), 8 * 64 * 63 / 2);
}

}  // namespace

int main() {
#ifdef _OPENMP
  omp_set_num_threads(5);  // more than this machine may have
#endif
  for (const int64_t count : {1, 2, 15, 16, 17, 31, 33, 1000, 1001}) {
    for (const int64_t grain : {1, 2, 16, 500, 5000}) {
      check_cover(openmp_parallel_for, count, grain);
      check_grain(count, grain);
    }
    check_cover(thread_pieces<7>, count, 1);
  }
  for (const int64_t count : {0, -1}) CHECK(ranges_of(openmp_parallel_for, count, 16).empty());
  check_nested();
#ifdef _OPENMP
  CHECK_EQUAL(ranges_of(openmp_parallel_for, 1000, 16).size(), 5u);
  CHECK_EQUAL(ranges_of(openmp_parallel_for, 15, 16).size(), 1u);
#endif
  return summary();
}
