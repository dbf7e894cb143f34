// The fused loss and the layer on shapes without rows, features or classes, and on weights with
// NaN, infinity and values at the ends of a type's range: no step outside memory of exactly the
// needed size and, under a sanitizer, nothing undefined; what cannot be right shows as NaN.
#include <array>
#include <limits>
#include <vector>

#include "check.h"
#include "rows.h"
#include "sphereface/cpu_softmax.h"
#include "sphereface/margin_inner_product.h"
#include "thread_pieces.h"

using namespace sphereface;

namespace {

template <typename T>
struct Case {
  using Math = MathOf<T>;
  int64_t batch, features, classes;
  std::vector<T> x, weight, dx, dweight, piece;
  std::vector<Math> sum, loss, target, cosine, grad;
  std::vector<double> lse;
  std::vector<int64_t> label, prediction, plain;
  Math lambda = 5;
  MarginProblem<T> p;

  // Every third value of the weight is `value`.
  Case(int64_t m, int64_t k, int64_t n, double value)
      : batch(m),
        features(k),
        classes(n),
        x(m * k, stored(0.3)),
        weight(n * k, stored(0.2)),
        dx(m * k),
        dweight(n * k),
        piece(m * k),
        sum(m * k),
        loss(m),
        target(m),
        cosine(m),
        grad(m, 1),
        lse(m),
        label(m, n - 1),
        prediction(m),
        plain(m) {
    for (size_t i = 0; i < weight.size(); i += 3) weight[i] = stored(value);
    p.x = {x.data(), m, k, k, 1};
    p.weight = {weight.data(), n, k, k, 1};
    p.label = label.data();
    p.lambda = &lambda;
    p.gradient = Gradient::kExact;
  }
  static T stored(double value) { return Scalar<T>::store(static_cast<Math>(value)); }
  static Matrix<T> rows(std::vector<T>& data, int64_t count, int64_t cols) {
    return {data.data(), count, cols, cols, 1};
  }
  bool all_nan(const std::vector<T>& values) const {
    for (const T value : values) {
      if (!std::isnan(Scalar<T>::load(value))) return false;
    }
    return true;
  }

  void fused(bool concurrent, bool keep) {
    const int64_t chunk = std::max<int64_t>(1, std::min<int64_t>(classes, 16));
    const int64_t width = keep ? classes : chunk;
    std::vector<double> scratch(cpu::softmax_scratch<T>(batch, chunk));
    std::vector<T> logits(batch * width);
    SoftmaxMemory<T> memory;
    memory.chunk = chunk;
    memory.logits = rows(logits, batch, width);
    memory.scratch = scratch.data();
    auto backend = cpu::backend<T>(Gemm<T>{}, thread_pieces<2>, concurrent);
    std::vector<SoftmaxRow> kept(batch);
    const SoftmaxOptions<T> options;
    cpu::margin_softmax_rows(p, options, memory, kept.data(), backend);
    backend.softmax_finish(p, options, kept.data(),
                           SoftmaxResult<T>{loss.data(), lse.data(), target.data(), cosine.data(),
                                            prediction.data(), plain.data()});
    SoftmaxGradients<T> out;
    out.dx = rows(dx, batch, features);
    out.dweight = rows(dweight, classes, features);
    out.piece = rows(piece, batch, features);
    out.sum = {sum.data(), batch, features, features, 1};
    cpu::margin_softmax_backward(p, options, grad.data(), lse.data(), memory, keep, out, backend);
  }

  void layer() {
    const int64_t chunk = std::max<int64_t>(1, classes / 3);
    auto backend = cpu::backend<T>(Gemm<T>{}, thread_pieces<2>);
    std::vector<T> unit(classes * features), y(batch * classes);
    const Matrix<T> logits = rows(y, batch, classes), workspace = rows(unit, classes, features);
    margin_inner_product(p, logits, chunk, workspace, backend);
    margin_inner_product_input_gradient(p, logits.as_const(), rows(dx, batch, features), chunk,
                                        workspace, backend);
    margin_inner_product_weight_gradient(p, logits.as_const(), rows(dweight, classes, features),
                                         chunk, backend);
  }
};

template <typename T>
void check_empty(int64_t batch, int64_t features, int64_t classes) {
  Case<T> c(batch, features, classes, 0.2);
  for (const bool concurrent : {false, true}) {
    for (const bool keep : {false, true}) {
      c.fused(concurrent, keep);
      // All logits are 0 without features; without classes no label is one.
      for (const auto loss : c.loss) {
        if (classes == 0) CHECK(std::isnan(loss));
        if (classes > 0) CHECK_NEAR(loss, std::log(double(classes)), 1e-5);
      }
      for (const T value : c.dweight) CHECK_EQUAL(Scalar<T>::load(value), 0);
    }
  }
  c.layer();
  for (const T value : c.dweight) CHECK_EQUAL(Scalar<T>::load(value), 0);
}

template <typename T>
void check_value(double value) {
  Case<T> c(5, 7, 90, value);
  const bool finite = std::isfinite(value);
  for (const bool concurrent : {false, true}) {
    for (const bool keep : {false, true}) {
      c.fused(concurrent, keep);
      for (const auto loss : c.loss) CHECK(std::isnan(loss) != finite);
      CHECK(c.all_nan(c.dx) != finite);
    }
  }
  c.layer();
  CHECK(c.all_nan(c.dx) != finite);
}

template <typename T>
void check_all() {
  for (const auto [batch, features, classes] :
       {std::array<int64_t, 3>{0, 4, 40}, {3, 0, 40}, {3, 4, 0}, {0, 0, 0}}) {
    check_empty<T>(batch, features, classes);
  }
  constexpr double kInf = std::numeric_limits<double>::infinity();
  for (const double value : {0.1, 1e30, -1e-30, kInf, -kInf, kNaN}) check_value<T>(value);
}

}  // namespace

int main() {
  check_all<float>();
  check_all<double>();
  check_all<bfloat16>();
  return summary();
}
