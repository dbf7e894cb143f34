// margin_softmax.h for a cpu::Backend: the same functions, overloaded, which give every thread
// whole blocks of classes. While a block's logits are in cache the thread makes them, takes their
// exponentials and multiplies them on; no row of the weight is ever copied, because the logits'
// columns are divided by the rows' lengths instead, and the part of dweight along w is found from
// the logits.
//
// Blocks, tiles of dx and the order in which they are put together do not depend on the number of
// threads, and neither do the results if the caller's product is one of a single thread.
#pragma once

#include <algorithm>
#include <atomic>

#include "sphereface/cpu.h"
#include "sphereface/margin_softmax.h"

namespace sphereface::cpu {

// What a block of classes says of a row.
template <typename T>
struct SoftmaxPartial {
  double sum, weighted;  // of exp(z - max), of weight z
  MathOf<T> max, other;
  int64_t other_class;
};

// Factors of the logits: z_ij = row[i] column[j] x_i.w_j.
template <typename T>
struct SoftmaxScales {
  const MathOf<T>* row;     // scale / |x|; null: 1
  const MathOf<T>* column;  // 1 / |w|; null: 1
};

// scale / |x| of every row, 0 for a zero row.
template <typename T>
void row_scales(Matrix<const T> x, MathOf<T> scale, MathOf<T>* out, ParallelFor parallel_for);

// The following work on one block of classes in the calling thread.

// 1 / |w| of every row, 0 for a zero row; returns the first row that is not finite, or -1.
template <typename T>
int64_t column_scales(Matrix<const T> weight, MathOf<T>* out);

// Products become logits with the margin.
template <typename T, typename Margin>
void softmax_logits(const MarginProblem<T, Margin>& part, const SoftmaxOptions<T>& options,
                    const SoftmaxScales<T>& scales, Matrix<T> logits);

// The same, and what they say of the rows goes to `partial` (M), of the labels to `rows`.
template <typename T, typename Margin>
void softmax_update(const MarginProblem<T, Margin>& part, const SoftmaxOptions<T>& options,
                    const SoftmaxScales<T>& scales, Matrix<T> logits, SoftmaxPartial<T>* partial,
                    SoftmaxRow* rows);

// Takes `count` partials of row i, `stride` apart, into what is known of it.
template <typename T>
void softmax_merge(const SoftmaxPartial<T>* partial, int64_t count, int64_t stride,
                   SoftmaxRow& row);

// Logits become the gradient of the products but for the margin: times the scales, or, without
// `radial`, those of the rows. `radial` gets sum_i g_ij x_i.w_j/|w_j| with the margin's share in g,
// label_grad the gradient of each label that is here, and `total` (needed where there is a bias)
// the sum over i of the logits' gradient.
template <typename T, typename Margin>
void softmax_gradient(const MarginProblem<T, Margin>& part, const SoftmaxOptions<T>& options,
                      const SoftmaxScales<T>& scales, const MathOf<T>* grad, const double* lse,
                      Matrix<T> logits, MathOf<T>* radial, MathOf<T>* total, double* label_grad);

// Multiplies the columns by the scales.
template <typename T>
void scale_columns(Matrix<T> grad, const MathOf<T>* column);

// dweight_rows, holding the products' gradient, gets the margin's share and loses what is along w.
template <typename T, typename Margin>
void softmax_weight_gradient(const MarginProblem<T, Margin>& part, const SoftmaxScales<T>& scales,
                             const MathOf<T>* radial, const double* label_grad,
                             Matrix<T> dweight_rows);

// dx (in MathOf<T>), holding the products' gradient, gets the margin's share; with a scale it is
// taken through the normalisation of x, and dscale (M, may be null) gets the scale's gradient.
template <typename T, typename Margin>
void softmax_input_gradient(const MarginProblem<T, Margin>& problem, const MathOf<T>* row_scale,
                            const double* label_grad, Matrix<MathOf<T>> dx, double* dscale,
                            ParallelFor parallel_for);

namespace detail {

constexpr int64_t kBlockClasses = 256;  // a block's logits and its rows of W fit a core's cache
constexpr int64_t kMinBlocks = 4;       // of a chunk, whose blocks are a multiple, for the threads
constexpr int64_t kTileRows = 128, kTileColumns = 256;  // of dx

inline int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

inline int64_t block_classes(int64_t chunk) {
  const int64_t blocks =
      divide_up(std::max(kMinBlocks, chunk / kBlockClasses), kMinBlocks) * kMinBlocks;
  return divide_up(divide_up(chunk, blocks), 16) * 16;
}

// Calls f(index) for [0, count), by the threads, each of which takes the next index when it is done
// with one: a thread that is held up leaves its share to the others. At least two ranges, so that
// with more than one thread f is in a parallel region, where a BLAS uses one.
template <typename F>
void for_each(ParallelFor parallel_for, int64_t count, const F& f) {
  std::atomic<int64_t> next{0};
  for_ranges(parallel_for, std::max<int64_t>(count, 2), 1, [&](int64_t, int64_t) {
    for (int64_t i = next++; i < count; i = next++) f(i);
  });
}

}  // namespace detail

// How many doubles SoftmaxMemory::scratch needs.
template <typename T>
int64_t softmax_scratch(int64_t batch, int64_t chunk) {
  const int64_t blocks = detail::divide_up(chunk, detail::block_classes(chunk));
  const int64_t partials = blocks * batch * sizeof(SoftmaxPartial<T>) / sizeof(double);
  return partials + 2 * batch + 3 * chunk;
}

namespace detail {

// A step that is a product of the caller's, which may have threads of its own.
template <typename F>
struct Product {
  F f;
  void operator()(int64_t begin, int64_t count) const { f(begin, count); }
};

template <typename F>
Product<F> product(F f) {
  return {f};
}

// A pass over the classes: the memory it works in and how its blocks are run.
template <typename T, typename Margin, typename Gemm>
class SoftmaxPass {
 public:
  using Math = MathOf<T>;

  SoftmaxPass(const MarginProblem<T, Margin>& p, const SoftmaxMemory<T>& memory,
              Backend<T, Gemm>& backend)
      : projects(p.gradient == Gradient::kExact && !Margin::kFreeWeight),
        p_(p),
        memory_(memory),
        backend_(backend),
        block_(block_classes(memory.chunk)),
        measures_(projects || !p.unit_rows) {
    const int64_t batch = p.x.rows;
    label_grad = memory.scratch;
    row_scale_ = reinterpret_cast<Math*>(label_grad + batch);
    column_scale_ = reinterpret_cast<Math*>(label_grad + 2 * batch);
    radial_ = column_scale_ + memory.chunk;
    total_ = radial_ + memory.chunk;
    partial_ = reinterpret_cast<SoftmaxPartial<T>*>(label_grad + 2 * batch + 3 * memory.chunk);
    if (p.scale != nullptr) row_scales(p.x, *p.scale, row_scale_, backend.parallel_for);
  }

  // The weight's first row that is not finite is the backend's to report.
  ~SoftmaxPass() {
    if (bad_row_ >= 0 && backend_.non_finite_row == nullptr) {
      backend_.non_finite_row = p_.weight.row(bad_row_);
    }
  }

  // Calls body() for every chunk, which is what the other functions work on.
  template <typename Body>
  void chunks(const Body& body) {
    for (begin_ = 0; begin_ < p_.weight.rows; begin_ += memory_.chunk) {
      count_ = std::min(memory_.chunk, p_.weight.rows - begin_);
      body();
    }
  }

  // Runs the steps, (begin, count) each, on the chunk's blocks: where products may run beside each
  // other, all steps of a block in one thread; otherwise the products are the whole chunk's,
  // between loops over the blocks.
  template <typename... Steps>
  void blocks(const Steps&... steps) {
    if (backend_.concurrent) {
      each_block([&](int64_t begin, int64_t count) { (steps(begin, count), ...); });
    } else {
      (run(steps), ...);
    }
  }

  Matrix<T> logits(int64_t begin, int64_t count) const {
    return memory_.logits.col_range(memory_.keeps(p_.weight.rows) ? begin : begin - begin_, count);
  }
  Matrix<const T> weight(int64_t begin, int64_t count) const {
    return p_.weight.row_range(begin, count);
  }
  void make_logits(int64_t begin, int64_t count) const {
    backend_.gemm(p_.x, weight(begin, count).transposed(), logits(begin, count), false);
  }
  void measure_weight(int64_t begin, int64_t count) {
    if (!measures_) return;
    const int64_t bad = column_scales(weight(begin, count), column_scale_ + (begin - begin_));
    if (bad < 0) return;
    int64_t seen = bad_row_.load();
    while ((seen < 0 || begin + bad < seen) && !bad_row_.compare_exchange_weak(seen, begin + bad)) {
    }
  }
  SoftmaxScales<T> scales(int64_t begin) const {
    return {p_.scale == nullptr ? nullptr : row_scale_,
            measures_ ? column_scale_ + (begin - begin_) : nullptr};
  }
  Math* radial(int64_t begin) const { return radial_ + (begin - begin_); }
  Math* total(int64_t begin) const { return total_ + (begin - begin_); }
  SoftmaxPartial<T>* partial(int64_t begin) const {
    return partial_ + (begin - begin_) / block_ * p_.x.rows;
  }
  void merge(SoftmaxRow* rows) const {
    const int64_t batch = p_.x.rows, count = divide_up(count_, block_);
    for_ranges(backend_.parallel_for, batch, 64, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) softmax_merge(partial_ + i, count, batch, rows[i]);
    });
  }

  // dx (+)= grad w for the chunk, in tiles.
  void multiply_input(const SoftmaxGradients<T>& out) const {
    const Matrix<const T> grad = logits(begin_, count_).as_const(), w = weight(begin_, count_);
    if (!backend_.concurrent) return multiply_tile(grad, w, out, 0, p_.x.rows, 0, p_.x.cols);
    const int64_t across = divide_up(p_.x.cols, kTileColumns);
    for_each(backend_.parallel_for, divide_up(p_.x.rows, kTileRows) * across, [&](int64_t tile) {
      const int64_t i = tile / across * kTileRows, k = tile % across * kTileColumns;
      multiply_tile(grad, w, out, i, std::min(kTileRows, p_.x.rows - i), k,
                    std::min(kTileColumns, p_.x.cols - k));
    });
  }

  void finish_input(Matrix<Math> dx, double* dscale) const {
    softmax_input_gradient(p_, scales(0).row, label_grad, dx, dscale, backend_.parallel_for);
  }

  double* label_grad;   // (M)
  const bool projects;  // the gradient goes through the weight's normalisation

 private:
  template <typename F>
  void each_block(const F& f) {
    for_each(backend_.parallel_for, divide_up(count_, block_), [&](int64_t index) {
      const int64_t begin = begin_ + index * block_;
      f(begin, std::min(block_, begin_ + count_ - begin));
    });
  }
  template <typename F>
  void run(const F& step) {
    each_block(step);
  }
  template <typename F>
  void run(const Product<F>& step) {
    step(begin_, count_);
  }
  void multiply_tile(Matrix<const T> grad, Matrix<const T> w, const SoftmaxGradients<T>& out,
                     int64_t i, int64_t rows, int64_t k, int64_t columns) const {
    const Matrix<const T> g = grad.row_range(i, rows), right = w.col_range(k, columns);
    if constexpr (sizeof(T) == sizeof(Math)) {
      backend_.gemm(g, right, out.dx.row_range(i, rows).col_range(k, columns), begin_ > 0);
    } else {
      const Matrix<T> piece = out.piece.row_range(i, rows).col_range(k, columns);
      backend_.gemm(g, right, piece, false);
      add(piece.as_const(), out.sum.row_range(i, rows).col_range(k, columns), begin_ == 0);
    }
  }

  const MarginProblem<T, Margin>& p_;
  const SoftmaxMemory<T>& memory_;
  Backend<T, Gemm>& backend_;
  const int64_t block_;
  const bool measures_;
  int64_t begin_ = 0, count_ = 0;
  Math *row_scale_, *column_scale_, *radial_, *total_;
  SoftmaxPartial<T>* partial_;
  std::atomic<int64_t> bad_row_{-1};
};

}  // namespace detail

template <typename T, typename Margin, typename Gemm>
void margin_softmax_rows(const MarginProblem<T, Margin>& p, const SoftmaxOptions<T>& s,
                         const SoftmaxMemory<T>& memory, SoftmaxRow* rows,
                         Backend<T, Gemm>& backend) {
  backend.clear_rows(rows, p.x.rows);
  detail::SoftmaxPass<T, Margin, Gemm> pass(p, memory, backend);
  pass.chunks([&] {
    pass.blocks(detail::product([&](int64_t b, int64_t n) { pass.make_logits(b, n); }),
                [&](int64_t b, int64_t n) {
                  pass.measure_weight(b, n);
                  softmax_update(p.part(b, n), s.part(b), pass.scales(b), pass.logits(b, n),
                                 pass.partial(b), rows);
                });
    pass.merge(rows);
  });
}

template <typename T, typename Margin, typename Gemm>
void margin_softmax_backward(const MarginProblem<T, Margin>& p, const SoftmaxOptions<T>& s,
                             const MathOf<T>* grad, const double* lse,
                             const SoftmaxMemory<T>& memory, bool kept,
                             const SoftmaxGradients<T>& out, Backend<T, Gemm>& backend) {
  using Math = MathOf<T>;
  constexpr bool kRounds = sizeof(T) < sizeof(Math);
  const bool wants_x = out.dx.data != nullptr, wants_weight = out.dweight.data != nullptr;
  const bool sums = s.bias != nullptr || out.dbias != nullptr;
  detail::SoftmaxPass<T, Margin, Gemm> pass(p, memory, backend);
  pass.chunks([&] {
    pass.blocks(
        detail::product([&](int64_t b, int64_t n) {
          if (!kept) pass.make_logits(b, n);
        }),
        [&](int64_t b, int64_t n) {
          pass.measure_weight(b, n);
          const auto part = p.part(b, n);
          if (!kept) softmax_logits(part, s.part(b), pass.scales(b), pass.logits(b, n));
          softmax_gradient(part, s.part(b), pass.scales(b), grad, lse, pass.logits(b, n),
                           pass.projects ? pass.radial(b) : nullptr, sums ? pass.total(b) : nullptr,
                           pass.label_grad);
          if (out.dbias != nullptr) std::copy_n(pass.total(b), n, out.dbias + b);
        },
        detail::product([&](int64_t b, int64_t n) {
          if (!wants_weight) return;
          const Matrix<const T> g = pass.logits(b, n).as_const();
          backend.gemm(g.transposed(), p.x, out.dweight.row_range(b, n), false);
        }),
        [&](int64_t b, int64_t n) {
          if (wants_weight && p.gradient == Gradient::kExact) {
            softmax_weight_gradient(p.part(b, n), pass.scales(b),
                                    pass.projects ? pass.radial(b) : nullptr, pass.label_grad,
                                    out.dweight.row_range(b, n));
          }
          if (!pass.projects && pass.scales(b).column != nullptr) {
            scale_columns(pass.logits(b, n), pass.scales(b).column);
          }
        });
    if (wants_x) pass.multiply_input(out);
  });
  if (!wants_x) return;
  Matrix<Math> dx;
  if constexpr (kRounds) {
    dx = out.sum;
  } else {
    dx = out.dx;
  }
  if (p.weight.rows == 0) {
    for (int64_t i = 0; i < dx.rows; ++i) std::fill_n(dx.row(i), dx.cols, Math(0));
  }
  pass.finish_input(dx, out.dscale);
  if constexpr (kRounds) backend.round(dx.as_const(), out.dx);
}

}  // namespace sphereface::cpu
