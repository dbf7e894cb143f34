// Softmax cross entropy over logits that come in pieces of the classes: what is kept of a row, the
// loss and the gradient. As torch's cross_entropy with class weights w and label smoothing e:
//
//   loss = (1 - e) w_y (lse - z_y) + e/N sum_j w_j (lse - z_j),     lse = log sum_j exp z_j
//
// A row with the ignored label has loss and gradient 0; one with a label that is no class has NaN.
#pragma once

#include <cmath>

#include "sphereface/binary_rows.h"
#include "sphereface/problem.h"

namespace sphereface {

template <typename T>
struct SoftmaxOptions {
  using Math = MathOf<T>;
  double label_smoothing = 0;
  const Math* class_weight = nullptr;  // of the problem's own classes; null: all 1
  const Math* weight_sum = nullptr;    // their sum over all classes, if they are given
  const Math* label_weight = nullptr;  // (M): the weight of each row's label, if they are given
  const Math* bias = nullptr;          // of the problem's own classes; null: none

  SoftmaxOptions part(int64_t begin) const {
    SoftmaxOptions s = *this;
    if (class_weight != nullptr) s.class_weight += begin;
    if (bias != nullptr) s.bias += begin;
    return s;
  }
};

// What is kept of a row of logits while they go by.
struct SoftmaxRow {
  double max, sum;  // sum_j exp(z_j - max); of SphereFace2, sum_j of the binary losses
  double weighted;  // sum_j w_j z_j, for label smoothing
  double target;    // z of the label,
  double plain;     // the same without a margin,
  double cosine;    // and its cosine
  double other;     // the largest z but the label's
  int64_t other_class;

  SPHEREFACE_HD static SoftmaxRow empty() {
    return {-kInfinity, 0, 0, kNaN, kNaN, kNaN, -kInfinity, -1};
  }
  SPHEREFACE_HD double lse() const { return max + std::log(sum); }
};

// The factors of a row in loss = hit (lse - z_y) + sum_j spread w_j (lse - z_j), total = sum_j w_j.
struct SoftmaxFactors {
  double hit, spread, total;
};

template <typename T, typename Margin>
SPHEREFACE_HD SoftmaxFactors softmax_factors(const MarginProblem<T, Margin>& p,
                                             const SoftmaxOptions<T>& s, int64_t i) {
  const int64_t label = p.label[i], classes = p.all_classes();
  if (p.ignores(i)) return {0, 0, 0};
  const bool is_class = label >= 0 && label < classes;
  const double weight = !is_class                   ? kNaN
                        : s.label_weight == nullptr ? 1
                                                    : static_cast<double>(s.label_weight[i]);
  return {
      (1 - s.label_smoothing) * weight, s.label_smoothing / static_cast<double>(classes),
      s.weight_sum == nullptr ? static_cast<double>(classes) : static_cast<double>(*s.weight_sum)};
}

SPHEREFACE_HD inline double softmax_loss(const SoftmaxFactors& f, const SoftmaxRow& row) {
  if (f.hit == 0 && f.spread == 0) return 0;
  const double lse = row.lse();
  const double smoothing = f.spread == 0 ? 0 : f.spread * (f.total * lse - row.weighted);
  return (f.hit == 0 ? 0 : f.hit * (lse - row.target)) + smoothing;
}

// The class with the largest logit, `label_logit` being that of the label; the first of equal ones.
SPHEREFACE_HD inline int64_t softmax_prediction(const SoftmaxRow& row, int64_t label,
                                                double label_logit) {
  const bool is_label =
      label_logit > row.other || (label_logit == row.other && label < row.other_class);
  return is_label ? label : row.other_class;
}

// Where the results go, each of M values.
template <typename T>
struct SoftmaxResult {
  MathOf<T>* loss;
  double* lse;
  MathOf<T>* target;          // the label's logit; NaN where there is none, as for
  MathOf<T>* cosine;          // its cosine
  int64_t* prediction;        // the class with the largest logit
  int64_t* plain_prediction;  // the same with the label's logit taken without a margin
};

template <typename T, typename Margin>
SPHEREFACE_HD void store_softmax_row(const MarginProblem<T, Margin>& p, const SoftmaxOptions<T>& s,
                                     const SoftmaxRow& row, int64_t i, SoftmaxResult<T> out) {
  using Math = MathOf<T>;
  if constexpr (kIsBinary<Margin>) {
    out.loss[i] = static_cast<Math>(binary_loss(p, row.sum, i));
    out.lse[i] = softplus(row.target);
  } else {
    out.loss[i] = static_cast<Math>(softmax_loss(softmax_factors(p, s, i), row));
    out.lse[i] = row.lse();
  }
  out.target[i] = static_cast<Math>(row.target);
  out.cosine[i] = static_cast<Math>(row.cosine);
  out.prediction[i] = softmax_prediction(row, p.label[i], row.target);
  out.plain_prediction[i] = softmax_prediction(row, p.label[i], row.plain);
}

// d loss / d z_j = on_p exp(z_j - lse) - on_w w_j - [j = label] on_label, all times grad. Nothing,
// where grad is 0, so that a row without a loss (NaN) can be left out of a sum.
struct SoftmaxGradient {
  double on_p, on_w, on_label;
};

template <typename T, typename Margin>
SPHEREFACE_HD SoftmaxGradient softmax_gradient_of(const MarginProblem<T, Margin>& p,
                                                  const SoftmaxOptions<T>& s, int64_t i,
                                                  double grad) {
  if (grad == 0) return {0, 0, 0};
  const SoftmaxFactors f = softmax_factors(p, s, i);
  return {grad * (f.hit + f.spread * f.total), grad * f.spread, grad * f.hit};
}

}  // namespace sphereface
