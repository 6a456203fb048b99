#include "core/measure/sampler.hpp"

#include <doctest/doctest.h>

#include <stdexcept>
#include <string>
#include <vector>

namespace misa {
namespace {

/// Subjects that take a fixed time of a clock of their own, and note the order in which they ran.
struct Bench {
  double now = 0;
  std::string order;
  std::vector<Subject> subjects;

  void add(char name, double seconds) {
    subjects.push_back({.name = std::string(1, name), .run = [this, name, seconds] {
                          order += name;
                          now += seconds;
                          return RunTimes{.seconds = seconds, .stages = {}};
                        }});
  }
  SamplerOptions options(i64 warm_up, i64 least, i64 most, double budget) {
    return {.warm_up = warm_up,
            .min_samples = least,
            .max_samples = most,
            .budget_seconds = budget,
            .now = [this] { return now; },
            .interrupted = {},
            .after_run = {}};
  }
};

}  // namespace

TEST_CASE("subjects alternate in the order A B B A, after first calls and warm-up") {
  Bench bench;
  bench.add('a', 1);
  bench.add('b', 1);
  const SampleSet set = sample(bench.subjects, bench.options(2, 4, 4, 1000));
  CHECK(bench.order ==
        "ab"
        "baab"
        "abbaabba");
  CHECK_FALSE(set.interrupted);
  REQUIRE(set.subjects.size() == 2);
  CHECK(set.subjects[0].runs.size() == 4);
  CHECK(set.subjects[1].runs.size() == 4);
  REQUIRE(set.subjects[0].first.has_value());
}

TEST_CASE("a linear drift falls on both sides of an even number of rounds alike") {
  double clock = 0;
  const auto drifting = [&] {
    clock += 1;
    return RunTimes{.seconds = clock, .stages = {}};
  };
  const std::vector<Subject> subjects{{"a", drifting}, {"b", drifting}};
  const SampleSet set = sample(subjects, {.warm_up = 0,
                                          .min_samples = 6,
                                          .max_samples = 6,
                                          .budget_seconds = 1,
                                          .now = {},
                                          .interrupted = {},
                                          .after_run = {}});
  CHECK(mean(seconds_of(set.subjects[0].runs)) == mean(seconds_of(set.subjects[1].runs)));
}

TEST_CASE("sampling stops at the budget, but not before everyone has the least number of samples") {
  Bench slow;
  slow.add('a', 10);
  CHECK(sample(slow.subjects, slow.options(0, 3, 100, 5)).subjects[0].runs.size() == 3);
  Bench fast;
  fast.add('a', 1);
  // The first call takes 1 of the 10 seconds.
  CHECK(sample(fast.subjects, fast.options(0, 3, 100, 10)).subjects[0].runs.size() == 9);
  Bench short_one;
  short_one.add('a', 1);
  CHECK(sample(short_one.subjects, short_one.options(0, 3, 5, 1000)).subjects[0].runs.size() == 5);
}

TEST_CASE("warm-up leaves three quarters of the budget") {
  Bench bench;
  bench.add('a', 1);
  sample(bench.subjects, bench.options(100, 1, 1, 12));
  CHECK(bench.order ==
        "aaa"
        "a");  // first call and two warm-ups fill 3 s
}

TEST_CASE("the first call is kept apart") {
  int calls = 0;
  const std::vector<Subject> subjects{
      {"a", [&] { return RunTimes{.seconds = calls++ == 0 ? 100.0 : 1.0, .stages = {}}; }}};
  const SampleSet set = sample(subjects, {.warm_up = 0,
                                          .min_samples = 3,
                                          .max_samples = 3,
                                          .budget_seconds = 1,
                                          .now = {},
                                          .interrupted = {},
                                          .after_run = {}});
  CHECK(set.subjects[0].first->seconds == 100);
  CHECK(seconds_of(set.subjects[0].runs) == std::vector<double>{1, 1, 1});
}

TEST_CASE("an interruption leaves what there is") {
  for (std::size_t polls : {0u, 1u, 2u, 3u, 4u, 5u, 6u, 7u}) {
    CAPTURE(polls);
    Bench bench;
    bench.add('a', 1);
    bench.add('b', 1);
    SamplerOptions options = bench.options(1, 50, 50, 1000);
    std::size_t polled = 0;
    options.interrupted = [&] { return polled++ == polls; };
    const SampleSet set = sample(bench.subjects, options);
    CHECK(set.interrupted);
    CHECK(bench.order.size() == polls);
    CHECK(set.subjects[0].first.has_value() == (polls >= 1));
    CHECK(set.subjects[1].first.has_value() == (polls >= 2));
    CHECK(set.subjects[0].runs.size() + set.subjects[1].runs.size() == (polls > 4 ? polls - 4 : 0));
  }
}

TEST_CASE("progress tells the subject, its samples, and where they begin") {
  Bench bench;
  bench.add('a', 1);
  bench.add('b', 1);
  SamplerOptions options = bench.options(1, 2, 2, 1000);
  std::string told;
  options.warmed_up = [&] { told += "| "; };
  options.after_run = [&](std::size_t subject, i64 samples) {
    told += std::to_string(subject) + ':' + std::to_string(samples) + ' ';
  };
  sample(bench.subjects, options);
  CHECK(told == "0:0 1:0 1:0 0:0 | 0:1 1:1 1:2 0:2 ");
}

TEST_CASE("nothing to sample gives nothing, and a subject's exception comes through") {
  CHECK(sample({}, {}).subjects.empty());
  const std::vector<Subject> subjects{{"a", []() -> RunTimes { throw std::runtime_error("no"); }}};
  CHECK_THROWS_AS(sample(subjects, {}), std::runtime_error);
}

}  // namespace misa
