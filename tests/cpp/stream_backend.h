// What margin_softmax.h asks of a device, as plain loops: the sequence that CUDA runs, on the host.
#pragma once

#include <algorithm>
#include <cmath>

#include "rows.h"
#include "sphereface/cpu.h"
#include "sphereface/margin_rows.h"
#include "sphereface/softmax_rows.h"

namespace sphereface {

template <typename T>
struct StreamBackend {
  using S = Scalar<T>;
  using Math = MathOf<T>;

  cpu::Backend<T, Gemm<T>> layer = cpu::backend<T>(Gemm<T>{});

  void gemm(Matrix<const T> a, Matrix<const T> b, Matrix<T> c, bool accumulate) {
    layer.gemm(a, b, c, accumulate);
  }
  void normalize_rows(Matrix<const T> from, Matrix<T> to) { layer.normalize_rows(from, to); }
  template <typename Margin>
  void margin_forward(const MarginProblem<T, Margin>& p, Matrix<T> y) {
    layer.margin_forward(p, y);
  }
  template <typename Margin>
  void margin_input_gradient(const MarginProblem<T, Margin>& p, Matrix<const T> grad,
                             Matrix<T> dx) {
    layer.margin_input_gradient(p, grad, dx);
  }
  template <typename Margin>
  void margin_weight_gradient(const MarginProblem<T, Margin>& p, Matrix<const T> grad,
                              Matrix<T> dweight) {
    layer.margin_weight_gradient(p, grad, dweight);
  }
  void clear_rows(SoftmaxRow* rows, int64_t count) {
    std::fill_n(rows, count, SoftmaxRow::empty());
  }
  template <typename Margin>
  void softmax_update(const MarginProblem<T, Margin>& p, const SoftmaxOptions<T>& s,
                      Matrix<const T> logits, SoftmaxRow* rows) {
    for (int64_t i = 0; i < p.x.rows; ++i) {
      SoftmaxRow& row = rows[i];
      for (int64_t j = 0; j < logits.cols; ++j) {
        const double z = S::load(logits.at(i, j));
        if (z > row.max) {
          row.sum *= std::exp(row.max - z);
          row.max = z;
        }
        row.sum += std::exp(z - row.max);
        if (s.label_smoothing != 0) {
          row.weighted += z * (s.class_weight == nullptr ? 1 : s.class_weight[j]);
        }
        if (p.has_label(i) && p.label_column(i) == j) {
          const LabelGeometry geometry = label_geometry(p, i);
          row.target = z;
          row.plain = p.has_margin(i) ? plain_logit(p.margin, geometry) : z;
          row.cosine = geometry.has_angle() ? geometry.cosine() : 0;
        } else if (z > row.other) {
          row.other = z;
          row.other_class = p.first_class + j;
        }
      }
    }
  }
  template <typename Margin>
  void softmax_finish(const MarginProblem<T, Margin>& p, const SoftmaxOptions<T>& s,
                      const SoftmaxRow* rows, const SoftmaxResult<T>& result) {
    layer.softmax_finish(p, s, rows, result);
  }
  template <typename Margin>
  void softmax_gradient(const MarginProblem<T, Margin>& p, const SoftmaxOptions<T>& s,
                        const Math* grad, const double* lse, Matrix<T> logits) {
    for (int64_t i = 0; i < p.x.rows; ++i) {
      const SoftmaxGradient d = softmax_gradient_of(p, s, i, grad[i]);
      for (int64_t j = 0; j < logits.cols; ++j) {
        const double weight = s.class_weight == nullptr ? 1 : s.class_weight[j];
        double g = d.on_p * std::exp(S::load(logits.at(i, j)) - lse[i]) - d.on_w * weight;
        if (p.has_label(i) && p.label_column(i) == j) g -= d.on_label;
        logits.at(i, j) = rounded<T>(d.on_p == 0 ? 0 : g);
      }
    }
  }
  void add_bias(const Math* bias, Matrix<T> logits) {
    for (int64_t i = 0; i < logits.rows; ++i) {
      for (int64_t j = 0; j < logits.cols; ++j) {
        logits.at(i, j) = S::store(S::load(logits.at(i, j)) + bias[j]);
      }
    }
  }
  void column_sums(Matrix<const T> grad, Math* sum) {
    for (int64_t j = 0; j < grad.cols; ++j) {
      sum[j] = 0;
      for (int64_t i = 0; i < grad.rows; ++i) sum[j] += S::load(grad.at(i, j));
    }
  }
  void add(Matrix<const T> piece, Matrix<Math> sum, bool first) { cpu::add(piece, sum, first); }
  void round(Matrix<const Math> sum, Matrix<T> dx) { layer.round(sum, dx); }
  void scale_rows(Matrix<const T> x, const Math* scale, Matrix<T> to) {
    for (int64_t i = 0; i < x.rows; ++i) {
      const double norm = length(x, i);
      for (int64_t k = 0; k < x.cols; ++k) {
        to.at(i, k) = rounded<T>(*scale * S::load(x.at(i, k)) / norm);
      }
    }
  }
  void scale_gradient(Matrix<const T> x, const Math* scale, Matrix<Math> dx, double* dscale) {
    for (int64_t i = 0; i < x.rows; ++i) {
      const double norm = length(x, i);
      double along = 0;
      for (int64_t k = 0; k < x.cols; ++k) along += S::load(x.at(i, k)) / norm * dx.at(i, k);
      for (int64_t k = 0; k < x.cols; ++k) {
        const double side = dx.at(i, k) - along * S::load(x.at(i, k)) / norm;
        dx.at(i, k) = static_cast<Math>(*scale / norm * side);
      }
      if (dscale != nullptr) dscale[i] = along;
    }
  }

 private:
  static double length(Matrix<const T> rows, int64_t i) {
    double squared = 0;
    for (int64_t k = 0; k < rows.cols; ++k) {
      squared += double{S::load(rows.at(i, k))} * S::load(rows.at(i, k));
    }
    return std::sqrt(squared);
  }
  template <typename Margin>
  static LabelGeometry label_geometry(const MarginProblem<T, Margin>& p, int64_t i) {
    double dot = 0;
    const Matrix<const T> w = p.weight.row_range(p.label_column(i), 1);
    for (int64_t k = 0; k < p.x.cols; ++k) {
      dot += double{S::load(p.x.at(i, k))} * S::load(w.at(0, k));
    }
    return seen_by(p.margin, {length(p.x, i), length(w, 0), dot});
  }
};

}  // namespace sphereface
