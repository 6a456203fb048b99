// Bounds of arithmetics that round weights and scores to bf16, against numbers that are computed and rounded here.

#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "core/agreement/bounds.hpp"

using namespace misa;

namespace {

/// To the nearest bf16, ties to even.
float rounded_to_bf16(float value) {
  const u32 bits = std::bit_cast<u32>(value);
  return std::bit_cast<float>((bits + 0x7FFFu + ((bits >> 16) & 1u)) & 0xFFFF0000u);
}

/// A row and one key.
struct Score {
  i64 heads = 0, dim = 0;
  std::vector<float> q, weights, k, scale;
  std::vector<i32> zero{0}, one{1};

  double exact() const {
    return with([](float weight) { return weight; }, double{});
  }

  /// Dot products, the sum over heads and the scale in f32, weights and the score rounded to bf16.
  float rounded() const { return rounded_to_bf16(static_cast<float>(with(rounded_to_bf16, float{}))); }

  template <class Round, class Number>
  double with(const Round& round, Number sum) const {
    for (std::size_t h = 0; h < weights.size(); ++h) {
      Number product = 0;
      for (std::size_t d = 0; d < k.size(); ++d) product += Number{q[h * k.size() + d]} * Number{k[d]};
      sum += Number{round(weights[h])} * std::max(product, Number{0});
    }
    return double{sum * Number{scale[0]}};
  }

  double bound(const Arithmetic& arithmetic) const {
    Problem problem;
    problem.queries = {View<const float, 3>(q.data(), {1, heads, dim}),
                       View<const float, 2>(weights.data(), {1, heads})};
    problem.keys = {View<const float, 3>(k.data(), {1, 1, dim}), View<const float, 2>(scale.data(), {1, 1}), {}};
    problem.windows = {View<const i32, 1>(zero.data(), {1}), View<const i32, 1>(zero.data(), {1}),
                       View<const i32, 1>(one.data(), {1})};
    problem.sequence = problem.begin = zero;
    problem.end = one;
    problem.shape = {.rows = 1, .heads = heads, .head_dim = dim, .keys = 1, .max_window = 1};
    const Bounds bounds(problem);
    return bounds.score(arithmetic, 0, {}, {}, bounds.key(0, 0));
  }
};

Score draw(u32 seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::uniform_int_distribution<i64> heads(1, 64), log_dim(0, 7);
  Score drawn{.heads = heads(random), .dim = i64{1} << log_dim(random), .q = {}, .weights = {}, .k = {}, .scale = {}};
  const float unit = std::ldexp(1.0f, static_cast<int>(seed % 40) - 20);
  for (i64 i = 0; i < drawn.heads * drawn.dim; ++i) drawn.q.push_back(normal(random));
  for (i64 i = 0; i < drawn.heads; ++i) drawn.weights.push_back(unit * normal(random));
  for (i64 i = 0; i < drawn.dim; ++i) drawn.k.push_back(normal(random));
  drawn.scale = {std::abs(normal(random)) + 0.1f};
  return drawn;
}

Arithmetic named(const std::string& name) { return *find_arithmetic(name); }

}  // namespace

TEST_CASE("scores whose weights and results are bf16 lie within the bounds that say so, and only within those") {
  int beyond = 0;
  for (u32 seed = 1; seed <= 2000; ++seed) {
    const Score drawn = draw(seed);
    const double error = std::abs(static_cast<double>(drawn.rounded()) - drawn.exact());
    CAPTURE(seed);
    for (const char* name : {"f32", "fp8-mma", "bf16-mma"}) {
      CAPTURE(name);
      const double plain = drawn.bound(named(name)), rounded = drawn.bound(named(std::string(name) + "+bf16-result"));
      CHECK(error <= rounded);
      CHECK(rounded < drawn.bound(named("bf16-result")) + plain);
      if (std::string(name) == "f32" && error > plain) ++beyond;
    }
  }
  CHECK(beyond > 1500);
}

TEST_CASE("a weight and a score that both round by half a unit use 0.99 of the bound") {
  const Score halves{.heads = 1, .dim = 1, .q = {1 + 0x1p-8f}, .weights = {1 + 0x1p-8f}, .k = {1}, .scale = {1}};
  CHECK(halves.rounded() == 1);
  const double error = halves.exact() - 1, bound = halves.bound(named("f32+bf16-result"));
  CHECK(error < bound);
  CHECK(error > 0.99 * bound);
}

TEST_CASE("a weight that bf16 does not hold has an infinite bound, and one that is subnormal an absolute one") {
  const float largest = std::bit_cast<float>(0x7F7FFFFFu);
  const Score large{.heads = 1, .dim = 1, .q = {1e-10f}, .weights = {largest}, .k = {1e-10f}, .scale = {1}};
  CHECK(std::isinf(rounded_to_bf16(largest)));
  CHECK(std::isinf(large.bound(named("f32+bf16-result"))));
  CHECK(std::isfinite(large.bound(named("f32"))));
  // The weight is lost, if subnormals are flushed, and its product is not small.
  const Score small{.heads = 1, .dim = 1, .q = {1e30f}, .weights = {1e-39f}, .k = {1e5f}, .scale = {1}};
  CHECK(small.bound(named("f32+bf16-result")) >= small.exact());
}
