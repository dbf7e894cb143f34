// margin_softmax and its backward over a device policy, as margin_ops.h has it for the layer alone.
// A policy has, besides what is listed there,
//   softmax_chunk<T>(M, K, N, raw, keep)   how many classes to take at once
//   softmax_scratch<T>(M, chunk)           doubles that a pass needs
//   kCopiesRows                            whether it needs unit copies of raw rows
#pragma once

#include <tuple>
#include <utility>
#include <vector>

#include "margin_ops.h"
#include "sphereface/margin_softmax.h"

namespace sphereface::torch_ops {

// Which policy and its numbers, as sphereface.margin_policy names them.
struct MarginArguments {
  int64_t family;
  std::vector<double> values;

  template <typename F>
  void with_policy(const F& f) const {
    const auto count = static_cast<int64_t>(values.size());
    if (!with_margin(family, values.data(), count, f)) {
      fail("there is no margin of family ", family, " with ", count, " numbers");
    }
  }
};

// What all operators take, in the order of their schemas.
struct SoftmaxArguments {
  Arguments base;
  std::optional<Tensor> scale;
  MarginArguments margin;
  double label_smoothing;
  std::optional<Tensor> class_weight, weight_sum, label_weight, bias;
  int64_t first_class, total_classes;

  SoftmaxArguments(const Tensor& x, const Tensor& weight, const Tensor& label, const Tensor& lambda,
                   std::optional<Tensor> scale_in, int64_t family, std::vector<double> margin_in,
                   bool exact, bool unit_rows, std::optional<int64_t> ignore_index,
                   double label_smoothing_in, std::optional<Tensor> class_weight_in,
                   std::optional<Tensor> weight_sum_in, std::optional<Tensor> label_weight_in,
                   std::optional<Tensor> bias_in, int64_t first_class_in, int64_t total_classes_in)
      : base(x, weight, label, lambda, 1, exact, unit_rows, ignore_index),
        scale(std::move(scale_in)),
        margin{family, std::move(margin_in)},
        label_smoothing(label_smoothing_in),
        class_weight(std::move(class_weight_in)),
        weight_sum(std::move(weight_sum_in)),
        label_weight(std::move(label_weight_in)),
        bias(std::move(bias_in)),
        first_class(first_class_in),
        total_classes(total_classes_in) {}

  template <typename T, typename Margin>
  MarginProblem<T, Margin> problem(const Margin& policy) const {
    MarginProblem<T, Margin> p = base.problem<T>(policy);
    p.scale = values<T>(scale, 1, "scale");
    p.first_class = first_class;
    p.total_classes = total_classes;
    return p;
  }

  template <typename T>
  SoftmaxOptions<T> options() const {
    SoftmaxOptions<T> s;
    s.label_smoothing = label_smoothing;
    s.class_weight = values<T>(class_weight, base.weight.size(0), "class_weight");
    s.weight_sum = values<T>(weight_sum, 1, "weight_sum");
    s.label_weight = values<T>(label_weight, base.x.size(0), "label_weight");
    s.bias = values<T>(bias, base.weight.size(0), "bias");
    return s;
  }

 private:
  template <typename T>
  const MathOf<T>* values(const std::optional<Tensor>& t, int64_t count, const char* name) const {
    if (!t.has_value()) return nullptr;
    const ScalarType math = sizeof(MathOf<T>) == 8 ? ScalarType::Double : ScalarType::Float;
    if (t->numel() != count || t->scalar_type() != math || !t->is_contiguous()) {
      fail(name, " has shape ", shape_of(*t), " and dtype ", dtype_name(t->scalar_type()),
           "; expected ", count, " contiguous values of ", dtype_name(math));
    }
    check_same_device(*t, name, base.x, "x");
    return static_cast<const MathOf<T>*>(t->const_data_ptr());
  }
};

inline ScalarType math_type(const Tensor& x) {
  return x.scalar_type() == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

inline Tensor new_values(const Tensor& like, int64_t count, ScalarType type) {
  return torch::stable::new_empty(like, {&count, 1}, type);
}

// Rows of 16-byte multiples, so that products run on aligned tiles whatever the number of classes.
inline int64_t padded(int64_t columns) { return (columns + 7) / 8 * 8; }

template <typename Device, typename T>
struct SoftmaxBuffers {
  int64_t chunk;
  Tensor logits, unit_rows, scaled_x, scratch;
  bool unit_rows_ready;

  // What to keep for the backward, or what the forward has kept.
  SoftmaxBuffers(const SoftmaxArguments& arguments, bool keep, bool keep_unit, const Tensor* kept,
                 const Tensor* kept_unit)
      : unit_rows_ready(kept_unit != nullptr) {
    const Arguments& a = arguments.base;
    const int64_t classes = a.weight.size(0), features = a.x.size(1), batch = a.x.size(0);
    const bool raw = Device::kCopiesRows && !a.unit_rows;
    chunk = Device::template softmax_chunk<T>(batch, features, classes, raw, keep);
    chunk =
        std::clamp<int64_t>(chunk / 16 * 16, 1, std::max<int64_t>(classes, 1));  // aligned pieces
    logits = kept != nullptr ? *kept : new_matrix(a.x, batch, padded(keep ? classes : chunk));
    const int64_t copies = !raw ? 0 : keep_unit ? classes : chunk;
    unit_rows = kept_unit != nullptr ? *kept_unit : new_matrix(a.x, copies, features);
    const bool scales = Device::kCopiesRows && arguments.scale.has_value();
    scaled_x = new_matrix(a.x, scales ? batch : 0, features);
    scratch =
        new_values(a.x, Device::template softmax_scratch<T>(batch, chunk), ScalarType::Double);
  }
  SoftmaxMemory<T> memory(bool keep, int64_t classes) const {
    return {chunk,
            matrix<T>(logits).col_range(0, keep ? classes : chunk),
            matrix<T>(unit_rows),
            matrix<T>(scaled_x),
            static_cast<double*>(scratch.mutable_data_ptr()),
            unit_rows_ready};
  }
};

template <typename Device, typename Body>
void run_softmax(const SoftmaxArguments& a, const Body& body) {
  const typename Device::Context context(a.base.x);
  Device::dispatch(a.base.x.scalar_type(), [&](auto zero) {
    using T = decltype(zero);
    a.margin.with_policy([&](const auto& policy) {
      const auto problem = a.problem<T>(policy);
      Device::check_values(context, problem);
      auto backend = Device::template backend<T>(context, Gemm<Device, T>(a.base.x));
      body(problem, a.options<T>(), backend);
      Device::finish(context, backend, problem);
    });
  });
}

// The forward's walk over the classes, then finish(problem, options, rows, backend). Returns the
// rows, and the logits and the unit rows of the weight if they are to be kept; the latter only
// where the device makes them.
template <typename Device, typename Finish>
std::tuple<Tensor, Tensor, Tensor> walk_classes(const SoftmaxArguments& a, bool keep_logits,
                                                bool keep_unit, const Finish& finish) {
  const Tensor& x = a.base.x;
  keep_unit = keep_unit && Device::kCopiesRows && !a.base.unit_rows;
  const std::array<int64_t, 2> sizes{x.size(0),
                                     static_cast<int64_t>(sizeof(SoftmaxRow) / sizeof(double))};
  const Tensor rows = torch::stable::new_empty(x, {sizes.data(), 2}, ScalarType::Double);
  Tensor logits = new_matrix(x, 0, 0), unit = new_matrix(x, 0, x.size(1));
  run_softmax<Device>(a, [&](const auto& problem, const auto& options, auto& backend) {
    using T = typename std::decay_t<decltype(problem)>::Storage;
    const SoftmaxBuffers<Device, T> buffers(a, keep_logits, keep_unit, nullptr, nullptr);
    auto* kept = static_cast<SoftmaxRow*>(rows.mutable_data_ptr());
    margin_softmax_rows(problem, options, buffers.memory(keep_logits, a.base.weight.size(0)), kept,
                        backend);
    finish(problem, options, kept, backend);
    if (keep_logits) logits = buffers.logits;
    if (keep_unit) unit = buffers.unit_rows;
  });
  return {rows, logits, unit};
}

// What a range of the classes knows of each row, as SoftmaxRow has it: (M, 8) values of 64 bits,
// the last of which is an integer.
template <typename Device>
std::tuple<Tensor, Tensor, Tensor> margin_softmax_rows(
    Tensor x, Tensor weight, Tensor label, Tensor lambda, std::optional<Tensor> scale,
    int64_t family, std::vector<double> margin, bool exact, bool unit_rows,
    std::optional<int64_t> ignore_index, double label_smoothing, std::optional<Tensor> class_weight,
    std::optional<Tensor> weight_sum, std::optional<Tensor> label_weight,
    std::optional<Tensor> bias, int64_t first_class, int64_t total_classes, bool keep_logits,
    bool keep_unit) {
  const SoftmaxArguments a(x, weight, label, lambda, scale, family, std::move(margin), exact,
                           unit_rows, ignore_index, label_smoothing, class_weight, weight_sum,
                           label_weight, bias, first_class, total_classes);
  return walk_classes<Device>(a, keep_logits, keep_unit, [](const auto&...) {});
}

using SoftmaxTensors = std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor>;

template <typename Device>
SoftmaxTensors margin_softmax(Tensor x, Tensor weight, Tensor label, Tensor lambda,
                              std::optional<Tensor> scale, int64_t family,
                              std::vector<double> margin, bool exact, bool unit_rows,
                              std::optional<int64_t> ignore_index, double label_smoothing,
                              std::optional<Tensor> class_weight, std::optional<Tensor> weight_sum,
                              std::optional<Tensor> label_weight, std::optional<Tensor> bias,
                              int64_t first_class, int64_t total_classes, bool keep_logits,
                              bool keep_unit) {
  const SoftmaxArguments a(x, weight, label, lambda, scale, family, std::move(margin), exact,
                           unit_rows, ignore_index, label_smoothing, class_weight, weight_sum,
                           label_weight, bias, first_class, total_classes);
  const int64_t batch = x.size(0);
  const ScalarType math = math_type(x);
  const auto values = [&](ScalarType type) { return new_values(a.base.x, batch, type); };
  const Tensor loss = values(math), lse = values(ScalarType::Double), target = values(math),
               cosine = values(math), prediction = values(ScalarType::Long),
               plain = values(ScalarType::Long);
  const auto [rows, logits, unit] = walk_classes<Device>(
      a, keep_logits, keep_unit,
      [&](const auto& problem, const auto& options, const SoftmaxRow* kept, auto& backend) {
        using T = typename std::decay_t<decltype(problem)>::Storage;
        using Math = MathOf<T>;
        const SoftmaxResult<T> result{static_cast<Math*>(loss.mutable_data_ptr()),
                                      static_cast<double*>(lse.mutable_data_ptr()),
                                      static_cast<Math*>(target.mutable_data_ptr()),
                                      static_cast<Math*>(cosine.mutable_data_ptr()),
                                      static_cast<int64_t*>(prediction.mutable_data_ptr()),
                                      static_cast<int64_t*>(plain.mutable_data_ptr())};
        backend.softmax_finish(problem, options, kept, result);
      });
  return {loss, lse, target, cosine, prediction, plain, logits, unit};
}

template <typename Device>
std::tuple<Tensor, Tensor, Tensor, Tensor> margin_softmax_backward(
    Tensor grad, Tensor lse, Tensor logits, Tensor unit, Tensor x, Tensor weight, Tensor label,
    Tensor lambda, std::optional<Tensor> scale, int64_t family, std::vector<double> margin,
    bool exact, bool unit_rows, std::optional<int64_t> ignore_index, double label_smoothing,
    std::optional<Tensor> class_weight, std::optional<Tensor> weight_sum,
    std::optional<Tensor> label_weight, std::optional<Tensor> bias, int64_t first_class,
    int64_t total_classes, bool need_x, bool need_weight, bool need_bias) {
  const SoftmaxArguments a(x, weight, label, lambda, scale, family, std::move(margin), exact,
                           unit_rows, ignore_index, label_smoothing, class_weight, weight_sum,
                           label_weight, bias, first_class, total_classes);
  const int64_t batch = x.size(0), classes = weight.size(0), features = x.size(1);
  if (grad.numel() != batch || grad.scalar_type() != math_type(x)) {
    fail("grad has shape ", shape_of(grad), " and dtype ", dtype_name(grad.scalar_type()),
         "; expected (", batch, ",) and ", dtype_name(math_type(x)));
  }
  if (lse.numel() != batch || lse.scalar_type() != ScalarType::Double) {
    fail("lse has shape ", shape_of(lse), " and dtype ", dtype_name(lse.scalar_type()),
         "; expected (", batch, ",) and float64");
  }
  const bool kept = logits.numel() > 0;
  if (kept && (logits.size(0) != batch || logits.size(1) != padded(classes) ||
               logits.scalar_type() != x.scalar_type() || !logits.is_contiguous())) {
    fail("logits has shape ", shape_of(logits), "; expected what the forward kept, (", batch, ", ",
         padded(classes), ")");
  }
  const bool ready = Device::kCopiesRows && !unit_rows && has_unit_rows(unit, a.base);
  check_same_device(grad, "grad", x, "x");
  check_same_device(lse, "lse", x, "x");
  check_same_device(logits, "logits", x, "x");
  const Tensor grads = torch::stable::contiguous(grad), sums = torch::stable::contiguous(lse);
  const Tensor dx = new_matrix(a.base.x, need_x ? batch : 0, features);
  const Tensor dweight = new_matrix(a.base.x, need_weight ? classes : 0, features);
  const Tensor dscale =
      new_values(a.base.x, need_x && a.scale.has_value() ? batch : 0, ScalarType::Double);
  const Tensor dbias = new_values(a.base.x, need_bias ? classes : 0, math_type(x));
  run_softmax<Device>(a, [&](const auto& problem, const auto& options, auto& backend) {
    using T = typename std::decay_t<decltype(problem)>::Storage;
    using Math = MathOf<T>;
    const SoftmaxBuffers<Device, T> buffers(a, kept, ready, kept ? &logits : nullptr,
                                            ready ? &unit : nullptr);
    const bool rounds = need_x && sizeof(T) < sizeof(Math);
    const Tensor piece = new_matrix(a.base.x, rounds ? batch : 0, features);
    const Tensor sum = new_values(a.base.x, rounds ? batch * features : 0, math_type(x));
    SoftmaxGradients<T> out;
    if (need_x) out.dx = matrix<T>(dx);
    if (need_weight) out.dweight = matrix<T>(dweight);
    if (need_bias) out.dbias = static_cast<Math*>(dbias.mutable_data_ptr());
    out.piece = matrix<T>(piece);
    out.sum = {static_cast<Math*>(sum.mutable_data_ptr()), batch, features, features, 1};
    if (dscale.numel() > 0) out.dscale = static_cast<double*>(dscale.mutable_data_ptr());
    margin_softmax_backward(problem, options, static_cast<const Math*>(grads.const_data_ptr()),
                            static_cast<const double*>(sums.const_data_ptr()),
                            buffers.memory(kept, classes), kept, out, backend);
  });
  return {dx, dweight, dbias, dscale};
}

// Called in a STABLE_TORCH_LIBRARY_IMPL block.
template <typename Device>
void register_softmax_kernels(torch::stable::detail::StableLibrary& m) {
  m.impl("margin_softmax", TORCH_BOX(&margin_softmax<Device>));
  m.impl("margin_softmax_rows", TORCH_BOX(&margin_softmax_rows<Device>));
  m.impl("margin_softmax_backward", TORCH_BOX(&margin_softmax_backward<Device>));
}

}  // namespace sphereface::torch_ops
