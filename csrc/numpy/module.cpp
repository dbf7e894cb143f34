// sphereface._numpy_ops: the core on numpy arrays. python/sphereface/numpy_ops.py checks the
// arguments; here every array is C-contiguous, of the right shape and of one float type. The
// products are numpy's own matmul, so they run on the BLAS that numpy was built with.
#include <pthread.h>
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include "sphereface/annealing.h"
#include "sphereface/cpu.h"
#include "sphereface/margin_inner_product.h"

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
