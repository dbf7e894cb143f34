// The fused loss against the layer's own products followed by a softmax written here in double:
// both ways of memory, pieces, threads, both gradients, smoothing, class weights, ignored and bad
// labels, kept unit rows, ranges of classes; and the policies by their definition in angles.
#include "sphereface/cpu_softmax.h"

#include <algorithm>
#include <numeric>
#include <random>
#include <vector>

#include "check.h"
#include "rows.h"
#include "stream_backend.h"
#include "thread_pieces.h"

using namespace sphereface;

namespace {

constexpr int64_t kBatch = 9, kClasses = 37, kFeatures = 6;

struct Setting {
  Gradient gradient;
  bool unit_rows;
  double smoothing;
  bool weighted;
  double scale = 0;  // of x / |x|; 0: x as it is
};

// What the layers in sequence give.
struct Expected {
  std::vector<double> loss;
  Rows<double> dx{kBatch, kFeatures}, dweight{kClasses, kFeatures};
  double dscale = 0;
};

template <typename Margin>
Expected layers(const MarginProblem<double, Margin>& p, const std::vector<double>& grad,
                const std::vector<double>& weight, double smoothing, bool unit_rows) {
  Expected e{std::vector<double>(kBatch)};
  Rows<double> z(kBatch, kClasses), unit(kClasses, kFeatures);
  const Matrix<double> workspace = unit_rows ? Matrix<double>{} : unit.matrix();
  auto backend = cpu::backend<double>(Gemm<double>{});
  margin_inner_product(p, z.matrix(), kClasses, workspace, backend);
  for (int64_t i = 0; i < kBatch; ++i) {
    double* row = z.matrix().row(i);
    const double max = *std::max_element(row, row + kClasses);
    double sum = 0, total = 0;
    for (int64_t j = 0; j < kClasses; ++j) sum += std::exp(row[j] - max);
    for (int64_t j = 0; j < kClasses; ++j) total += weight[j];
    const double lse = max + std::log(sum);
    const int64_t label = p.label[i];
    const bool ignored = label == p.ignore_index;
    const double hit = ignored ? 0 : (1 - smoothing) * weight[label];
    const double spread = ignored ? 0 : smoothing / kClasses;
    e.loss[i] = ignored ? 0 : hit * (lse - row[label]);
    for (int64_t j = 0; j < kClasses; ++j) e.loss[i] += spread * weight[j] * (lse - row[j]);
    for (int64_t j = 0; j < kClasses; ++j) {
      double g = (hit + spread * total) * std::exp(row[j] - lse) - spread * weight[j];
      if (!ignored && j == label) g -= hit;
      row[j] = grad[i] * g;
    }
  }
  const Matrix<const double> g = z.matrix().as_const();
  margin_inner_product_input_gradient(p, g, e.dx.matrix(), kClasses, workspace, backend);
  margin_inner_product_weight_gradient(p, g, e.dweight.matrix(), kClasses, backend);
  return e;
}

// The same for a problem with a scale.
template <typename Margin>
Expected scaled_layers(MarginProblem<double, Margin> p, const std::vector<double>& grad,
                       const std::vector<double>& weight, double smoothing, bool unit_rows) {
  if (p.scale == nullptr) return layers(p, grad, weight, smoothing, unit_rows);
  const double scale = *p.scale;
  const Matrix<const double> x = p.x;
  Rows<double> unit(kBatch, kFeatures), scaled(kBatch, kFeatures);
  std::vector<double> length(kBatch);
  for (int64_t i = 0; i < kBatch; ++i) {
    double squared = 0;
    for (int64_t k = 0; k < kFeatures; ++k) squared += x.at(i, k) * x.at(i, k);
    length[i] = std::sqrt(squared);
    for (int64_t k = 0; k < kFeatures; ++k) {
      unit.matrix().at(i, k) = x.at(i, k) / length[i];
      scaled.matrix().at(i, k) = scale * x.at(i, k) / length[i];
    }
  }
  p.x = scaled.matrix().as_const();
  p.scale = nullptr;
  Expected e = layers(p, grad, weight, smoothing, unit_rows);
  for (int64_t i = 0; i < kBatch; ++i) {
    const double* u = unit.matrix().row(i);
    double *d = e.dx.matrix().row(i), along = 0;
    for (int64_t k = 0; k < kFeatures; ++k) along += u[k] * d[k];
    for (int64_t k = 0; k < kFeatures; ++k) d[k] = scale / length[i] * (d[k] - along * u[k]);
    e.dscale += along;
  }
  return e;
}

template <typename T>
double difference(Rows<T>& a, Rows<T>& b) {
  double worst = 0;
  for (int64_t i = 0; i < a.rows; ++i) {
    for (int64_t k = 0; k < a.cols; ++k) {
      worst = std::max(worst, std::fabs(a.matrix().at(i, k) - b.matrix().at(i, k)));
    }
  }
  return worst;
}

template <typename Margin>
void check_setting(const Setting& s, const Margin& margin, std::mt19937& random) {
  Rows<double> x(kBatch, kFeatures), weight(kClasses, kFeatures);
  x.fill(random);
  weight.fill(random);
  std::vector<int64_t> label(kBatch);
  for (int64_t& l : label) l = static_cast<int64_t>(random() % kClasses);
  label[1] = label[2];
  label[4] = -7;
  std::vector<double> grad(kBatch), class_weight(kClasses, 1), label_weight(kBatch);
  for (double& g : grad) g = std::normal_distribution<double>()(random);
  double total = 0;
  for (double& w : class_weight) {
    if (s.weighted) w = std::uniform_real_distribution<double>(0.1, 2)(random);
    total += w;
  }
  for (int64_t i = 0; i < kBatch; ++i) label_weight[i] = label[i] < 0 ? 0 : class_weight[label[i]];
  if (s.unit_rows) {
    cpu::normalize_rows(weight.matrix().as_const(), weight.matrix(), openmp_parallel_for);
  }
  const double lambda = 0.5;
  MarginProblem<double, Margin> p;
  p.x = x.matrix().as_const();
  p.weight = weight.matrix().as_const();
  p.label = label.data();
  p.lambda = &lambda;
  p.margin = margin;
  p.gradient = s.gradient;
  p.unit_rows = s.unit_rows;
  p.ignore_index = -7;
  SoftmaxOptions<double> options;
  options.label_smoothing = s.smoothing;
  if (s.weighted) {
    options.class_weight = class_weight.data();
    options.weight_sum = &total;
    options.label_weight = label_weight.data();
  }
  if (s.scale > 0) p.scale = &s.scale;
  Expected expected = scaled_layers(p, grad, class_weight, s.smoothing, s.unit_rows);

  const auto run = [&](bool fast, bool keeps_unit, int64_t chunk, auto backend) {
    Rows<double> unit(keeps_unit ? kClasses : chunk, kFeatures), scaled(kBatch, kFeatures);
    Rows<double> logits(kBatch, fast ? kClasses : chunk);
    std::vector<double> scratch(cpu::softmax_scratch<double>(kBatch, chunk));
    SoftmaxMemory<double> memory{chunk, logits.matrix(), unit.matrix(), scaled.matrix(),
                                 scratch.data()};
    std::vector<SoftmaxRow> rows(kBatch);
    std::vector<double> loss(kBatch), lse(kBatch), target(kBatch), cosine(kBatch);
    std::vector<int64_t> prediction(kBatch), plain(kBatch);
    margin_softmax_forward(
        p, options, memory, rows.data(),
        {loss.data(), lse.data(), target.data(), cosine.data(), prediction.data(), plain.data()},
        backend);
    for (int64_t i = 0; i < kBatch; ++i) CHECK_NEAR(loss[i], expected.loss[i], 1e-12);
    CHECK(std::isnan(target[4]) && std::isnan(cosine[4]));
    Rows<double> dx(kBatch, kFeatures), dweight(kClasses, kFeatures);
    std::vector<double> dscale(kBatch);
    SoftmaxGradients<double> out;
    out.dx = dx.matrix();
    out.dweight = dweight.matrix();
    out.dscale = dscale.data();
    memory.unit_rows_ready = keeps_unit;
    margin_softmax_backward(p, options, grad.data(), lse.data(), memory, fast, out, backend);
    CHECK_NEAR(difference(dx, expected.dx), 0.0, 2e-12);
    CHECK_NEAR(difference(dweight, expected.dweight), 0.0, 2e-12);
    CHECK_NEAR(std::accumulate(dscale.begin(), dscale.end(), 0.0), expected.dscale, 1e-11);
    CHECK(dx.gaps_untouched() && dweight.gaps_untouched() && logits.gaps_untouched());
  };
  for (const bool fast : {true, false}) {
    for (const int64_t chunk : {int64_t{1}, int64_t{17}, kClasses}) {
      const auto whole_chunks = cpu::backend<double>(Gemm<double>{}, openmp_parallel_for, false);
      run(fast, false, chunk, whole_chunks);
      const ParallelFor threads = chunk == 17 ? &thread_pieces<3> : &openmp_parallel_for;
      run(fast, false, chunk, cpu::backend<double>(Gemm<double>{}, threads, true));
      for (const bool keeps_unit : {false, true}) {
        run(fast, keeps_unit, chunk, StreamBackend<double>{});
      }
    }
  }
}

// Two ranges of the classes: what each knows of the rows gives the whole's loss, and with the lse
// of both each gives its part of the gradient.
void check_ranges() {
  std::mt19937 random(4);
  constexpr int64_t kRows = 4, kAll = 9, kDepth = 3, kFirst = 5;
  Rows<double> x(kRows, kDepth), weight(kAll, kDepth), logits(kRows, kAll);
  x.fill(random);
  weight.fill(random);
  const int64_t label[] = {0, 8, 4, 3};
  const double lambda = 1, grad[] = {1, -2, 0.5, 3};
  MarginProblem<double> p;
  p.x = x.matrix().as_const();
  p.weight = weight.matrix().as_const();
  p.label = label;
  p.lambda = &lambda;
  p.gradient = Gradient::kExact;
  auto backend = cpu::backend<double>(Gemm<double>{});
  std::vector<double> scratch(cpu::softmax_scratch<double>(kRows, kAll));
  const SoftmaxMemory<double> memory{kAll, logits.matrix(), {}, {}, scratch.data()};
  const MarginProblem<double> ranges[] = {p, p.part(0, kFirst), p.part(kFirst, kAll - kFirst)};
  std::vector<SoftmaxRow> rows[3];
  std::vector<double> lse(kRows);
  for (int part = 0; part < 3; ++part) {
    rows[part].resize(kRows);
    margin_softmax_rows(ranges[part], {}, memory, rows[part].data(), backend);
  }
  for (int i = 0; i < kRows; ++i) {
    lse[i] = std::log(std::exp(rows[1][i].lse()) + std::exp(rows[2][i].lse()));
    CHECK_NEAR(lse[i], rows[0][i].lse(), 1e-12);
    const int owner = label[i] < kFirst ? 1 : 2;
    CHECK_EQUAL(rows[owner][i].target, rows[0][i].target);
    CHECK_EQUAL(rows[owner][i].cosine, rows[0][i].cosine);
    CHECK(std::isnan(rows[3 - owner][i].target));
    const int best = rows[1][i].other > rows[2][i].other ? 1 : 2;
    CHECK_EQUAL(rows[best][i].other_class, rows[0][i].other_class);
  }
  Rows<double> dx[3] = {{kRows, kDepth}, {kRows, kDepth}, {kRows, kDepth}};
  Rows<double> dweight[2] = {{kAll, kDepth}, {kAll, kDepth}};
  for (int part = 0; part < 3; ++part) {
    const Matrix<double> own = dweight[part > 0].matrix();
    SoftmaxGradients<double> out;
    out.dx = dx[part].matrix();
    out.dweight = own.row_range(ranges[part].first_class, ranges[part].weight.rows);
    margin_softmax_backward(ranges[part], {}, grad, lse.data(), memory, false, out, backend);
  }
  for (int64_t k = 0; k < kDepth; ++k) {
    for (int64_t i = 0; i < kRows; ++i) {
      CHECK_NEAR(dx[1].matrix().at(i, k) + dx[2].matrix().at(i, k), dx[0].matrix().at(i, k), 1e-12);
    }
    for (int64_t j = 0; j < kAll; ++j) {
      CHECK_NEAR(dweight[1].matrix().at(j, k), dweight[0].matrix().at(j, k), 1e-12);
    }
  }
}

void check_policy(const CombinedMargin& m) {
  const double pi = std::acos(-1.0), h = 1e-7;
  for (int degrees = 1; degrees < 180; ++degrees) {
    if (degrees == 90) continue;  // where `easy` begins, the cosine is 0 but for rounding
    const double theta = degrees * pi / 180, c = std::cos(theta), phi = m.m1 * theta + m.m2;
    double expected = std::cos(phi);
    if (phi > pi) {
      expected = m.m1 == 1 ? c - m.m2 * std::sin(m.m2) : -std::cos(phi) - 2;  // k = 1
    }
    if (m.easy && degrees > 90) expected = c;
    CHECK_NEAR(m(c).value, expected - m.m3, 1e-12);
    const double slope = (m(c + h).value - m(c - h).value) / (2 * h);
    if (std::fabs(phi - pi) > 0.02) CHECK_NEAR(m(c).slope, slope, 2e-5);
  }
}

// SphereFace2 by its formula, in pieces, with a bias; an ignored row and one without a class.
void check_binary() {
  std::mt19937 random(5);
  constexpr int64_t kRows = 4;
  Rows<double> x(kRows, kFeatures), weight(kClasses, kFeatures);
  x.fill(random);
  weight.fill(random);
  cpu::normalize_rows(weight.matrix().as_const(), weight.matrix(), openmp_parallel_for);
  cpu::normalize_rows(x.matrix().as_const(), x.matrix(), openmp_parallel_for);
  const SphereFace2 margin{0.4, 3, 0.7, 20};
  for (int64_t i = 0; i < kRows; ++i) {
    for (int64_t k = 0; k < kFeatures; ++k) x.matrix().at(i, k) *= margin.r;
  }
  const int64_t label[] = {0, 36, -7, 99};
  const double lambda = 0, grad[] = {1, 0.5, 2, 1};
  std::vector<double> bias(kClasses);
  for (double& b : bias) b = std::normal_distribution<double>()(random);
  MarginProblem<double, SphereFace2> p;
  p.x = x.matrix().as_const();
  p.weight = weight.matrix().as_const();
  p.label = label;
  p.lambda = &lambda;
  p.margin = margin;
  p.unit_rows = true;
  p.ignore_index = -7;
  SoftmaxOptions<double> options;
  options.bias = bias.data();
  for (const int64_t chunk : {int64_t{16}, kClasses}) {
    Rows<double> logits(kRows, chunk), dx(kRows, kFeatures), dweight(kClasses, kFeatures);
    std::vector<double> scratch(cpu::softmax_scratch<double>(kRows, chunk));
    const SoftmaxMemory<double> memory{chunk, logits.matrix(), {}, {}, scratch.data()};
    std::vector<SoftmaxRow> rows(kRows);
    std::vector<double> loss(kRows), lse(kRows), target(kRows), cosine(kRows), dbias(kClasses);
    std::vector<int64_t> prediction(kRows), plain(kRows);
    auto backend = cpu::backend<double>(Gemm<double>{});
    margin_softmax_forward(
        p, options, memory, rows.data(),
        {loss.data(), lse.data(), target.data(), cosine.data(), prediction.data(), plain.data()},
        backend);
    SoftmaxGradients<double> out;
    out.dx = dx.matrix();
    out.dweight = dweight.matrix();
    out.dbias = dbias.data();
    margin_softmax_backward(p, options, grad, lse.data(), memory, false, out, backend);
    for (int64_t i = 0; i < 2; ++i) {
      double expected = 0;
      std::vector<double> slope(kFeatures);
      for (int64_t j = 0; j < kClasses; ++j) {
        double dot = 0;
        for (int64_t k = 0; k < kFeatures; ++k) dot += p.x.at(i, k) * p.weight.at(j, k);
        const bool own = label[i] == j;
        const double g = 2 * std::pow((dot / margin.r + 1) / 2, 3) - 1;
        const double z = margin.r * (own ? g - margin.m : g + margin.m) + bias[j];
        const double factor = (own ? margin.alpha : 1 - margin.alpha) / margin.r;
        expected += factor * std::log(1 + std::exp(own ? -z : z));
        const double s = grad[i] * factor * (1 / (1 + std::exp(-z)) - (own ? 1 : 0));
        for (int64_t k = 0; k < kFeatures; ++k) slope[k] += s * p.weight.at(j, k);
        if (own) CHECK_NEAR(target[i], z, 1e-12);
      }
      CHECK_NEAR(loss[i], expected, 1e-12);
      for (int64_t k = 0; k < kFeatures; ++k) CHECK_NEAR(dx.matrix().at(i, k), slope[k], 1e-13);
    }
    CHECK_EQUAL(loss[2], 0.0);
    CHECK(std::isnan(loss[3]));
    CHECK_EQUAL(dx.matrix().at(2, 0), 0.0);
    CHECK(std::isnan(dbias[0]));  // of the row without a class
  }
}

}  // namespace

// What threads wait for each other, counted in classes, for chunks as torch asks for.
void check_shares() {
  for (int64_t chunk = 400; chunk <= 2032; chunk += 16) {
    const int64_t block = cpu::detail::block_classes(chunk);
    for (const int64_t threads : {2, 4}) {
      const int64_t blocks = cpu::detail::divide_up(chunk, block);
      const int64_t most = cpu::detail::divide_up(blocks, threads) * block;
      CHECK(most * threads <= chunk + threads * 64);
    }
  }
}

int main() {
  check_shares();
  check_binary();
  std::mt19937 random(7);
  for (const Gradient gradient : {Gradient::kCaffe, Gradient::kExact}) {
    for (const bool unit_rows : {true, false}) {
      for (const double smoothing : {0.0, 0.2}) {
        for (const bool weighted : {false, true}) {
          const Setting s{gradient, unit_rows, smoothing, weighted};
          for (int m = 1; m <= kMaxMargin; ++m) check_setting(s, ASoftmax(m), random);
          check_setting(s, CombinedMargin{1, 0.5, 0, false}, random);
          check_setting(s, CombinedMargin{1.2, 0.3, 0.1, false}, random);
          check_setting(s, ASoftmax(1.7), random);
          check_setting(s, ASoftmax(1.5, true), random);
          if (unit_rows) check_setting(s, LSoftmax(3), random);
          using Form = CosineMargin::Form;
          const CosineMargin ready[] = {{30, Form::kAdd, 1, 0, 0.2},
                                        {3, Form::kAngle, 1, 0.5, 0},
                                        {-9, Form::kCombined, 1.1, 0.3, 0.1}};
          for (const CosineMargin& m : ready) {
            if (unit_rows) check_setting(s, m, random);
          }
          const Setting scaled{gradient, unit_rows, smoothing, weighted, 12};
          check_setting(scaled, ASoftmax(4), random);
          if (unit_rows) check_setting(scaled, LSoftmax(3), random);
          check_setting(scaled, CombinedMargin{1, 0.5, 0, false}, random);
          check_setting(scaled, CombinedMargin{1.2, 0.3, 0.1, false}, random);
        }
      }
    }
  }
  check_ranges();
  for (const bool easy : {false, true}) {
    check_policy({1, 0, 0.35, easy});
    check_policy({1, 0.5, 0, easy});
    check_policy({1.2, 0.3, 0.1, easy});
  }
  return summary();
}
