#include "core/measure/sampler.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/base/interrupt.hpp"

namespace misa {
namespace {

/// Subjects that take a fixed time of a clock of their own, and note the order in which they ran.
struct TimedSubjects {
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
  SamplerOptions options(i64 warm_up, i64 most, double budget) {
    return {.warm_up = warm_up,
            .max_samples = most,
            .budget_seconds = budget,
            .now = [this] { return now; },
            .interrupted = {},
            .after_run = {}};
  }
};

}  // namespace

TEST_CASE("subjects alternate in the order A B B A, after first calls and warm-up") {
  TimedSubjects bench;
  bench.add('a', 1);
  bench.add('b', 1);
  const SampleSet set = sample(bench.subjects, bench.options(2, 4, 1000));
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
  const SampleSet set =
      sample(subjects,
             {.warm_up = 0, .max_samples = 6, .budget_seconds = 1000, .now = {}, .interrupted = {}, .after_run = {}});
  CHECK(mean(seconds_of(set.subjects[0].runs)) == mean(seconds_of(set.subjects[1].runs)));
}

TEST_CASE("sampling stops before the round that the budget does not hold, but not before everyone has a sample") {
  const auto taken = [](double seconds, i64 most, double budget, bool cut) {
    TimedSubjects bench;
    bench.add('a', seconds);
    bench.add('b', seconds);
    const SampleSet set = sample(bench.subjects, bench.options(0, most, budget));
    CHECK(set.cut == cut);
    CHECK(set.subjects[0].runs.size() == set.subjects[1].runs.size());
    const double more_than_least = bench.now - 4 * seconds;
    CHECK((more_than_least == 0 || bench.now <= budget));
    return set.subjects[0].runs.size();
  };
  CHECK(taken(10, 100, 5, true) == 1);
  CHECK(taken(10, 40, 0, true) == 1);
  CHECK(taken(1, 100, 20, true) == 9);  // first calls take 2 of the 20 seconds
  CHECK(taken(1, 100, 21.5, true) == 9);
  CHECK(taken(1, 5, 1000, false) == 5);
  CHECK(taken(1, 1, 0, false) == 1);
}

TEST_CASE("warm-up leaves three quarters of the budget") {
  TimedSubjects bench;
  bench.add('a', 1);
  sample(bench.subjects, bench.options(100, 1, 12));
  CHECK(bench.order ==
        "aaa"
        "a");  // first call and two warm-ups fill 3 s
}

TEST_CASE("progress says how long it will take: the budget, what is wanted, or a sample of each, whatever that takes") {
  struct Expected {
    i64 warm_up, most;
    double budget, after_first;
  };
  for (const Expected& expected : {Expected{1, 10, 1000, 23}, Expected{1, 10, 9, 8}, Expected{0, 10, 0.5, 3}}) {
    TimedSubjects bench;
    bench.add('a', 1);
    bench.add('b', 1);
    SamplerOptions options = bench.options(expected.warm_up, expected.most, expected.budget);
    std::vector<SamplingProgress> told;
    options.after_run = [&](const SamplingProgress& progress) { told.push_back(progress); };
    sample(bench.subjects, options);
    REQUIRE(told.size() == bench.order.size());
    CHECK(told.front().seconds_left == expected.after_first);
    CHECK(told.front().most_runs == 2 * (1 + expected.warm_up + expected.most));
    CHECK(told.back().runs == static_cast<i64>(told.size()));
    CHECK(told.back().seconds == bench.now);
  }
}

TEST_CASE("the first call is kept apart") {
  int calls = 0;
  const std::vector<Subject> subjects{
      {"a", [&] { return RunTimes{.seconds = calls++ == 0 ? 100.0 : 1.0, .stages = {}}; }}};
  const SampleSet set =
      sample(subjects,
             {.warm_up = 0, .max_samples = 3, .budget_seconds = 1000, .now = {}, .interrupted = {}, .after_run = {}});
  CHECK(set.subjects[0].first->seconds == 100);
  CHECK(seconds_of(set.subjects[0].runs) == std::vector<double>{1, 1, 1});
}

TEST_CASE("an interruption leaves what there is") {
  for (std::size_t polls : {0u, 1u, 2u, 3u, 4u, 5u, 6u, 7u}) {
    CAPTURE(polls);
    TimedSubjects bench;
    bench.add('a', 1);
    bench.add('b', 1);
    SamplerOptions options = bench.options(1, 50, 1000);
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

TEST_CASE("a run that is interrupted gives no sample") {
  for (const int last : {0, 1, 2, 5}) {
    CAPTURE(last);
    int calls = 0;
    const std::vector<Subject> subjects{{"a", [&] {
                                           if (calls++ == last) throw Interrupted();
                                           return RunTimes{.seconds = 1, .stages = {}};
                                         }}};
    const SampleSet set = sample(subjects, {.warm_up = 1, .now = {}, .interrupted = {}, .after_run = {}});
    CHECK(set.interrupted);
    CHECK(calls == last + 1);
    CHECK(set.subjects[0].first.has_value() == (last > 0));
    CHECK(set.subjects[0].runs.size() == static_cast<std::size_t>(std::max(0, last - 2)));
  }
}

TEST_CASE("progress tells the subject, its samples, and where they begin") {
  TimedSubjects bench;
  bench.add('a', 1);
  bench.add('b', 1);
  SamplerOptions options = bench.options(1, 2, 1000);
  std::string told;
  options.warmed_up = [&] { told += "| "; };
  options.after_run = [&](const SamplingProgress& progress) {
    told += std::to_string(progress.subject) + ':' + std::to_string(progress.samples) + ' ';
  };
  sample(bench.subjects, options);
  CHECK(told == "0:0 1:0 1:0 0:0 | 0:1 1:1 1:2 0:2 ");
}

TEST_CASE("nothing to sample gives nothing, and a subject's exception comes through") {
  CHECK(sample({}, {}).subjects.empty());
  const std::vector<Subject> subjects{{"a", []() -> RunTimes { throw std::runtime_error("no"); }}};
  CHECK_THROWS_AS(sample(subjects, {}), std::runtime_error);
}

TEST_CASE("within four rounds each side runs as often after the other and after itself") {
  TimedSubjects timed;
  for (const char name : {'A', 'B', 'a', 'b'}) timed.add(name, 1e-3);
  SamplerOptions options = timed.options(0, 4, 1e6);
  options.sides = true;
  const SampleSet set = sample(timed.subjects, options);
  CHECK(timed.order ==
        "ABab"  // first calls
        "ABab"
        "baBA"
        "BAba"
        "abAB");
  CHECK(set.subjects[0].runs.size() == 4);
}

}  // namespace misa
