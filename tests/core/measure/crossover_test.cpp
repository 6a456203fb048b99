#include "core/measure/crossover.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <random>
#include <vector>

namespace misa {
namespace {

const std::vector<i64> kLengths{4096, 8192, 16384, 32768, 65536};

/// Times of two subjects at each length, in rounds of a machine whose speed changes for both alike. `ratio` says how
/// many times as long the second takes.
template <class Ratio>
std::vector<LengthTimes> draw_lengths(unsigned seed, i64 rounds, double noise, const Ratio& ratio) {
  std::mt19937 random(seed);
  std::normal_distribution<double> normal;
  std::vector<LengthTimes> all;
  for (const i64 length : kLengths) {
    LengthTimes& one = all.emplace_back();
    one.context = length;
    for (i64 i = 0; i < rounds; ++i) {
      const double speed = static_cast<double>(length) * 1e-6 * std::exp(normal(random));
      one.of.push_back(speed * std::exp(noise * normal(random)));
      one.over.push_back(speed * std::exp(noise * normal(random)) * ratio(static_cast<double>(length)));
    }
  }
  return all;
}

/// A ratio that grows with the length and is 1 at `at`.
auto crosses(double at) {
  return [at](double length) { return std::pow(length / at, 0.4); };
}

std::vector<LengthTimes> swapped(std::vector<LengthTimes> times) {
  for (LengthTimes& one : times) one.of.swap(one.over);
  return times;
}

LengthRatio ratio_at(i64 context, double low, double high) {
  return {context, PairedRatio{.median = std::sqrt(low * high), .rounds = 9, .low = low, .high = high}};
}

}  // namespace

TEST_CASE("a planted crossover is found between the lengths that enclose it") {
  const Crossover found = find_crossover(draw_lengths(1, 21, 0.02, crosses(20000)));
  CHECK(found.verdict == CrossoverVerdict::crossover);
  CHECK(found.rising);
  CHECK(*found.low == 16384);
  CHECK(*found.high == 32768);
  CHECK(*found.context == doctest::Approx(20000).epsilon(0.05));
  CHECK(found.reason.empty());
}

TEST_CASE("scaling both times by one factor leaves the crossover") {
  for (unsigned seed = 1; seed <= 20; ++seed) {
    CAPTURE(seed);
    std::vector<LengthTimes> times = draw_lengths(seed, 15, 0.1, crosses(20000));
    const Crossover before = find_crossover(times);
    for (LengthTimes& one : times) {  // by powers of two, which round nothing
      for (double& seconds : one.of) seconds *= 8;
      for (double& seconds : one.over) seconds *= 8;
    }
    const Crossover after = find_crossover(times);
    CHECK(after.verdict == before.verdict);
    CHECK(after.context == before.context);
    CHECK(after.low == before.low);
    CHECK(after.high == before.high);
  }
}

TEST_CASE("swapping the two subjects mirrors the verdict") {
  for (const double at : {500.0, 9000.0, 20000.0, 40000.0, 1e6}) {
    for (unsigned seed = 1; seed <= 20; ++seed) {
      CAPTURE(at);
      CAPTURE(seed);
      const std::vector<LengthTimes> times = draw_lengths(seed, 15, 0.05, crosses(at));
      const Crossover one = find_crossover(times), other = find_crossover(swapped(times));
      if (one.verdict == CrossoverVerdict::faster) CHECK(other.verdict == CrossoverVerdict::slower);
      if (one.verdict == CrossoverVerdict::slower) CHECK(other.verdict == CrossoverVerdict::faster);
      if (one.verdict == CrossoverVerdict::inconclusive) CHECK(other.verdict == CrossoverVerdict::inconclusive);
      if (one.verdict != CrossoverVerdict::crossover) continue;
      CHECK(other.verdict == CrossoverVerdict::crossover);
      CHECK(other.rising == !one.rising);
      CHECK(other.low == one.low);
      CHECK(other.high == one.high);
      CHECK(*other.context == doctest::Approx(*one.context));
    }
  }
}

TEST_CASE("the interval holds the planted crossover in at least 95 of 100 sweeps") {
  i64 found = 0, held = 0;
  constexpr i64 kSweeps = 500;
  for (unsigned seed = 1; seed <= kSweeps; ++seed) {
    const double at = 4500 * std::pow(13.0, (seed % 97) / 96.0);  // anywhere from 4500 to 58500
    const Crossover one = find_crossover(draw_lengths(seed, 12, 0.2, crosses(at)));
    if (one.verdict != CrossoverVerdict::crossover) continue;
    ++found;
    held += static_cast<double>(*one.low) <= at && at <= static_cast<double>(*one.high) ? 1 : 0;
  }
  INFO("crossovers found in " << found << " of " << kSweeps << " sweeps, the interval held it in " << held);
  CHECK(found > kSweeps / 4);
  CHECK(held * 100 >= found * 95);
}

TEST_CASE("equal subjects are inconclusive in at least 95 of 100 sweeps, whatever the noise") {
  i64 wrong = 0;
  constexpr i64 kSweeps = 500;
  for (unsigned seed = 1; seed <= kSweeps; ++seed) {
    const double noise = seed % 2 == 0 ? 0.01 : 1;
    const Crossover one = find_crossover(draw_lengths(seed, 8 + seed % 20, noise, [](double) { return 1.0; }));
    if (one.verdict != CrossoverVerdict::inconclusive) ++wrong;
    for (const LengthRatio& at : one.ratios) CHECK(at.ratio.low.has_value());
  }
  INFO("a verdict in " << wrong << " of " << kSweeps << " sweeps");
  CHECK(wrong * 100 <= kSweeps * 5);
}

TEST_CASE("one side of the range is throughout, both a crossover, either way round") {
  const auto fast = [](i64 context) { return ratio_at(context, 1.1, 1.3); };
  const auto slow = [](i64 context) { return ratio_at(context, 0.7, 0.9); };
  const auto noise = [](i64 context) { return ratio_at(context, 0.9, 1.2); };
  CHECK(decide_crossover({fast(1), fast(2), fast(4)}).verdict == CrossoverVerdict::faster);
  CHECK(decide_crossover({slow(4), slow(2)}).verdict == CrossoverVerdict::slower);
  const Crossover falls = decide_crossover({fast(1), slow(2), slow(4)});
  CHECK(falls.verdict == CrossoverVerdict::crossover);
  CHECK_FALSE(falls.rising);
  CHECK(*falls.low == 1);
  CHECK(*falls.high == 2);
  // Undecided lengths between the decided ones make the bracket wider.
  const Crossover wide = decide_crossover({slow(1), noise(2), noise(4), fast(8)});
  CHECK(wide.verdict == CrossoverVerdict::crossover);
  CHECK(*wide.low == 1);
  CHECK(*wide.high == 8);
}

TEST_CASE("what is not monotone, not decided or not measured is inconclusive with its reason") {
  const auto fast = [](i64 context) { return ratio_at(context, 1.1, 1.3); };
  const auto slow = [](i64 context) { return ratio_at(context, 0.7, 0.9); };
  const auto noise = [](i64 context) { return ratio_at(context, 0.9, 1.2); };
  const auto reason = [](std::vector<LengthRatio> ratios) {
    const Crossover found = decide_crossover(std::move(ratios));
    CHECK(found.verdict == CrossoverVerdict::inconclusive);
    CHECK_FALSE(found.context);
    CHECK_FALSE(found.low);
    CHECK_FALSE(found.cause.empty());
    return found.reason;
  };
  CHECK(reason({fast(1), slow(2), fast(4)}) == "not monotone: faster and slower lengths alternate");
  CHECK(reason({noise(1), fast(2)}) == "noise: 1 lies in the interval at 1 tokens");
  CHECK(reason({fast(1), noise(2), fast(4)}) == "noise: 1 lies in the interval at 2 tokens");
  CHECK(reason({slow(1), fast(2), noise(4)}) == "noise: 1 lies in the interval at 4 tokens");
  CHECK(reason({noise(1), noise(2)}) == "noise: 1 lies in the interval at 1, 2 tokens");
  CHECK(reason({}) == "nothing was measured");
  CHECK(find_crossover(draw_lengths(1, 7, 0.01, crosses(100))).reason ==
        "too few rounds for an interval at 4096, 8192, 16384, 32768, 65536 tokens (8 are needed)");
  CHECK(find_crossover(draw_lengths(1, 8, 0.01, crosses(100))).verdict == CrossoverVerdict::faster);
}

TEST_CASE("a joint interval takes a round more for each doubling of the lengths") {
  CHECK(rounds_needed(1) == kLeastRounds);
  CHECK(rounds_needed(2) == 7);
  CHECK(rounds_needed(4) == 8);
  CHECK(rounds_needed(5) == 8);
  CHECK(rounds_needed(16) == 10);
  for (const i64 lengths : {1, 2, 5, 30}) {
    CAPTURE(lengths);
    const i64 rounds = rounds_needed(lengths);
    const std::vector<double> ones(static_cast<std::size_t>(rounds), 1), fewer(static_cast<std::size_t>(rounds - 1), 1);
    const double confidence = 1 - (1 - kConfidence) / static_cast<double>(lengths);
    CHECK(paired_ratio(ones, ones, confidence).low.has_value());
    CHECK_FALSE(paired_ratio(fewer, fewer, confidence).low.has_value());
  }
}

}  // namespace misa
