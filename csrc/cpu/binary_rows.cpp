#include "sphereface/binary_rows.h"

#include "sphereface/cpu.h"

namespace sphereface::cpu {

namespace {

constexpr int64_t kGrainElements = 1 << 12;

int64_t row_grain(int64_t cols) { return kGrainElements / (cols + 1) + 1; }

}  // namespace

template <typename T>
void binary_update(const MarginProblem<T, SphereFace2>& p, const SoftmaxOptions<T>& s,
                   Matrix<const T> entries, SoftmaxRow* rows, ParallelFor parallel_for) {
  using Math = MathOf<T>;
  const BinaryRow<Math> terms(p.margin);
  for_ranges(parallel_for, p.x.rows, row_grain(entries.cols), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      SoftmaxRow& row = rows[i];
      const T* e = entries.row(i);
      const int64_t label = p.has_label(i) ? p.label_column(i) : -1;
      double sum = 0;
      for (int64_t j = 0; j < p.weight.rows; ++j) {
        const Math entry = Scalar<T>::load(e[j]), bias = s.bias == nullptr ? 0 : s.bias[j];
        const Math z = terms.logit(entry, bias, j == label);
        sum += terms.loss(z, j == label);
        if (j == label) {
          row.target = z;
          row.plain = terms.logit(entry, bias, false);
          row.cosine = entry / terms.r;
        } else if (z > row.other) {
          row.other = z;
          row.other_class = p.first_class + j;
        }
      }
      row.sum += sum;
    }
  });
}

template <typename T>
void binary_gradient(const MarginProblem<T, SphereFace2>& p, const SoftmaxOptions<T>& s,
                     const MathOf<T>* grad, Matrix<T> entries, ParallelFor parallel_for) {
  using Math = MathOf<T>;
  const BinaryRow<Math> terms(p.margin);
  for_ranges(parallel_for, p.x.rows, row_grain(entries.cols), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      T* e = entries.row(i);
      const int64_t label = p.has_label(i) ? p.label_column(i) : -1;
      const double own = binary_factor(p, i);
      if (own == 0) {  // an ignored row, whose entries may be anything
        std::fill_n(e, p.weight.rows, Scalar<T>::store(0));
        continue;
      }
      const auto factor = static_cast<Math>(own * grad[i]);
      for (int64_t j = 0; j < p.weight.rows; ++j) {
        const Math bias = s.bias == nullptr ? 0 : s.bias[j];
        const Math z = terms.logit(Scalar<T>::load(e[j]), bias, j == label);
        e[j] = Scalar<T>::store(factor * terms.slope(z, j == label));
      }
    }
  });
}

#define SPHEREFACE_INSTANTIATE(T)                                                               \
  template void binary_update(const MarginProblem<T, SphereFace2>&, const SoftmaxOptions<T>&,   \
                              Matrix<const T>, SoftmaxRow*, ParallelFor);                       \
  template void binary_gradient(const MarginProblem<T, SphereFace2>&, const SoftmaxOptions<T>&, \
                                const MathOf<T>*, Matrix<T>, ParallelFor);
SPHEREFACE_INSTANTIATE(float)
SPHEREFACE_INSTANTIATE(double)
SPHEREFACE_INSTANTIATE(bfloat16)
#undef SPHEREFACE_INSTANTIATE

}  // namespace sphereface::cpu
