#include "core/measure/difference.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "core/measure/sampler.hpp"
#include "core/measure/statistics.hpp"

using namespace misa;  // NOLINT(google-build-using-namespace): a test

namespace {

/// A machine whose speed moves: a run that takes `seconds` of work takes as many times longer as it says at that time.
struct NoisyMachine {
  std::string name;
  std::function<double(std::mt19937_64&, double now)> slowness;
};

double normal(std::mt19937_64& random) {
  const auto uniform = [&] { return (static_cast<double>(random() >> 11) + 0.5) / 9007199254740992.0; };
  return std::sqrt(-2 * std::log(uniform())) * std::cos(6.283185307179586 * uniform());
}
double uniform(std::mt19937_64& random) { return static_cast<double>(random() >> 11) / 9007199254740992.0; }

/// `level` follows itself from sample to sample.
std::function<double(std::mt19937_64&, double)> autocorrelated(double memory, double spread) {
  return [=, level = 0.0](std::mt19937_64& random, double) mutable {
    level = memory * level + std::sqrt(1 - memory * memory) * normal(random);
    return std::exp(spread * level + 0.01 * normal(random));
  };
}

std::vector<NoisyMachine> noisy_machines() {
  return {
      {"white", [](auto& random, double) { return std::exp(0.03 * normal(random)); }},
      {"autocorrelated", autocorrelated(0.9, 0.05)},
      {"slowly autocorrelated", autocorrelated(0.99, 0.2)},
      {"drifting", [](auto& random, double now) { return std::exp(0.1 * now + 0.02 * normal(random)); }},
      {"bimodal",
       [](auto& random, double) { return (uniform(random) < 0.4 ? 1.3 : 1.0) * std::exp(0.01 * normal(random)); }},
      {"bimodal for a while",
       [slow = false](auto& random, double) mutable {
         if (uniform(random) < 0.1) slow = !slow;
         return (slow ? 1.3 : 1.0) * std::exp(0.01 * normal(random));
       }},
      {"heavy-tailed", [](auto& random, double) { return 1 + 0.01 / std::sqrt(uniform(random) + 1e-6); }},
      {"preempted by a load beside it",
       [](auto& random, double) {
         return 1 + (uniform(random) < 0.5 ? uniform(random) : 0.0) + 0.01 * uniform(random);
       }},
      {"clocked in steps",
       [](auto& random, double now) {
         return (std::fmod(now, 0.37) < 0.2 ? 1.0 : 1.15) * std::exp(0.005 * normal(random));
       }},
  };
}

/// Samples that the sampler takes of A and of B, which does `work_b` times as much, on a clock of the test's.
std::pair<std::vector<double>, std::vector<double>> measured(NoisyMachine machine, u64 seed, double work_b,
                                                             i64 rounds) {
  std::mt19937_64 random(seed);
  double now = 0;
  int last = 0;
  const auto subject = [&](int name, double work) {
    return Subject{.name = "", .run = [&, name, work] {
                     // Who runs after himself finds his own data in the cache.
                     const double warmth = last == name ? 1.0 : 1.03;
                     last = name;
                     const double seconds = 0.01 * work * warmth * machine.slowness(random, now);
                     now += seconds;
                     return RunTimes{.seconds = seconds, .stages = {}};
                   }};
  };
  const std::vector<Subject> subjects{subject(1, 1), subject(2, work_b)};
  SamplerOptions options;
  options.sides = true;
  options.warm_up = 1;
  options.max_samples = rounds;
  options.budget_seconds = 1e6;
  options.now = [&] { return now; };
  const SampleSet set = sample(subjects, options);
  return {seconds_of(set.subjects[0].runs), seconds_of(set.subjects[1].runs)};
}

JudgedRatio judged_alone(const TimeRatio& ratio, double same_within) {
  return judge_ratios(std::vector{ratio}, same_within).front();
}

bool decided(Change change) { return change == Change::faster || change == Change::slower; }

/// One process of a program that takes `seconds`: all its samples share what the process drew (`between`).
RunSamples run_of(std::mt19937_64& random, double seconds, double between, i64 samples) {
  const double luck = std::exp(between * normal(random));
  const auto noise = autocorrelated(0.8, 0.02);
  RunSamples run;
  auto draw = noise;
  for (i64 i = 0; i < samples; ++i) run.push_back(seconds * luck * draw(random, 0));
  return run;
}

}  // namespace

TEST_CASE("of 100 measurements of A beside A at most 5 are called faster or slower, whatever the machine's noise") {
  for (const NoisyMachine& machine : noisy_machines()) {
    int alarms = 0, known = 0;
    for (u64 seed = 1; seed <= 100; ++seed) {
      const auto [a, b] = measured(machine, seed, 1, 50);
      const JudgedRatio judged = judged_alone(TimeRatio::paired(a, b), 0);
      alarms += decided(judged.change);
      known += judged.interval.has_value();
      const bool holds_one = judged.interval && judged.interval->low <= 1 && judged.interval->high >= 1;
      CHECK(!(holds_one && decided(judged.change)));
    }
    CAPTURE(machine.name);
    CHECK(alarms <= 5);
    CHECK(known >= 80);
  }
}

TEST_CASE("a slow-down of 10 % is found beside every kind of noise that leaves it visible") {
  for (const NoisyMachine& machine : noisy_machines()) {
    int found = 0, failed = 0, wrong = 0;
    for (u64 seed = 1; seed <= 50; ++seed) {
      const auto [a, b] = measured(machine, seed, 1.1, 400);
      const JudgedRatio judged = judged_alone(TimeRatio::paired(a, b), 0.01);
      found += judged.change == Change::slower;
      failed += gate_of(judged, 0.05) == Gate::failed;
      wrong += judged.change == Change::faster || judged.change == Change::same;
    }
    CAPTURE(machine.name);
    CHECK(found >= 45);
    CHECK(failed >= 35);
    CHECK(wrong == 0);
  }
}

TEST_CASE("runs of processes that differ are told apart only where their noise from run to run allows it") {
  std::mt19937_64 random(7);
  int alarms_of_one = 0, alarms_of_four = 0, found = 0, alarms_of_unknown_noise = 0;
  for (int i = 0; i < 100; ++i) {
    const auto runs = [&](double seconds, double between, int count) {
      std::vector<RunSamples> all;
      for (int k = 0; k < count; ++k) all.push_back(run_of(random, seconds, between, 30));
      return all;
    };
    // One run per side, with the noise that was named; four runs per side, which show a noise that nobody named.
    alarms_of_one += decided(judged_alone(TimeRatio::separate(runs(1, 0.01, 1), runs(1, 0.01, 1), 0.01), 0).change);
    alarms_of_four += decided(judged_alone(TimeRatio::separate(runs(1, 0.05, 4), runs(1, 0.05, 4), 0.01), 0).change);
    alarms_of_unknown_noise +=
        decided(judged_alone(TimeRatio::separate(runs(1, 0.05, 1), runs(1, 0.05, 1), 0.01), 0).change);
    found +=
        judged_alone(TimeRatio::separate(runs(1, 0.01, 1), runs(1.1, 0.01, 1), 0.01), 0.02).change == Change::slower;
  }
  CHECK(alarms_of_one <= 5);
  CHECK(alarms_of_four <= 5);
  CHECK(found >= 95);
  CHECK(alarms_of_unknown_noise > 20);  // what one run per side cannot show, and why --noise is asked for
}

TEST_CASE("an interval of two runs is that of Student, and swapping the sides turns the ratio round") {
  // Medians of log times 0, 0.1 and 1, 1.1; no spread within runs: t(2 degrees) at 99 % is 9.9248.
  const auto run = [](double log) { return RunSamples(10, std::exp(log)); };
  const std::vector<RunSamples> a{run(0), run(0.1)}, b{run(1), run(1.1)};
  const TimeRatio ratio = TimeRatio::separate(a, b, 0);
  const std::optional<RatioInterval> interval = ratio.interval(0.99);
  REQUIRE(interval);
  CHECK(std::log(ratio.ratio()) == doctest::Approx(1));
  CHECK(std::log(interval->high) == doctest::Approx(1 + 9.9248 * std::sqrt(0.005 / 2 * 2)).epsilon(1e-4));
  CHECK(ratio.p_value() == doctest::Approx(1 - std::sqrt(200.0 / 202)).epsilon(1e-6));
  const std::optional<RatioInterval> turned = TimeRatio::separate(b, a, 0).interval(0.99);
  REQUIRE(turned);
  CHECK(turned->low == doctest::Approx(1 / interval->high));
}

TEST_CASE("Holm's levels: among many equal ratios none is called, and one that differs still is") {
  const auto rounds = [](u64 seed, double work) {
    return measured({"white", noisy_machines()[0].slowness}, seed, work, 50);
  };
  int families = 0, found = 0;
  for (u64 family = 0; family < 40; ++family) {
    std::vector<TimeRatio> ratios;
    for (u64 i = 0; i < 10; ++i) {
      const auto [a, b] = rounds(1000 + 10 * family + i, 1);
      ratios.push_back(TimeRatio::paired(a, b));
    }
    const std::vector<JudgedRatio> judged = judge_ratios(ratios, 0);
    families += std::any_of(judged.begin(), judged.end(), [](const auto& one) { return decided(one.change); });
    const auto [a, b] = rounds(5000 + family, 1.1);
    ratios.push_back(TimeRatio::paired(a, b));
    found += judge_ratios(ratios, 0.01).back().change == Change::slower;
  }
  CHECK(families <= 2);
  CHECK(found >= 38);
}

TEST_CASE("the level of a ratio grows with the number of those that are left") {
  const auto ratio_of = [](double log) {
    return TimeRatio::separate(std::vector<RunSamples>{{1, 1, 1, 1, 1, 1}},
                               std::vector<RunSamples>{RunSamples(6, std::exp(log))}, 0.01);
  };
  // Standard error sqrt(2) %: p-values 2e-12, 0.0339, 0.0047; the levels are 0.01 / 3 and 0.01 / 2.
  const std::vector<JudgedRatio> judged = judge_ratios(std::vector{ratio_of(0.1), ratio_of(0.03), ratio_of(0.04)}, 0);
  CHECK(judged[0].confidence == doctest::Approx(1 - 0.01 / 3));
  CHECK(judged[2].confidence == doctest::Approx(1 - 0.01 / 2));
  CHECK(judged[1].confidence == doctest::Approx(1 - 0.01));
  CHECK(judged[0].change == Change::slower);
  CHECK(judged[2].change == Change::slower);
  CHECK(judged[1].change == Change::inconclusive);
}

TEST_CASE("too few samples, none, and a ratio that moves are answers of their own") {
  const std::vector<double> none, few(15, 1.0);
  CHECK(judged_alone(TimeRatio::paired(none, none), 0.01).change == Change::too_few);
  CHECK(judged_alone(TimeRatio::paired(few, few), 0.01).change == Change::too_few);
  CHECK(judged_alone(TimeRatio::separate(std::vector<RunSamples>{few}, std::vector<RunSamples>{{1, 2}}, 0.01), 0.01)
            .change == Change::too_few);
  std::vector<double> a(50, 1.0), b;
  for (int i = 0; i < 50; ++i) b.push_back(1 + 0.01 * i);
  const JudgedRatio moving = judged_alone(TimeRatio::paired(a, b), 0.01);
  CHECK(moving.moves);
  CHECK(moving.change == Change::inconclusive);
  const JudgedRatio equal = judged_alone(TimeRatio::paired(a, a), 0.01);
  CHECK(equal.change == Change::same);
  CHECK(equal.ratio == 1);
  CHECK(gate_of(equal, 0) == Gate::passed);
  CHECK(gate_of(moving, 0.05) == Gate::inconclusive);
}
