// Schemas of torch.ops.sphereface.*; each backend registers its kernels in its own file, autograd,
// autocast and the fake kernels are in python/sphereface/ops.
#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY(sphereface, m) {
  m.def(
      "margin_inner_product(Tensor x, Tensor weight, Tensor label, Tensor lambda_, int margin, "
      "bool exact, bool unit_rows, int? ignore_index) -> Tensor");
  m.def(
      "margin_inner_product_input_gradient(Tensor grad, Tensor x, Tensor weight, Tensor label, "
      "Tensor lambda_, int margin, bool exact, bool unit_rows, int? ignore_index) -> Tensor");
  m.def(
      "margin_inner_product_weight_gradient(Tensor grad, Tensor x, Tensor weight, Tensor label, "
      "Tensor lambda_, int margin, bool exact, bool unit_rows, int? ignore_index) -> Tensor");
  m.def("normalize_rows_(Tensor(a!) weight) -> ()");
  m.def(
      "annealed_lambda(Tensor iteration, float base, float gamma, float power, float lambda_min) "
      "-> Tensor");
}
