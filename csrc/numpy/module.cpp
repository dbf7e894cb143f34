// sphereface._numpy_ops: the core on numpy arrays. python/sphereface/numpy_ops.py checks the
// arguments; here every array is C-contiguous, of the right shape and of one float type. The
// products are numpy's own matmul, so they run on the BLAS that numpy was built with.
#include <pthread.h>
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>
#include <vector>

#include "sphereface/annealing.h"
#include "sphereface/cpu_softmax.h"

namespace py = pybind11;

namespace sphereface {

namespace {

// A forked child has lost libgomp's threads, and would wait for them for ever.
bool forked = false;

void fork_safe_parallel_for(int64_t count, int64_t grain, RangeBody body, const void* state) {
  if (forked) {
    body(state, 0, count);
  } else {
    openmp_parallel_for(count, grain, body, state);
  }
}

template <typename T>
using Array = py::array_t<T, py::array::c_style>;

template <typename T>
Matrix<T> writable(Array<T>& a) {
  return {a.mutable_data(), a.shape(0), a.shape(1), a.shape(1), 1};
}

template <typename T>
Matrix<const T> readable(const Array<T>& a) {
  return {a.data(), a.shape(0), a.shape(1), a.shape(1), 1};
}

// numpy.matmul on views; called without the GIL.
template <typename T>
struct NumpyGemm {
  py::object matmul = py::module_::import("numpy").attr("matmul");
  py::object add = py::module_::import("numpy").attr("add");

  void operator()(Matrix<const T> a, Matrix<const T> b, Matrix<T> c, bool accumulate) const {
    const py::gil_scoped_acquire gil;
    const py::array out = view(c);
    if (accumulate) {
      add(out, matmul(view(a), view(b)), py::arg("out") = out);
    } else {
      matmul(view(a), view(b), py::arg("out") = out);
    }
  }

  template <typename U>
  static py::array view(Matrix<U> m) {
    const py::ssize_t size = sizeof(T);
    return py::array_t<T>({m.rows, m.cols}, {m.row_stride * size, m.col_stride * size}, m.data,
                          py::none());  // any base makes it a view instead of a copy
  }
};

template <typename T>
MarginProblem<T> problem_of(const Array<T>& x, const Array<T>& weight, const Array<int64_t>& label,
                            const T& lambda, double margin, bool exact, int64_t ignore_index) {
  MarginProblem<T> p;
  p.x = readable(x);
  p.weight = readable(weight);
  p.label = label.data();
  p.lambda = &lambda;
  p.margin = margin;
  p.gradient = exact ? Gradient::kExact : Gradient::kCaffe;
  p.unit_rows = !exact;
  p.ignore_index = ignore_index;
  return p;
}

// Unit copies of a raw weight; none are needed where the rows have unit norm.
template <typename T>
Array<T> workspace_for(const Array<T>& weight, bool exact) {
  return Array<T>({exact ? weight.shape(0) : 0, weight.shape(1)});
}

template <typename T>
int64_t normalize(Array<T> weight) {
  const Matrix<T> rows = writable(weight);
  const py::gil_scoped_release no_gil;
  return cpu::normalize_rows(rows.as_const(), rows, fork_safe_parallel_for);
}

template <typename T>
int64_t first_non_finite_row(Array<T> rows) {
  const Matrix<const T> matrix = readable(rows);
  const py::gil_scoped_release no_gil;
  return cpu::first_non_finite_row(matrix, fork_safe_parallel_for);
}

template <typename T>
Array<T> forward(Array<T> x, Array<T> weight, Array<int64_t> label, T lambda, double margin,
                 bool exact, int64_t ignore_index) {
  const auto p = problem_of(x, weight, label, lambda, margin, exact, ignore_index);
  Array<T> y({p.x.rows, p.weight.rows}), workspace = workspace_for(weight, exact);
  const Matrix<T> out = writable(y), unit = writable(workspace);
  auto backend = cpu::backend<T>(NumpyGemm<T>{}, fork_safe_parallel_for);
  const py::gil_scoped_release no_gil;
  margin_inner_product(p, out, p.weight.rows, unit, backend);
  return y;
}

template <typename T>
Array<T> input_gradient(Array<T> grad, Array<T> x, Array<T> weight, Array<int64_t> label, T lambda,
                        double margin, bool exact, int64_t ignore_index) {
  const auto p = problem_of(x, weight, label, lambda, margin, exact, ignore_index);
  Array<T> dx({p.x.rows, p.x.cols}), workspace = workspace_for(weight, exact);
  const Matrix<T> out = writable(dx), unit = writable(workspace);
  auto backend = cpu::backend<T>(NumpyGemm<T>{}, fork_safe_parallel_for);
  const py::gil_scoped_release no_gil;
  margin_inner_product_input_gradient(p, readable(grad), out, p.weight.rows, unit, backend);
  return dx;
}

template <typename T>
Array<T> weight_gradient(Array<T> grad, Array<T> x, Array<T> weight, Array<int64_t> label, T lambda,
                         double margin, bool exact, int64_t ignore_index) {
  const auto p = problem_of(x, weight, label, lambda, margin, exact, ignore_index);
  Array<T> dweight({p.weight.rows, p.weight.cols});
  const Matrix<T> out = writable(dweight);
  auto backend = cpu::backend<T>(NumpyGemm<T>{}, fork_safe_parallel_for);
  const py::gil_scoped_release no_gil;
  margin_inner_product_weight_gradient(p, readable(grad), out, p.weight.rows, backend);
  return dweight;
}

// The address of optional values.
template <typename T>
const T* values_of(const std::optional<Array<T>>& a) {
  return a.has_value() ? a->data() : nullptr;
}

// The losses of the rows and what was seen of them, and the gradients of sum_i grad[i] loss[i]
// (empty without grad). With `keep` the M x N logits are kept in between.
template <typename T>
py::tuple margin_softmax(Array<T> x, Array<T> weight, Array<int64_t> label, T lambda,
                         int64_t family, Array<double> margin, bool exact, bool unit_rows,
                         int64_t ignore_index, double label_smoothing,
                         std::optional<Array<T>> class_weight, std::optional<Array<T>> weight_sum,
                         std::optional<Array<T>> label_weight, std::optional<Array<T>> bias,
                         std::optional<Array<T>> grad, bool keep) {
  const int64_t batch = x.shape(0), features = x.shape(1), classes = weight.shape(0);
  const int64_t chunk = std::max<int64_t>(1, std::min<int64_t>(classes, 1024));
  Array<T> loss(batch), target(batch), cosine(batch), logits({batch, keep ? classes : chunk}),
      dx({grad.has_value() ? batch : 0, features}),
      dweight({grad.has_value() ? classes : 0, features}),
      dbias(grad.has_value() && bias.has_value() ? classes : 0);
  Array<double> lse(batch);
  Array<int64_t> prediction(batch), plain(batch);
  SoftmaxOptions<T> options;
  options.label_smoothing = label_smoothing;
  options.class_weight = values_of(class_weight);
  options.weight_sum = values_of(weight_sum);
  options.label_weight = values_of(label_weight);
  options.bias = values_of(bias);
  SoftmaxMemory<T> memory;
  memory.chunk = chunk;
  memory.logits = writable(logits);
  std::vector<double> scratch(cpu::softmax_scratch<T>(batch, chunk));
  memory.scratch = scratch.data();
  const SoftmaxResult<T> result{loss.mutable_data(),       lse.mutable_data(),
                                target.mutable_data(),     cosine.mutable_data(),
                                prediction.mutable_data(), plain.mutable_data()};
  SoftmaxGradients<T> out;
  out.dx = writable(dx);
  out.dweight = writable(dweight);
  out.dbias = bias.has_value() ? dbias.mutable_data() : nullptr;
  const T* grads = values_of(grad);
  std::vector<SoftmaxRow> rows(batch);
  auto backend = cpu::backend<T>(NumpyGemm<T>{}, fork_safe_parallel_for);
  with_margin(family, margin.data(), margin.size(), [&](const auto& policy) {
    MarginProblem<T, std::decay_t<decltype(policy)>> p;
    p.x = readable(x);
    p.weight = readable(weight);
    p.label = label.data();
    p.lambda = &lambda;
    p.margin = policy;
    p.gradient = exact ? Gradient::kExact : Gradient::kCaffe;
    p.unit_rows = unit_rows;
    p.ignore_index = ignore_index;
    const py::gil_scoped_release no_gil;
    margin_softmax_forward(p, options, memory, rows.data(), result, backend);
    if (grads != nullptr) {
      margin_softmax_backward(p, options, grads, result.lse, memory, keep, out, backend);
    }
  });
  return py::make_tuple(loss, lse, target, cosine, prediction, plain, dx, dweight, dbias);
}

int64_t first_bad_label(Array<int64_t> label, int64_t classes, int64_t ignore_index) {
  return cpu::first_bad_label(label.data(), label.size(), classes, ignore_index);
}

// Overloads by dtype; noconvert, so that an array of another dtype is refused, not copied.
template <typename T>
void bind(py::module_& m) {
  const auto exact_type = [](const char* name) { return py::arg(name).noconvert(); };
  m.def("normalize", &normalize<T>, exact_type("weight"));
  m.def("first_non_finite_row", &first_non_finite_row<T>, exact_type("rows"));
  m.def("forward", &forward<T>, exact_type("x"), exact_type("weight"), exact_type("label"),
        py::arg("lambda_"), py::arg("margin"), py::arg("exact"), py::arg("ignore_index"));
  m.def("input_gradient", &input_gradient<T>, exact_type("grad"), exact_type("x"),
        exact_type("weight"), exact_type("label"), py::arg("lambda_"), py::arg("margin"),
        py::arg("exact"), py::arg("ignore_index"));
  m.def("weight_gradient", &weight_gradient<T>, exact_type("grad"), exact_type("x"),
        exact_type("weight"), exact_type("label"), py::arg("lambda_"), py::arg("margin"),
        py::arg("exact"), py::arg("ignore_index"));
  const auto optional = [](const char* name) { return py::arg(name).noconvert().none(true); };
  m.def("margin_softmax", &margin_softmax<T>, exact_type("x"), exact_type("weight"),
        exact_type("label"), py::arg("lambda_"), py::arg("family"), py::arg("margin"),
        py::arg("exact"), py::arg("unit_rows"), py::arg("ignore_index"), py::arg("label_smoothing"),
        optional("class_weight"), optional("weight_sum"), optional("label_weight"),
        optional("bias"), optional("grad"), py::arg("keep"));
}

}  // namespace

PYBIND11_MODULE(_numpy_ops, m) {
  pthread_atfork(nullptr, nullptr, [] { forked = true; });
  bind<float>(m);
  bind<double>(m);
  m.attr("NO_IGNORE_INDEX") = kNoIgnoreIndex;
  m.def("first_bad_label", &first_bad_label, py::arg("label").noconvert(), py::arg("classes"),
        py::arg("ignore_index"));
  m.def(
      "annealed_lambda",
      [](int64_t iteration, float base, float gamma, float power, float lambda_min) {
        return annealed_lambda({base, gamma, power, lambda_min}, iteration);
      },
      py::arg("iteration"), py::arg("base"), py::arg("gamma"), py::arg("power"),
      py::arg("lambda_min"));
}

}  // namespace sphereface
