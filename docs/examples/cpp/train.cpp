// Trains class weights with A-Softmax on clustered points, in plain C++: forward, loss, backward
// and SGD as the MarginInnerProduct and SoftmaxWithLoss layers of Caffe do them. See
// docs/embedding-cpp.md.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <vector>

#include "clusters.h"
#include "sphereface/annealing.h"
#include "sphereface/cpu.h"
#include "sphereface/margin_inner_product.h"

using sphereface::Matrix;

// Stands for cblas_sgemm(CblasRowMajor, ...), so that this file needs no BLAS: c = a b + beta c.
static void sgemm(bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k,
                  const float* a, int64_t lda, const float* b, int64_t ldb, float beta, float* c,
                  int64_t ldc) {
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      float sum = 0;
      for (int64_t l = 0; l < k; ++l) {
        const float a_il = transpose_a ? a[l * lda + i] : a[i * lda + l];
        const float b_lj = transpose_b ? b[j * ldb + l] : b[l * ldb + j];
        sum += a_il * b_lj;
      }
      c[i * ldc + j] = beta == 0 ? sum : beta * c[i * ldc + j] + sum;
    }
  }
}

// A view is either a row-major matrix or the transpose of one. The column count decides for
// vectors, where both strides may be 1.
static bool is_transpose(const Matrix<const float>& m) {
  return m.col_stride != 1 || m.row_stride < m.cols;
}

static void gemm(Matrix<const float> a, Matrix<const float> b, Matrix<float> c, bool accumulate) {
  const bool transpose_a = is_transpose(a), transpose_b = is_transpose(b);
  const int64_t lda = transpose_a ? a.col_stride : a.row_stride;
  const int64_t ldb = transpose_b ? b.col_stride : b.row_stride;
  sgemm(transpose_a, transpose_b, c.rows, c.cols, a.cols, a.data, lda, b.data, ldb,
        accumulate ? 1.0f : 0.0f, c.data, c.row_stride);
}

// The loss of SoftmaxWithLoss; y becomes its gradient.
static float softmax_loss(Matrix<float> y, const std::vector<int64_t>& label) {
  float loss = 0;
  for (int64_t i = 0; i < y.rows; ++i) {
    float* row = y.row(i);
    const float most = *std::max_element(row, row + y.cols);
    float sum = 0;
    for (int64_t j = 0; j < y.cols; ++j) sum += row[j] = std::exp(row[j] - most);
    loss -= std::log(row[label[i]] / sum);
    for (int64_t j = 0; j < y.cols; ++j) row[j] /= sum * y.rows;
    row[label[i]] -= 1.0f / y.rows;
  }
  return loss / y.rows;
}

static void step(std::vector<float>& values, const std::vector<float>& gradient, float rate) {
  for (size_t i = 0; i < values.size(); ++i) values[i] -= rate * gradient[i];
}

int main() {
  const int64_t batch = 60, classes = 6, features = 8;  // M, N, K
  Clusters data = clusters(batch, classes, features);
  std::vector<float>&x = data.x, &weight = data.weight;
  const std::vector<int64_t>& label = data.label;
  std::vector<float> y(batch * classes), dx(x.size()), dweight(weight.size());

  float lambda = 0;
  sphereface::MarginProblem<float> problem;
  problem.x = row_major<const float>(x, batch, features);
  problem.weight = row_major<const float>(weight, classes, features);
  problem.label = label.data();
  problem.lambda = &lambda;
  problem.margin = 4;                               // QUADRUPLE
  problem.gradient = sphereface::Gradient::kCaffe;  // the original layer's
  problem.unit_rows = true;                         // normalised before each forward, as there
  const sphereface::Annealing annealing{1000, 0.12f, 1, 5};  // base, gamma, power, lambda_min
  auto backend = sphereface::cpu::backend<float>(gemm);

  if (sphereface::cpu::first_bad_label(label.data(), batch, classes, problem.ignore_index) >= 0) {
    return 1;
  }
  const auto weight_rows = row_major<float>(weight, classes, features);
  const auto logits = row_major<float>(y, batch, classes);
  const auto dx_rows = row_major<float>(dx, batch, features);
  const auto dweight_rows = row_major<float>(dweight, classes, features);
  float first_loss = 0, loss = 0;
  for (int64_t iteration = 1; iteration <= 300; ++iteration) {
    lambda = sphereface::annealed_lambda(annealing, iteration);
    backend.normalize_rows(weight_rows.as_const(), weight_rows);
    if (backend.non_finite_row != nullptr) return 1;
    sphereface::margin_inner_product(problem, logits, classes, {}, backend);

    loss = softmax_loss(logits, label);  // logits now hold its gradient

    const Matrix<const float> grad = logits.as_const();
    sphereface::margin_inner_product_input_gradient(problem, grad, dx_rows, classes, {}, backend);
    sphereface::margin_inner_product_weight_gradient(problem, grad, dweight_rows, classes, backend);
    step(weight, dweight, 0.5f);
    step(x, dx, 0.5f);  // stands for the layers below
    if (iteration == 1) first_loss = loss;
  }
  std::printf("lambda %.4f, loss %.4f after the first iteration, %.4f after the last\n", lambda,
              first_loss, loss);
  return loss < 0.5f * first_loss ? 0 : 1;
}
