// Schemas of torch.ops.sphereface.*; each backend registers its kernels in its own file, autograd,
// autocast and the fake kernels are in python/sphereface/ops.
#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY(sphereface, m) {
  m.def(
      "margin_inner_product(Tensor x, Tensor weight, Tensor label, Tensor lambda_, float margin, "
      "bool exact, bool unit_rows, int? ignore_index, bool keep_unit) -> (Tensor y, Tensor unit)");
  m.def(
      "margin_inner_product_input_gradient(Tensor grad, Tensor x, Tensor weight, Tensor unit, "
      "Tensor label, Tensor lambda_, float margin, bool exact, bool unit_rows, int? ignore_index) "
      "-> Tensor");
  m.def(
      "margin_inner_product_weight_gradient(Tensor grad, Tensor x, Tensor weight, Tensor label, "
      "Tensor lambda_, float margin, bool exact, bool unit_rows, int? ignore_index) -> Tensor");
  m.def(
      "margin_softmax(Tensor x, Tensor weight, Tensor label, Tensor lambda_, Tensor? scale, int "
      "family, "
      "float[] margin, bool exact, bool unit_rows, int? ignore_index, float label_smoothing, "
      "Tensor? class_weight, Tensor? weight_sum, Tensor? label_weight, Tensor? bias, "
      "int first_class, int total_classes, bool keep_logits, bool keep_unit) -> (Tensor loss, "
      "Tensor lse, Tensor target, Tensor cosine, Tensor prediction, Tensor plain_prediction, "
      "Tensor logits, Tensor unit)");
  m.def(
      "margin_softmax_rows(Tensor x, Tensor weight, Tensor label, Tensor lambda_, Tensor? scale, "
      "int family, "
      "float[] margin, bool exact, bool unit_rows, int? ignore_index, "
      "float label_smoothing, Tensor? class_weight, Tensor? weight_sum, Tensor? label_weight, "
      "Tensor? bias, int first_class, int total_classes, bool keep_logits, bool keep_unit) "
      "-> (Tensor rows, Tensor logits, Tensor unit)");
  m.def(
      "margin_softmax_backward(Tensor grad, Tensor lse, Tensor(a!) logits, Tensor unit, Tensor x, "
      "Tensor weight, Tensor label, Tensor lambda_, Tensor? scale, int family, float[] margin, "
      "bool exact, bool unit_rows, int? ignore_index, float label_smoothing, "
      "Tensor? class_weight, Tensor? weight_sum, Tensor? label_weight, Tensor? bias, "
      "int first_class, int total_classes, bool need_x, bool need_weight, bool need_bias) "
      "-> (Tensor dx, Tensor dweight, Tensor dbias, Tensor dscale)");
  m.def("normalize_rows_(Tensor(a!) weight) -> ()");
  m.def(
      "annealed_lambda(Tensor iteration, float base, float gamma, float power, float lambda_min) "
      "-> Tensor");
}
