#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "core/measure/statistics.hpp"

namespace misa {
namespace {

/// Times of two subjects in `rounds` rounds on a machine whose speed changes by a factor of 3 from time to time, for
/// both alike, and where every sample has noise of its own, now and then a large one. The first takes `factor` as long.
struct Times {
  std::vector<double> first, second;
};
Times draw(unsigned seed, i64 rounds, double factor, double noise) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<double> uniform;
  std::normal_distribution<double> normal;
  const auto sample = [&] {
    const double burst = uniform(random) < 0.2 ? 1 + 4 * uniform(random) * noise : 1;
    return burst * std::exp(noise * normal(random));
  };
  Times times;
  double speed = 1;
  for (i64 i = 0; i < rounds; ++i) {
    if (uniform(random) < 0.2) speed = uniform(random) < 0.5 ? 1 : 3;
    times.first.push_back(factor * speed * sample());
    times.second.push_back(speed * sample());
  }
  return times;
}

}  // namespace

TEST_CASE("the interval of a median is that of the tables of the sign test") {
  // n, and which of the n sorted values are the ends at 95 %: Conover, Practical Nonparametric Statistics, table A3.
  struct Row {
    i64 n, low, high;
  };
  for (const Row row : {Row{6, 1, 6}, Row{8, 1, 8}, Row{9, 2, 8}, Row{12, 3, 10}, Row{15, 4, 12}, Row{20, 6, 15},
                        Row{25, 8, 18}, Row{50, 18, 33}, Row{100, 40, 61}}) {
    CAPTURE(row.n);
    std::vector<double> numerator, ones(static_cast<std::size_t>(row.n), 1);
    for (i64 i = row.n; i > 0; --i) numerator.push_back(static_cast<double>(i));
    const PairedRatio found = paired_ratio(numerator, ones);
    CHECK(found.rounds == row.n);
    CHECK(found.median == 0.5 * static_cast<double>(row.n + 1));
    REQUIRE(found.low.has_value());
    CHECK(*found.low == static_cast<double>(row.low));
    CHECK(*found.high == static_cast<double>(row.high));
  }
}

TEST_CASE("fewer than six rounds have a median and no interval") {
  const std::vector<double> numerator{4, 4, 4, 4, 4}, denominator(5, 2);
  for (std::size_t n = 1; n <= 5; ++n) {
    CAPTURE(n);
    const PairedRatio found = paired_ratio({numerator.data(), n}, denominator);
    CHECK(found.rounds == static_cast<i64>(n));
    CHECK(found.median == 2);
    CHECK_FALSE(found.low.has_value());
    CHECK_FALSE(found.high.has_value());
    CHECK_FALSE(found.decided());
  }
  CHECK(std::isnan(paired_ratio({}, {}).median));
}

TEST_CASE("two subjects that take the same time are told apart in at most one run of twenty") {
  for (const i64 rounds : {6, 7, 10, 20, 50}) {
    for (const double noise : {0.01, 0.3, 2.0}) {
      CAPTURE(rounds);
      CAPTURE(noise);
      int decided = 0;
      constexpr int kSeeds = 2000;
      for (unsigned seed = 0; seed < kSeeds; ++seed) {
        const Times times = draw(seed, rounds, 1, noise);
        if (paired_ratio(times.first, times.second).decided()) ++decided;
      }
      CAPTURE(decided);
      // 5 % and three standard errors of 2000 draws.
      CHECK(decided <= 0.05 * kSeeds + 3 * std::sqrt(0.05 * 0.95 * kSeeds));
    }
  }
}

TEST_CASE("a subject that takes one and a half times as long is seen, although the machine's speed changes threefold") {
  for (const i64 rounds : {8, 20, 50}) {
    CAPTURE(rounds);
    int seen = 0;
    for (unsigned seed = 0; seed < 200; ++seed) {
      const Times times = draw(seed, rounds, 1.5, 0.05);
      const PairedRatio found = paired_ratio(times.first, times.second);
      if (found.decided() && *found.low > 1) ++seen;
    }
    CHECK(seen >= 190);
  }
}

TEST_CASE("turning the ratio round turns its interval round") {
  for (unsigned seed = 0; seed < 50; ++seed) {
    CAPTURE(seed);
    const Times times = draw(seed, 6 + seed, 1.1, 0.2);
    const PairedRatio one = paired_ratio(times.first, times.second), other = paired_ratio(times.second, times.first);
    CHECK(*one.low == doctest::Approx(1 / *other.high));
    CHECK(*one.high == doctest::Approx(1 / *other.low));
    CHECK(*one.low <= one.median);
    CHECK(one.median <= *one.high);
    CHECK(one.decided() == other.decided());
  }
}

TEST_CASE("rounds without both samples, or without a finite ratio, are left out") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const std::vector<double> numerator{2, nan, 2, 2, 2, 2, 2, 7}, denominator{1, 1, 0, 1, 1, 1, 1};
  const PairedRatio found = paired_ratio(numerator, denominator);
  CHECK(found.rounds == 5);
  CHECK(found.median == 2);
}

TEST_CASE("an interval whose end is 1 decides nothing") {
  const std::vector<double> ones(6, 1);
  CHECK_FALSE(paired_ratio(ones, ones).decided());
  const std::vector<double> above{1, 2, 2, 2, 2, 2}, below{1, 0.5, 0.5, 0.5, 0.5, 0.5};
  CHECK_FALSE(paired_ratio(above, ones).decided());
  CHECK_FALSE(paired_ratio(below, ones).decided());
  const std::vector<double> twice(6, 2);
  CHECK(paired_ratio(twice, ones).decided());
  CHECK(paired_ratio(ones, twice).decided());
}

}  // namespace misa
