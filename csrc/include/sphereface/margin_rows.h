// What the margin adds to a row of the logits, of dx and of dweight. The CPU and the CUDA kernels
// sum over rows and loop over columns; the formulas are here.
//
// Precision, on every device: sums over a row (norms, products) and all that is done for the M
// label entries is in double, but for squares of bfloat16 on the CPU (cpu/vector.h). What is done
// for all N x K entries of dweight is in MathOf<T>, from double sums. Each addition rounds once to
// the storage type.
#pragma once

#include "sphereface/problem.h"

namespace sphereface {

template <typename T>
SPHEREFACE_HD T rounded(double value) {
  return Scalar<T>::store(static_cast<MathOf<T>>(value));
}

// out += on_w w + on_x x, for dx of a row with an angle and the gradient g of its label's entry.
struct InputUpdate {
  double on_w, on_x;

  template <typename T>
  SPHEREFACE_HD T operator()(T out, T w, T x) const {
    using S = Scalar<T>;
    return rounded<T>(S::load(out) + on_w * S::load(w) + on_x * S::load(x));
  }
};

template <typename T, typename Margin>
SPHEREFACE_HD InputUpdate input_update(const MarginProblem<T, Margin>& p, const LabelGeometry& row,
                                       double g) {
  const LabelGradient d = label_gradient(p.gradient, p.margin, *p.lambda, row);
  if constexpr (Margin::kFreeWeight) return {g * (d.weight - 1), g * d.input * row.w_norm};
  return {g * (d.weight - 1) / row.w_norm, g * d.input};
}

// out += on_x x + on_w w, for the label's row of dweight, before the normalisation if there is one.
struct WeightUpdate {
  double on_x, on_w;

  template <typename T>
  SPHEREFACE_HD T operator()(T out, T x, T w) const {
    using S = Scalar<T>;
    return rounded<T>(S::load(out) + on_x * S::load(x) + on_w * S::load(w));
  }
};

template <typename T, typename Margin>
SPHEREFACE_HD WeightUpdate weight_update(const MarginProblem<T, Margin>& p,
                                         const LabelGeometry& row, double g) {
  const LabelGradient d = label_gradient(p.gradient, p.margin, *p.lambda, row);
  // A free row's length counts: |x| |w| h depends on w as it does on x.
  const double ratio = row.x_norm / row.w_norm;
  const double on_w = Margin::kFreeWeight && row.has_angle() ? g * d.input * row.x_norm * ratio : 0;
  return {g * (d.weight - 1), on_w};
}

// Through w/|w|: d_raw = (d - w (w.d) / |w|^2) / |w|; 0 for a zero row.
template <typename T>
struct Projection {
  MathOf<T> scale, radial;

  SPHEREFACE_HD Projection(double w_norm, double w_dot_d) {
    const double inverse = w_norm == 0 ? 0 : 1 / w_norm;
    scale = static_cast<MathOf<T>>(inverse);
    radial = static_cast<MathOf<T>>(inverse * inverse * w_dot_d);
  }
  SPHEREFACE_HD MathOf<T> in_math(MathOf<T> d, MathOf<T> w) const {
    return scale * (d - radial * w);
  }
  SPHEREFACE_HD T operator()(T d, T w) const {
    using S = Scalar<T>;
    return S::store(in_math(S::load(d), S::load(w)));
  }
};

}  // namespace sphereface
