// Lines, residuals and the linear head against another reading of their formulas; what they are exact on.

#include "core/indexer/linear_head.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "core/indexer/blocks.hpp"
#include "core/selection/run_selection.hpp"
#include "tests/support/cases.hpp"

using namespace misa;
using namespace misa::testing;

namespace {

IndexerSettings settings_of(i64 active, i64 samples, Router router = Router::linear_residual) {
  IndexerSettings settings;
  settings.top_k = 17;
  settings.active_heads = active;
  settings.samples = samples;
  settings.router = router;
  return settings;
}

/// Contiguous rows of f32 over one sequence, all numbers given.
Workload workload_of(i64 rows, i64 heads, i64 dim, i64 tokens, auto&& query, auto&& weight, auto&& key) {
  Workload workload;
  workload.q = HostTensor(Dtype::f32, {rows, heads, dim});
  workload.weights = HostTensor(Dtype::f32, {rows, heads});
  workload.k = HostTensor(Dtype::f32, {tokens, dim});
  for (i64 i = 0; i < workload.q.size(); ++i) {
    workload.q.span<float>()[static_cast<std::size_t>(i)] = query(i / dim / heads, i / dim % heads, i % dim);
  }
  for (i64 i = 0; i < workload.weights.size(); ++i) {
    workload.weights.span<float>()[static_cast<std::size_t>(i)] = weight(i / heads, i % heads);
  }
  for (i64 i = 0; i < workload.k.size(); ++i) {
    workload.k.span<float>()[static_cast<std::size_t>(i)] = key(i / dim, i % dim);
  }
  for (i64 m = 0; m < rows; ++m) {
    workload.sequence.push_back(0);
    workload.ks.push_back(0);
    workload.ke.push_back(static_cast<i32>(tokens - m));
    workload.q_pos.push_back(static_cast<i32>(tokens - m - 1));
  }
  return workload;
}

/// The linear query [D + 1] of row 0, and what was chosen.
std::pair<std::vector<float>, Chosen> choose_linear(std::string_view backend, const Workload& workload,
                                                    const IndexerSpec& spec) {
  const auto made = make_backend(backend, 2);
  const Placement placement(*made, workload);
  const Selection outcome = run_selection(*made, spec, placement.problem());
  const std::span<const float> linear = row_of<float>(outcome[Choice::linear], 0);
  return {{linear.begin(), linear.end()}, choose(*made, workload, spec)};
}

double variance(const std::vector<double>& values) {
  const double count = static_cast<double>(values.size());
  double sum = 0, squares = 0;
  for (const double value : values) sum += value;
  for (const double value : values) squares += (value - sum / count) * (value - sum / count);
  return squares / count;
}

const std::vector<std::string> kBothBackends{"oracle", "cpu"};

}  // namespace

TEST_CASE("a row keeps the heads and sums the lines that the formulas say, read another way") {
  for (u64 seed = 1; seed <= 60; ++seed) {
    CaseOptions options;
    options.seed = seed;
    Draw draw(seed);
    options.rows = 1;
    options.heads = draw.one_of<i64>({3, 5, 8, 16});
    options.dim = 32;
    options.dtype = draw.one_of<Dtype>({Dtype::f32, Dtype::bf16, Dtype::e4m3});
    options.contexts = {draw.whole(20, 400)};
    const i64 active = draw.whole(1, 2) + 1, samples = draw.whole(4, 40);
    const bool linear = draw.whole(0, 2) > 0;
    const Router router = draw.one_of<Router>({Router::linear_residual, Router::covariance});
    CAPTURE(options.describe());
    CAPTURE(active);
    CAPTURE(samples);
    CAPTURE(linear);
    CAPTURE(router_name(router));
    const Workload workload = draw_workload(options);
    const i64 heads = options.heads, dim = options.dim, n = workload.ke[0];
    if (n < 8) continue;  // products that are all equal have no best slope

    // Products with every stride-th token.
    i64 stride = 1;
    while ((n + stride - 1) / stride > 2 * samples) stride *= 2;
    std::vector<i64> tokens;
    for (i64 token = sample_offset(stride); token < n; token += stride) tokens.push_back(token);
    const auto weight = [&](i64 h) {
      return static_cast<double>(workload.weights.span<const float>()[static_cast<std::size_t>(h)]);
    };
    std::vector<std::pair<double, std::vector<double>>> by_total;  // -T, x[h]
    for (const i64 token : tokens) {
      const double scale =
          workload.k_scale.empty() ? 1.0 : workload.k_scale.span<const float>()[static_cast<std::size_t>(token)];
      double total = 0;
      std::vector<double> x;
      for (i64 h = 0; h < heads; ++h) {
        double dot = 0;
        for (i64 d = 0; d < dim; ++d)
          dot += value_at(workload.q, h * dim + d) * value_at(workload.k, token * dim + d) * scale;
        x.push_back(dot);
        total += weight(h) * std::max(0.0, dot);
      }
      by_total.emplace_back(-total, x);
    }
    if (linear) {
      std::stable_sort(by_total.begin(), by_total.end(),
                       [](const auto& a, const auto& b) { return a.first < b.first; });
      by_total.resize((by_total.size() + 1) / 2);
    }

    // The best of 20001 slopes in [0, 1] by what it leaves: no formula for it.
    std::vector<double> slopes, deviations;
    std::vector<std::vector<double>> left;
    for (i64 h = 0; h < heads; ++h) {
      const auto leaves = [&](double slope) {
        std::vector<double> values;
        for (const auto& [total, x] : by_total) {
          const double one = x[static_cast<std::size_t>(h)];
          values.push_back(weight(h) * (std::max(0.0, one) - slope * one));
        }
        return values;
      };
      double best = 0;
      if (linear) {
        for (int i = 0; i <= 20000; ++i) {
          if (variance(leaves(i / 20000.0)) < variance(leaves(best))) best = i / 20000.0;
        }
      }
      slopes.push_back(best);
      left.push_back(leaves(best));
      deviations.push_back(std::sqrt(variance(left.back())));
    }
    std::vector<i32> kept;
    const i64 wanted = linear ? std::min(active, heads - 1) - 2 : std::min(active, heads);
    std::vector<i32> order(static_cast<std::size_t>(heads));
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](i32 a, i32 b) {
      return deviations[static_cast<std::size_t>(a)] > deviations[static_cast<std::size_t>(b)];
    });
    const i64 first = router == Router::covariance ? std::min(heads, 2 * wanted + 4) : wanted;
    kept.assign(order.begin(), order.begin() + first);
    std::sort(kept.begin(), kept.end());
    if (router == Router::covariance) {
      std::vector<double> dropped(by_total.size(), 0.0);
      const auto with = [&](i32 h) {
        std::vector<double> sum = dropped;
        for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += left[static_cast<std::size_t>(h)][i];
        return sum;
      };
      for (auto h = order.begin() + first; h != order.end(); ++h) dropped = with(*h);
      while (static_cast<i64>(kept.size()) > wanted) {
        std::size_t least = 0;
        for (std::size_t i = 1; i < kept.size(); ++i) {
          if (variance(with(kept[i])) < variance(with(kept[least]))) least = i;
        }
        dropped = with(kept[least]);
        kept.erase(kept.begin() + static_cast<std::ptrdiff_t>(least));
      }
    }

    IndexerSpec spec = make_indexer("misa", settings_of(std::min(active, linear ? heads - 1 : heads), samples, router));
    spec.heads->linear = linear;
    for (const std::string& backend : kBothBackends) {
      CAPTURE(backend);
      const auto [query, chosen] = choose_linear(backend, workload, spec);
      CHECK(chosen.heads == kept);
      if (!linear) continue;
      REQUIRE(static_cast<i64>(query.size()) == dim + 1);
      std::vector<double> exact;
      double largest = 0;
      for (i64 d = 0; d < dim; ++d) {
        double sum = 0;
        for (i64 h = 0; h < heads; ++h) {
          if (std::find(kept.begin(), kept.end(), h) == kept.end()) {
            sum += weight(h) * slopes[static_cast<std::size_t>(h)] * value_at(workload.q, h * dim + d);
          }
        }
        exact.push_back(sum);
        largest = std::max(largest, std::abs(sum));
      }
      const double step = options.dtype == Dtype::e4m3 ? 0x1p-4 : options.dtype == Dtype::bf16 ? 0x1p-9 : 0;
      for (i64 d = 0; d < dim; ++d) {
        const double found = static_cast<double>(query[static_cast<std::size_t>(d)]) * query.back();
        CHECK(std::abs(found - exact[static_cast<std::size_t>(d)]) <=
              step * std::abs(exact[static_cast<std::size_t>(d)]) + 2e-3 * largest);
      }
    }
  }
}

TEST_CASE("where all products are positive the linear head is dsa with no other head at all") {
  // Small whole numbers: every sum is exact in f32.
  for (u64 seed = 1; seed <= 20; ++seed) {
    CAPTURE(seed);
    Draw draw(seed);
    const auto whole = [&](i64 least, i64 most) { return static_cast<float>(draw.whole(least, most)); };
    const Workload workload = workload_of(
        4, 8, 32, 300, [&](i64, i64, i64) { return whole(0, 3); }, [&](i64, i64) { return whole(-4, 4); },
        [&](i64, i64 d) { return d == 0 ? 1.0f : whole(0, 3); });
    for (const Router router : {Router::linear_residual, Router::covariance}) {
      for (const std::string& backend : kBothBackends) {
        CAPTURE(backend);
        const Chosen linear = choose(backend, workload, make_indexer("misa-lr", settings_of(2, 30, router)));
        CHECK(linear.heads.empty());
        CHECK(linear.tokens == choose(backend, workload, make_indexer("dsa", settings_of(2, 30))).tokens);
      }
    }
  }
}

TEST_CASE("where the slopes of the heads that are dropped are 0, misa-lr is misa with two heads fewer") {
  // One row whose dropped heads are positive only where no sample is.
  constexpr i64 kHeads = 8, kDim = 32, kTokens = 300, kSamples = 30;
  i64 other = 0;
  for (u64 seed = 1; seed <= 20; ++seed) {
    CAPTURE(seed);
    Draw draw(seed);
    Problem window;
    window.sequence = window.begin = {0};
    window.end = {kTokens};
    window.shape.rows = 1;
    const std::vector<i32> sampled = layout_samples(window, kSamples).begin;
    const auto key = [&](i64 token, i64 d) {
      const float x = draw.normal();
      return d >= 3 && std::binary_search(sampled.begin(), sampled.end(), token) ? -std::abs(x) : x;
    };
    const Workload workload = workload_of(
        1, kHeads, kDim, kTokens, [](i64, i64 h, i64 d) { return h == d ? 1.0f : 0.0f; },
        [&](i64, i64) { return draw.normal(); }, key);
    for (const Router router : {Router::linear_residual, Router::covariance}) {
      for (const std::string& backend : kBothBackends) {
        CAPTURE(backend);
        const auto [query, chosen] =
            choose_linear(backend, workload, make_indexer("misa-lr", settings_of(5, kSamples, router)));
        CHECK(chosen.heads == std::vector<i32>{0, 1, 2});
        CHECK(std::all_of(query.begin(), query.end() - 1, [](float one) { return one == 0; }));
        CHECK(chosen == choose(backend, workload, make_indexer("misa", settings_of(3, kSamples, router))));
        if (!(chosen.tokens == choose(backend, workload, make_indexer("dsa", settings_of(5, kSamples))).tokens))
          ++other;
      }
    }
  }
  CHECK(other > 0);  // the dropped heads did matter
}

TEST_CASE("a constant, and the order of samples, change no line") {
  Draw draw(5);
  std::vector<double> products;
  for (int i = 0; i < 24; ++i) products.push_back(draw.normal());
  const std::vector<float> weights{1, -2};
  const SampledRow row(products, weights, false), linear(products, weights, true);
  CHECK(row.count == 12);
  CHECK(linear.count == 6);
  CHECK(row.lines[0].slope == 0);
  CHECK(linear.lines[0].slope > 0);
  CHECK(linear.lines[0].slope < 1);

  // All positive: 1, all negative: 0, whether they differ or not.
  for (const double spread : {0.0, 1.0}) {
    std::vector<double> one_sided;
    for (int i = 0; i < 24; ++i) one_sided.push_back((i < 12 ? 3.0 : -3.0) + spread * i / 100);
    const SampledRow sided(one_sided, weights, true);
    CHECK(sided.lines[0].slope == 1);
    CHECK(sided.lines[1].slope == 0);
    CHECK(sided.lines[0].residual == 0);
    CHECK(sided.lines[1].residual == 0);
  }
}

TEST_CASE("products and weights that are no numbers leave lines and the linear query alone") {
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN(), kInfinity = std::numeric_limits<double>::infinity();
  const SampledRow row({1, kNan, -1, kInfinity, 2, -3, kNan, 1}, std::vector<float>{1, static_cast<float>(kNan)}, true);
  CHECK(row.x.size() == 4);
  for (const double x : row.x) CHECK(std::isfinite(x));
  CHECK(std::isnan(row.residual_energies()[1]));
  CHECK(row.eliminate(1).kept == std::vector<i32>{0});
  const std::vector<float> query(8, 1.0f), weights{1, static_cast<float>(kNan)};
  const Queries queries{View<const float, 3>(query.data(), {1, 2, 4}), View<const float, 2>(weights.data(), {1, 2})};
  for (const double one : linear_query(queries, 0, row.slopes(), {})) CHECK(one == row.lines[0].slope);
}

TEST_CASE("weights that are no numbers count in no total and are on no shortlist") {
  constexpr float kInfinite = std::numeric_limits<float>::infinity();
  std::vector<double> products;
  for (int h = 0; h < 6; ++h) products.insert(products.end(), {1.0 + h, -2.0, 3.0, -1.0 - h});
  const SampledRow row(products, std::vector<float>{kInfinite, 1, 1, 1, 1, 1}, true);
  CHECK(row.totals == std::vector<double>{2 + 3 + 4 + 5 + 6, 0, 15, 0});
  CHECK(row.counted == std::vector<i32>{0, 2});
  const SampledRow plain(products, std::vector<float>{kInfinite, 1, 1, 1, 1, 1}, false);
  CHECK(plain.shortlist(0) == std::vector<i32>{2, 3, 4, 5});
}

TEST_CASE("a linear query is rounded to what its row is stored in") {
  const std::vector<double> query{1 + 0x1p-9, 3};
  CHECK(round_linear_query(query, Dtype::f32) == std::vector<float>{1 + 0x1p-9f, 3, 1});
  CHECK(round_linear_query(query, Dtype::bf16) == std::vector<float>{1, 3, 1});
}

TEST_CASE("a key that is no number spoils only its own score") {
  Draw draw(9);
  Workload workload = workload_of(
      1, 8, 32, 200, [&](i64, i64, i64) { return draw.normal(); }, [&](i64, i64) { return draw.normal(); },
      [&](i64, i64) { return draw.normal(); });
  const IndexerSpec spec = make_indexer("misa-lr", settings_of(4, 200));  // every token is a sample
  for (const std::string& backend : kBothBackends) {
    workload.k.span<float>()[32 * 50] = 1;
    const Chosen whole = choose(backend, workload, spec);
    workload.k.span<float>()[32 * 50] = std::numeric_limits<float>::quiet_NaN();
    const std::vector<i32> found = choose(backend, workload, spec).row(0);
    CHECK(std::find(found.begin(), found.end(), 50) == found.end());
    std::vector<i32> shared;
    const std::vector<i32> before = whole.row(0);
    std::set_intersection(found.begin(), found.end(), before.begin(), before.end(), std::back_inserter(shared));
    CHECK(shared.size() > 8);
  }
}

TEST_CASE("the scale of a linear query is the least power of two that FP8 holds it with") {
  CHECK(linear_scale(448) == 1);
  CHECK(linear_scale(448.5f) == 2);
  CHECK(linear_scale(225) == 1);
  CHECK(linear_scale(224) == 0.5f);
  CHECK(linear_scale(0) == 0x1p-126f);
  CHECK(linear_scale(std::numeric_limits<float>::infinity()) == 0x1p127f);
  const std::vector<double> query{0.1, -3, 100, 0};
  const std::vector<float> fp8 = round_linear_query(query, Dtype::e4m3), f32 = round_linear_query(query, Dtype::f32);
  CHECK(fp8 == std::vector<float>{to_float(to_e4m3(0.4f)), -12, 384, 0, 0.25f});
  CHECK(f32 == std::vector<float>{0.1f, -3, 100, 0, 1});
}

TEST_CASE("a routed batch ends in the linear query and its negative, whose weights are opposite") {
  for (const Dtype dtype : {Dtype::f32, Dtype::bf16, Dtype::e4m3}) {
    CaseOptions options;
    options.dtype = dtype;
    options.heads = 8;
    const Workload workload = draw_workload(options);
    for (const std::string& name : kBothBackends) {
      const auto backend = make_backend(name, 2);
      const Placement placement(*backend, workload);
      PlanOptions watch;
      i64 rows = 0;
      watch.after_chunk = [&](const ChunkScores& chunk) {
        const GatherTask& task = chunk.route->gather;
        std::visit(
            [&](const auto& values) {
              CHECK(values.shape[1] == 4);
              for (i64 m = 0; m < chunk.rows; ++m, ++rows) {
                CHECK(task.weights(m, 3) == -task.weights(m, 2));
                for (i64 d = 0; d < values.shape[2]; ++d)
                  CHECK(to_float(values(m, 3, d)) == -to_float(values(m, 2, d)));
              }
            },
            task.values);
      };
      Plan plan(*backend, make_indexer("misa-lr", settings_of(4, 10)), placement.problem(), watch);
      plan.run(nullptr);
      CHECK(rows == workload.rows());
    }
  }
}

TEST_CASE("heads that are to be kept are on the shortlist and are never dropped, however little they add") {
  constexpr i64 kHeads = 16, kSamples = 12, kKept = 3;
  for (u64 seed = 1; seed <= 40; ++seed) {
    CAPTURE(seed);
    std::mt19937_64 engine(seed);
    std::normal_distribution<double> normal;
    std::vector<double> products;
    std::vector<float> weights;
    // Later heads are weaker by far, so that a choice of the last ones is never the router's own.
    for (i64 h = 0; h < kHeads; ++h) {
      weights.push_back(static_cast<float>((seed % 2 == 0 && h % 3 == 0 ? -1 : 1) * std::pow(0.3, h)));
      for (i64 i = 0; i < kSamples; ++i) products.push_back(normal(engine));
    }
    const SampledRow row(products, weights, seed % 3 == 0);
    const std::vector<i32> only{12, 13, 15};
    const std::vector<i32> shortlist = row.shortlist(kKept, only);
    CHECK(std::includes(shortlist.begin(), shortlist.end(), only.begin(), only.end()));
    CHECK(static_cast<i64>(shortlist.size()) == shortlist_size(kHeads, kKept));
    CHECK(row.eliminate(kKept, only).kept == only);
    CHECK(row.eliminate(kKept).kept != only);
    const std::vector<i32> mixed{0, 1, 15};  // what the router keeps, but for the last
    CHECK(row.eliminate(kKept, mixed).kept == mixed);
  }
}
