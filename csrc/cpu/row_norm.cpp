#include <atomic>
#include <cmath>

#include "bfloat16_rows.h"
#include "sphereface/cpu.h"
#include "vector.h"

namespace sphereface::cpu {

namespace {

// Rows are handed out in pieces of about this many elements, to be worth waking a thread.
constexpr int64_t kGrainElements = 1 << 15;

int64_t row_grain(int64_t cols) { return kGrainElements / (cols + 1) + 1; }

// The smallest row index reported by any thread.
class FirstRow {
 public:
  void report(int64_t row) {
    int64_t seen = first_.load(std::memory_order_relaxed);
    while ((seen < 0 || row < seen) && !first_.compare_exchange_weak(seen, row)) {
    }
  }
  int64_t value() const { return first_.load(); }

 private:
  std::atomic<int64_t> first_{-1};
};

// Both return the first row in [begin, end) that is not finite, or -1.
template <typename T>
SPHEREFACE_INLINE int64_t scan_range(Matrix<const T> rows, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < end; ++i) {
    if (!std::isfinite(squared_norm(rows.row(i), rows.cols))) return i;
  }
  return -1;
}

template <typename T>
SPHEREFACE_INLINE int64_t normalize_range(Matrix<const T> from, Matrix<T> to, int64_t begin,
                                          int64_t end) {
  int64_t bad = -1;
  for (int64_t i = begin; i < end; ++i) {
    const T* source = from.row(i);
    T* target = to.row(i);
    MathOf<T> scale = unit_scale<T>(squared_norm(source, from.cols));
    if (std::isnan(scale)) {  // the caller reports the row; what it had stays
      if (bad < 0) bad = i;
      scale = 1;
    }
    if (scale == 1) {
      if (source != target) std::copy_n(source, from.cols, target);
    } else if constexpr (std::is_same_v<T, bfloat16>) {
      multiply(source, scale, target, from.cols);
    } else {
      for (int64_t k = 0; k < from.cols; ++k) target[k] = scale * source[k];
    }
  }
  return bad;
}

// Function templates cannot be multiversioned, so each storage type has its entry points.
#define SPHEREFACE_ROW_RANGES(T)                                                               \
  SPHEREFACE_MULTIVERSION int64_t scan(Matrix<const T> rows, int64_t begin, int64_t end) {     \
    return scan_range(rows, begin, end);                                                       \
  }                                                                                            \
  SPHEREFACE_MULTIVERSION int64_t normalize(Matrix<const T> from, Matrix<T> to, int64_t begin, \
                                            int64_t end) {                                     \
    return normalize_range(from, to, begin, end);                                              \
  }
SPHEREFACE_ROW_RANGES(float)
SPHEREFACE_ROW_RANGES(double)
SPHEREFACE_ROW_RANGES(bfloat16)
#undef SPHEREFACE_ROW_RANGES

}  // namespace

SPHEREFACE_MULTIVERSION double inner(const float* a, const float* b, int64_t count) {
  return dot(a, b, count);
}
SPHEREFACE_MULTIVERSION double inner(const double* a, const double* b, int64_t count) {
  return dot(a, b, count);
}
SPHEREFACE_MULTIVERSION double inner(const bfloat16* a, const bfloat16* b, int64_t count) {
  return dot(a, b, count);
}

SPHEREFACE_MULTIVERSION double squared(const float* a, int64_t count) {
  return squared_norm(a, count);
}
SPHEREFACE_MULTIVERSION double squared(const double* a, int64_t count) {
  return squared_norm(a, count);
}
SPHEREFACE_MULTIVERSION double squared(const bfloat16* a, int64_t count) {
  return squared_norm(a, count);
}

template <typename T>
int64_t first_non_finite_row(Matrix<const T> rows, ParallelFor parallel_for) {
  FirstRow first;
  for_ranges(parallel_for, rows.rows, row_grain(rows.cols), [&](int64_t begin, int64_t end) {
    const int64_t bad = scan(rows, begin, end);
    if (bad >= 0) first.report(bad);
  });
  return first.value();
}

template <typename T>
int64_t normalize_rows(Matrix<const T> from, Matrix<T> to, ParallelFor parallel_for) {
  FirstRow first;
  for_ranges(parallel_for, from.rows, row_grain(from.cols), [&](int64_t begin, int64_t end) {
    const int64_t bad = normalize(from, to, begin, end);
    if (bad >= 0) first.report(bad);
  });
  return first.value();
}

#define SPHEREFACE_INSTANTIATE(T)                                         \
  template int64_t first_non_finite_row<T>(Matrix<const T>, ParallelFor); \
  template int64_t normalize_rows<T>(Matrix<const T>, Matrix<T>, ParallelFor);
SPHEREFACE_INSTANTIATE(float)
SPHEREFACE_INSTANTIATE(double)
SPHEREFACE_INSTANTIATE(bfloat16)
#undef SPHEREFACE_INSTANTIATE

}  // namespace sphereface::cpu
