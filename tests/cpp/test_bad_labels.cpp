// The fused loss with labels that are no class or another range's.
#include <limits>
#include <random>
#include <vector>

#include "check.h"
#include "rows.h"
#include "sphereface/cpu_softmax.h"
#include "stream_backend.h"
#include "thread_pieces.h"

using namespace sphereface;

namespace {

// Labels that are no class, in both ways and of every policy: NaN in their rows' losses, nothing in
// dx and dweight where they are left out of the sum, and nothing out of bounds (the memory has the
// exact size, for AddressSanitizer).
template <typename Margin, typename Backend>
void check_way(const Margin& margin, bool fast, Backend backend) {
  std::mt19937 random(3);
  constexpr int64_t kRows = 6, kAll = 5, kDepth = 3, kChunk = 2, kFirst = 2;
  std::vector<double> x(kRows * kDepth), weight(kAll * kDepth), unit(kChunk * kDepth),
      logits(kRows * (fast ? kAll : kChunk)), dx(x.size()), dweight(weight.size()),
      scratch(cpu::softmax_scratch<double>(kRows, kChunk));
  for (double& v : x) v = std::normal_distribution<double>()(random);
  for (double& v : weight) v = std::normal_distribution<double>()(random);
  // Classes 2 to 6 of 9 are here.
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
  const std::vector<int64_t> label{kFirst, 9, -1, kMost, -kMost - 1, kFirst + kAll};
  const double lambda = 0;
  MarginProblem<double, Margin> p;
  p.x = {x.data(), kRows, kDepth, kDepth, 1};
  p.weight = {weight.data(), kAll, kDepth, kDepth, 1};
  p.label = label.data();
  p.lambda = &lambda;
  p.margin = margin;
  p.gradient = Gradient::kExact;
  p.unit_rows = Margin::kFreeWeight;
  p.first_class = kFirst;
  p.total_classes = 9;
  SoftmaxMemory<double> memory{
      kChunk, {}, {unit.data(), kChunk, kDepth, kDepth, 1}, {}, scratch.data()};
  const int64_t columns = fast ? kAll : kChunk;
  memory.logits = {logits.data(), kRows, columns, columns, 1};
  std::vector<SoftmaxRow> rows(kRows);
  std::vector<double> loss(kRows), lse(kRows), target(kRows), cosine(kRows), grad(kRows);
  std::vector<int64_t> prediction(kRows), plain(kRows);
  margin_softmax_forward(
      p, {}, memory, rows.data(),
      {loss.data(), lse.data(), target.data(), cosine.data(), prediction.data(), plain.data()},
      backend);
  for (int64_t i = 0; i < kRows; ++i) {
    // The last label is a class of another range, where SphereFace2 puts the label's loss.
    CHECK_EQUAL(std::isnan(loss[i]), i > 0 && !(kIsBinary<Margin> && i == kRows - 1));
    CHECK_EQUAL(std::isnan(target[i]), i > 0);
    CHECK(prediction[i] >= kFirst && prediction[i] < kFirst + kAll);
    grad[i] = i == 0;
  }
  SoftmaxGradients<double> out;
  out.dx = {dx.data(), kRows, kDepth, kDepth, 1};
  out.dweight = {dweight.data(), kAll, kDepth, kDepth, 1};
  margin_softmax_backward(p, {}, grad.data(), lse.data(), memory, fast, out, backend);
  for (size_t i = 0; i < dx.size(); ++i) CHECK(i < kDepth ? dx[i] != 0 : dx[i] == 0);
  for (const double d : dweight) CHECK(std::isfinite(d));
}

}  // namespace

int main() {
  for (const bool fast : {true, false}) {
    const auto check_all = [&](const auto& margin) {
      check_way(margin, fast, cpu::backend<double>(Gemm<double>{}));
      check_way(margin, fast, cpu::backend<double>(Gemm<double>{}, &thread_pieces<3>, true));
      if constexpr (!kIsBinary<std::decay_t<decltype(margin)>>) {
        check_way(margin, fast, StreamBackend<double>{});
      }
    };
    check_all(ASoftmax(4));
    check_all(ASoftmax(1.5, true));
    check_all(LSoftmax(2));
    check_all(CombinedMargin{1, 0.5, 0.1, false});
    check_all(SphereFace2{});
    check_all(CosineMargin{9, CosineMargin::Form::kAdd, 1, 0, 0.1});
  }
  return summary();
}
