#include "core/agreement/bounds.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

using namespace misa;

namespace {

constexpr float kInf = std::numeric_limits<float>::infinity(), kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kLargest = std::numeric_limits<float>::max();

/// One row of f32 queries over contiguous f32 keys with scales, all in host memory.
struct Row {
  i64 heads, dim;
  std::vector<float> queries, weights, keys, scales;
  std::vector<i32> zeros{0}, end;

  Row(i64 head_dim, std::vector<float> q, std::vector<float> w, std::vector<float> k, std::vector<float> s)
      : heads(static_cast<i64>(w.size())),
        dim(head_dim),
        queries(std::move(q)),
        weights(std::move(w)),
        keys(std::move(k)),
        scales(std::move(s)),
        end{static_cast<i32>(scales.size())} {}

  Problem problem() const {
    Problem one;
    const i64 count = static_cast<i64>(scales.size());
    one.queries = {View<const float, 3>(queries.data(), {1, heads, dim}),
                   View<const float, 2>(weights.data(), {1, heads})};
    one.keys = {
        View<const float, 3>(keys.data(), {1, count, dim}), View<const float, 2>(scales.data(), {1, count}), {}};
    one.windows = {View<const i32, 1>(zeros.data(), {1}), View<const i32, 1>(zeros.data(), {1}),
                   View<const i32, 1>(end.data(), {1})};
    one.sequence = one.begin = zeros;
    one.end = end;
    one.shape = {.rows = 1, .heads = heads, .head_dim = dim, .keys = count, .max_window = count};
    return one;
  }
};

double gamma(double n, double u) { return n * u / (1 - n * u); }

/// c of docs/agreement.md.
double coefficient(const Arithmetic& a, i64 dim, i64 terms) {
  double dot = gamma(static_cast<double>(dim), a.dot);
  if (a.group > 0)
    dot +=
        std::ceil(static_cast<double>(dim) / static_cast<double>(a.group)) * (static_cast<double>(a.group) + 1) * a.cut;
  return (1 + a.operand) * (1 + a.operand) * (1 + a.operand) * (1 + a.weight) * (1 + dot) *
             (1 + gamma(static_cast<double>(terms) + 3, a.head_sum)) * (1 + a.result) -
         1;
}

/// Of numbers near 1 nothing but the coefficient matters.
bool same(double found, double expected) { return std::abs(found - expected) <= 1e-9 * expected; }

/// The bounds of a row's score of its only key, per arithmetic: f64 and f32-dot.
std::vector<double> score_bounds(const Row& row) {
  const Problem problem = row.problem();
  const Bounds bounds(problem);
  std::vector<double> found;
  for (const char* name : {"f64", "f32-dot"}) {
    found.push_back(bounds.score(*find_arithmetic(name), 0, {}, {}, bounds.key(0, 0)));
  }
  return found;
}

bool finite_in_f32(const Row& row) {
  const std::vector<double> found = score_bounds(row);
  CHECK(std::isfinite(found[0]));  // double holds all of them
  CHECK_FALSE(std::isnan(found[1]));
  return std::isfinite(found[1]);
}

}  // namespace

TEST_CASE("the bound of a score is the one that docs/agreement.md derives, in every arithmetic") {
  const Row row(2, {3, 4, 5, 12, 8, 15}, {0.5f, -0.25f, 2}, {6, 8}, {4});
  const Problem problem = row.problem();
  const Bounds bounds(problem);
  const KeySize key = bounds.key(0, 0);
  CHECK(key.vector == doctest::Approx(10));
  CHECK(key.scale == 4);
  const std::vector<i32> some{0, 2};
  const std::vector<float> linear{7, 24, 0.125f};
  for (const Arithmetic& a : arithmetics()) {
    CAPTURE(a.name);
    const double all_heads = 0.5 * 5 + 0.25 * 13 + 2 * 17, two_heads = 0.5 * 5 + 2 * 17, linear_heads = 2 * 0.125 * 25;
    CHECK(same(bounds.score(a, 0, {}, {}, key), coefficient(a, 2, 3) * 40 * all_heads));
    CHECK(same(bounds.score(a, 0, some, {}, key), coefficient(a, 2, 2) * 40 * two_heads));
    // A linear query is scored as two heads.
    CHECK(same(bounds.score(a, 0, some, linear, key), coefficient(a, 2, 4) * 40 * (two_heads + linear_heads)));
    CHECK(same(bounds.score(a, 0, {}, linear, key), coefficient(a, 2, 2) * 40 * linear_heads));
  }
}

TEST_CASE("the bounds of block scores and of what heads are ranked by add pooling and the length of the sum") {
  const Row row(2, {3, 4, 5, 12}, {0.5f, -0.25f}, {6, 8, 3, 4, 0, 1, 4, 3}, {4, 2, 1, 1});
  const Problem problem = row.problem();
  const Bounds bounds(problem);
  const double norms[4] = {40, 10, 1, 5};
  const BlockLayout blocks = layout_blocks(problem, 2, BlockWindow::visible);
  REQUIRE(blocks.pooled() == 2);
  for (const Arithmetic& a : arithmetics()) {
    CAPTURE(a.name);
    const auto pooled = [&](double c, double size) {
      return ((1 + c) * (1 + gamma(size + 2, a.pool)) * (1 + 0x1p-24)) * (1 + a.mean) - 1;
    };
    const double weighted = 0.5 * 5 + 0.25 * 13;
    CHECK(same(bounds.block_score(a, 0, 0, 2), pooled(coefficient(a, 2, 2), 2) * (norms[0] + norms[1]) / 2 * weighted));
    CHECK(same(bounds.block_score(a, 0, 1, 4),
               pooled(coefficient(a, 2, 2), 3) * (norms[1] + norms[2] + norms[3]) / 3 * weighted));
    const auto energies = [&](Router router) { return bounds.energies(a, 0, router, &blocks, 2); };
    CHECK(same(energies(Router::selfk)[1], coefficient(a, 2, 1) * norms[3] * 0.25 * 13));
    CHECK(same(energies(Router::oracle)[0],
               coefficient(a, 2, 4) * (norms[0] + norms[1] + norms[2] + norms[3]) / 4 * 2.5));
    CHECK(same(energies(Router::pooled)[0],
               pooled(coefficient(a, 2, 2), 2) * ((norms[0] + norms[1]) / 2 + (norms[2] + norms[3]) / 2) / 2 * 2.5));
    for (const Router router : {Router::gate, Router::qnorm, Router::random}) {
      CHECK(energies(router) == std::vector<double>{0, 0});
    }
  }
}

TEST_CASE("a bound is infinite where any intermediate of any order may exceed f32, however small the score is") {
  CHECK(finite_in_f32(Row(1, {1e18f}, {1}, {1e18f}, {1})));
  CHECK_FALSE(finite_in_f32(Row(1, {1e20f}, {1e-6f}, {1e20f}, {1})));         // q . k, and a small gate
  CHECK_FALSE(finite_in_f32(Row(1, {1e20f}, {1}, {1e20f}, {1e-10f})));        // q . k, and a small scale
  CHECK_FALSE(finite_in_f32(Row(1, {1e15f}, {1e-10f}, {1e15f}, {1e10f})));    // q . k with a key that was scaled first
  CHECK_FALSE(finite_in_f32(Row(1, {1e15f}, {1e10f}, {1e15f}, {1e-10f})));    // w * relu, before the scale
  CHECK_FALSE(finite_in_f32(Row(1, {1e30f}, {1e10f}, {1e-20f}, {1})));        // w * q
  CHECK_FALSE(finite_in_f32(Row(1, {1, 1}, {3e38f, -3e38f}, {1}, {1e-3f})));  // a sum over heads that cancels
  CHECK_FALSE(finite_in_f32(Row(1, {1e20f, 1e20f}, {1, -1}, {1e18f}, {2})));  // the scaled sum of heads that cancel
  CHECK_FALSE(finite_in_f32(Row(2, {1e20f, -1e20f}, {1}, {3e18f, 3e18f}, {1})));  // partial sums of a dot that cancels
  CHECK_FALSE(finite_in_f32(Row(2, {1, 0}, {0}, {kLargest, kLargest}, {1})));     // a product that no gate lets through
}

TEST_CASE("infinite inputs have infinite bounds, NaN among them makes the number certain, and no bound is NaN") {
  const auto both = [](const Row& row, double expected) {
    for (const double bound : score_bounds(row)) CHECK(bound == expected);
  };
  const double infinity = std::numeric_limits<double>::infinity();
  both(Row(1, {1}, {1}, {kInf}, {1}), infinity);
  both(Row(1, {1}, {0}, {kInf}, {1}), infinity);  // 0 * inf
  both(Row(1, {kInf}, {0}, {0}, {1}), infinity);
  both(Row(1, {1}, {kInf}, {0}, {1}), infinity);
  both(Row(1, {1}, {1}, {0}, {kInf}), infinity);
  both(Row(1, {1}, {1}, {kInf}, {0}), infinity);
  both(Row(1, {kNan}, {1}, {kInf}, {1}), 0);
  both(Row(1, {1}, {kNan}, {1}, {1}), 0);
  both(Row(1, {1}, {1}, {kNan}, {1}), 0);
  both(Row(1, {1}, {1}, {1}, {kNan}), 0);
}

TEST_CASE("pooling that may overflow has an infinite bound, also in what every backend stores in f32") {
  const Row row(1, {1e-30f}, {1}, {3e38f, -3e38f, 1}, {1, 1, 1});
  const Problem problem = row.problem();
  const Bounds bounds(problem);
  const Arithmetic f64 = *find_arithmetic("f64"), f32 = *find_arithmetic("f32");
  CHECK(std::isfinite(bounds.block_score(f32, 0, 0, 1)));
  CHECK(std::isinf(bounds.block_score(f32, 0, 0, 2)));  // the sum, before it is divided
  CHECK(std::isfinite(bounds.block_score(f64, 0, 0, 2)));
  const Row scaled(1, {1e-30f}, {1}, {3e38f}, {2});
  const Problem large = scaled.problem();
  CHECK(std::isinf(Bounds(large).block_score(f64, 0, 0, 1)));  // a mean that f32 does not hold

  const BlockLayout blocks = layout_blocks(problem, 2, BlockWindow::visible);
  const auto energy = [&](Router router) { return bounds.energies(f32, 0, router, &blocks, 2)[0]; };
  CHECK(std::isinf(energy(Router::pooled)));
  CHECK(std::isfinite(energy(Router::oracle)));
  CHECK(std::isfinite(energy(Router::selfk)));
  // A sum over tokens, although its mean fits.
  const Row long_row(1, {1}, {1}, {2e38f, 2e38f}, {1, 1});
  const Problem many = long_row.problem();
  CHECK(std::isinf(Bounds(many).energies(f32, 0, Router::oracle, nullptr, 2)[0]));
}

TEST_CASE("subnormal results are within the bound, whatever they are multiplied by later") {
  const Arithmetic f32 = *find_arithmetic("f32");
  // The product underflows, the gate and the scale make it large again: 1e-25 * 1e-25 * 1e30 * 1e25 = 1e5.
  const Row row(1, {1e-25f}, {1e30f}, {1e-25f}, {1e25f});
  const Problem problem = row.problem();
  const Bounds bounds(problem);
  CHECK(bounds.score(f32, 0, {}, {}, bounds.key(0, 0)) >= 1e5);
  // A subnormal mean is flushed before it meets a large query.
  const Row tiny(1, {1e30f}, {1}, {1e-40f}, {1});
  const Problem flushed = tiny.problem();
  CHECK(Bounds(flushed).block_score(f32, 0, 0, 1) >= 1e-10);
  CHECK(Bounds(flushed).block_score(*find_arithmetic("f64"), 0, 0, 1) >= 0x1p-150 * 1e30);
  // A scaled key is flushed before it meets a large query.
  const Row scaled(1, {1e30f}, {1}, {1e-20f}, {1e-20f});
  const Problem small = scaled.problem();
  CHECK(Bounds(small).score(f32, 0, {}, {}, Bounds(small).key(0, 0)) >= 1e-10);
  // It does not drown what is normal.
  const Row normal(1, {1}, {1}, {1}, {1});
  const Problem plain = normal.problem();
  CHECK(Bounds(plain).score(f32, 0, {}, {}, Bounds(plain).key(0, 0)) < 0x1p-20);
}

TEST_CASE("sampled routers: products, squares and sums that may overflow have infinite bounds, and none is NaN") {
  const auto bounds_of = [](const Row& row, const char* arithmetic) {
    const Problem problem = row.problem();
    const Bounds bounds(problem);
    const BlockLayout samples = layout_samples(problem, 64);
    std::vector<double> products;
    for (i64 h = 0; h < row.heads; ++h) {
      for (std::size_t i = 0; i < row.scales.size(); ++i) {
        products.push_back(static_cast<double>(row.queries[static_cast<std::size_t>(h)]) * row.keys[i] * row.scales[i]);
      }
    }
    const SampledRow sampled(products, row.weights, true);
    const Arithmetic a = *find_arithmetic(arithmetic);
    const std::vector<i32> kept{0};
    const Elimination left = sampled.eliminate(1, kept);
    const std::vector<bool> unsure(static_cast<std::size_t>(row.heads), false);
    return std::vector<std::vector<double>>{bounds.residuals(a, 0, samples, sampled),
                                            bounds.costs(a, 0, samples, sampled, kept, unsure, left.deviation),
                                            bounds.linear_query(a, 0, samples, sampled, kept)};
  };
  struct Case {
    const char* what;
    Row row;
    bool residuals, costs, linear;  ///< finite, of the head that is dropped
  };
  const std::vector<float> ones{1, 1, 1}, keys{1, -2, 3};
  const Case cases[] = {
      {"plain numbers", Row(1, {1, 2}, {1, 1}, keys, ones), true, true, true},
      {"a product that overflows", Row(1, {1, 1e20f}, {1, 1e-30f}, {1e19f, -1, 1}, ones), false, false, true},
      {"a square that overflows", Row(1, {1, 1e10f}, {1, 1e-10f}, {1e10f, -1, 1}, ones), false, false, true},
      {"a weight that lifts a residual out of f32", Row(1, {1, 1e10f}, {1, 1e30f}, keys, ones), false, false, false},
      {"a cost that overflows", Row(1, {1, 1}, {1, 1e20f}, keys, ones), true, false, true},
      {"keys that f32 does not hold once scaled", Row(1, {1e-30f, 1e-30f}, {1, 1}, {1e30f, -1, 1}, {1e30f, 1, 1}),
       false, false, true},
      {"an infinite weight", Row(1, {1, 2}, {1, kInf}, keys, ones), false, true, true},
      {"NaN queries", Row(1, {1, kNan}, {1, 1}, keys, ones), true, true, true},
      {"infinite queries", Row(1, {1, kInf}, {1, 1}, keys, ones), true, true, true},
      {"infinite and NaN keys", Row(1, {1, 2}, {1, 1}, {kInf, kNan, 1}, ones), true, true, true},
      {"NaN weights", Row(1, {1, 2}, {1, kNan}, keys, ones), true, true, true},
      {"infinite and NaN scales", Row(1, {1, 2}, {1, 1}, keys, {kInf, kNan, 1}), true, true, true},
  };
  for (const Case& one : cases) {
    CAPTURE(one.what);
    const auto f32 = bounds_of(one.row, "f32"), f64 = bounds_of(one.row, "f64");
    for (const auto* found : {&f32, &f64}) {
      for (const std::vector<double>& bounds : *found) {
        for (const double bound : bounds) CHECK(bound >= 0);  // not NaN
      }
    }
    CHECK(std::isfinite(f32[0][1]) == one.residuals);
    CHECK(std::isfinite(f32[1][1]) == one.costs);
    CHECK(std::isfinite(f32[2][0]) == one.linear);
  }
}

TEST_CASE("membership is open where bounds reach over the edge, and only where there is a choice") {
  const double infinity = std::numeric_limits<double>::infinity();
  const auto open = [](std::vector<double> scores, std::vector<double> bounds, std::vector<i32> best) {
    return left_open(scores, bounds, best);
  };
  using Open = std::vector<bool>;
  CHECK(open({4, 3, 2, 1}, {0.1, 0.4, 0.4, 0.1}, {0, 1}) == Open{false, false, false, false});
  CHECK(open({4, 3, 2, 1}, {0.1, 0.5, 0.5, 0.1}, {0, 1}) == Open{false, true, true, false});
  CHECK(open({4, 3, 2, 1}, {0, infinity, 0, 0}, {0, 1}) == Open{false, true, true, true});
  CHECK(open({4, 3, 2, 1}, {0, 0, 0, infinity}, {0, 1}) == Open{true, true, false, true});
  CHECK(open({4, 3, -infinity, -infinity}, {0, 0, infinity, 0}, {0, 1}) == Open{true, true, true, false});
  CHECK(open({4, 3}, {infinity, infinity}, {0, 1}) == Open{false, false});
  CHECK(open({4, 3}, {infinity, infinity}, {}) == Open{false, false});
}
