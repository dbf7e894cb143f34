// Trains class weights with CosFace on clustered points through the fused loss, in plain C++: no
// more than a few columns of the logits exist at a time. See docs/embedding-cpp.md.
#include <cmath>
#include <cstdio>
#include <vector>

#include "clusters.h"
#include "sphereface/cpu_softmax.h"

using sphereface::CombinedMargin;
using sphereface::Matrix;

// c (+)= a b by the views' own strides, so that this file needs no BLAS; train.cpp has one's flags.
static void gemm(Matrix<const float> a, Matrix<const float> b, Matrix<float> c, bool accumulate) {
  for (int64_t i = 0; i < c.rows; ++i) {
    for (int64_t j = 0; j < c.cols; ++j) {
      float sum = 0;
      for (int64_t k = 0; k < a.cols; ++k) sum += a.at(i, k) * b.at(k, j);
      c.at(i, j) = accumulate ? c.at(i, j) + sum : sum;
    }
  }
}

int main() {
  const int64_t batch = 60, classes = 40, features = 8, chunk = 16;  // M, N, K
  Clusters data = clusters(batch, classes, features);
  std::vector<float>&x = data.x, &weight = data.weight;
  const std::vector<int64_t>& label = data.label;
  std::vector<float> dx(x.size()), dweight(weight.size());

  const float lambda = 0, scale = 16;
  sphereface::MarginProblem<float, CombinedMargin> problem;
  problem.x = row_major<const float>(x, batch, features);
  problem.weight = row_major<const float>(weight, classes, features);
  problem.label = label.data();
  problem.lambda = &lambda;                         // the whole margin
  problem.margin = CombinedMargin{1, 0, 0.2};       // CosFace: c - 0.2
  problem.scale = &scale;                           // x counts as having this length
  problem.gradient = sphereface::Gradient::kExact;  // the raw weight stays as it is
  const sphereface::SoftmaxOptions<float> options;  // smoothing, class weights, bias: none

  // Lean: a few columns of the logits. With `classes` columns they are kept for the backward.
  std::vector<float> columns(batch * chunk);
  std::vector<double> scratch(sphereface::cpu::softmax_scratch<float>(batch, chunk));
  sphereface::SoftmaxMemory<float> memory{chunk, row_major<float>(columns, batch, chunk), {}, {}};
  memory.scratch = scratch.data();
  const bool kept = memory.keeps(classes);

  std::vector<sphereface::SoftmaxRow> rows(batch);
  std::vector<float> loss(batch), target(batch), cosine(batch), grad(batch, 1.0f / batch);
  std::vector<double> lse(batch);
  std::vector<int64_t> prediction(batch), plain_prediction(batch);
  const sphereface::SoftmaxResult<float> result{loss.data(),       lse.data(),
                                                target.data(),     cosine.data(),
                                                prediction.data(), plain_prediction.data()};
  sphereface::SoftmaxGradients<float> gradients;
  gradients.dx = row_major<float>(dx, batch, features);
  gradients.dweight = row_major<float>(dweight, classes, features);
  auto backend = sphereface::cpu::backend<float>(gemm, sphereface::openmp_parallel_for, true);

  float first = 0, mean = 0;
  int64_t right = 0;
  for (int iteration = 1; iteration <= 200; ++iteration) {
    margin_softmax_forward(problem, options, memory, rows.data(), result, backend);
    if (backend.non_finite_row != nullptr) return 1;
    margin_softmax_backward(problem, options, grad.data(), lse.data(), memory, kept, gradients,
                            backend);

    mean = 0;
    right = 0;
    for (int64_t i = 0; i < batch; ++i) {
      mean += loss[i] / batch;
      right += plain_prediction[i] == label[i];
    }
    if (iteration == 1) first = mean;
    for (size_t i = 0; i < weight.size(); ++i) weight[i] -= 0.5f * dweight[i];
    for (size_t i = 0; i < x.size(); ++i) x[i] -= 0.5f * dx[i];  // stands for the layers below
  }
  std::printf("loss %.4f at first, %.4f at last; %d of %d right without the margin\n", first, mean,
              static_cast<int>(right), static_cast<int>(batch));
  return mean < 0.1f * first && right == batch ? 0 : 1;
}
