#include "core/experiment/sweep_plan.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <set>

#include "core/base/error.hpp"
#include "core/experiment/sweep_estimate.hpp"
#include "core/measure/sampler.hpp"

namespace misa {
namespace {

IndexerSpec spec_at(const Coordinates& point) {
  IndexerSettings settings;
  if (const std::string heads = value_at(point, "active-heads"); !heads.empty())
    settings.active_heads = std::stoll(heads);
  if (const std::string kept = value_at(point, "candidates"); !kept.empty()) settings.candidates = std::stoll(kept);
  IndexerSpec spec = make_indexer(value_at(point, "indexer"), settings);
  if (spec.rerank && spec.rerank->candidates < spec.top_k)
    throw Error(ErrorKind::usage, "MP-E028", "too few candidates");
  return spec;
}

const SweepAxis kContexts{"context", {"4096", "8192", "16384"}};
const SweepAxis kHeads{"active-heads", {"2", "4"}};

std::vector<std::string> names_of_first_group(const SweepPlan& plan) {
  std::vector<std::string> names;
  for (const PlannedCase& one : plan.groups.front().cases) names.push_back(one.name);
  return names;
}

}  // namespace

TEST_CASE("points are every combination of the axes, and zipped axes walk together") {
  const SweepAxis candidates{"candidates", {"4096", "6144", "8192"}};
  const std::vector<SweepAxis> axes{kContexts, kHeads, candidates};
  CHECK(sweep_points(axes, {}).size() == 3 * 2 * 3);
  const std::vector<Coordinates> zipped = sweep_points(axes, {{"candidates", "context"}});
  CHECK(zipped.size() == 3 * 2);
  CHECK(coordinates_text(zipped.front()) == "context=4096 active-heads=2 candidates=4096");
  CHECK(coordinates_text(zipped.back()) == "context=16384 active-heads=4 candidates=8192");
  CHECK_THROWS_AS(sweep_points(axes, {{"context", "active-heads"}}), Error);
  CHECK_THROWS_AS(sweep_points(axes, {{"context", "rows"}}), Error);
  CHECK_THROWS_AS(sweep_points(axes, {{"context", "context"}}), Error);
}

TEST_CASE("every point is in one case, whose axes all affect its indexer") {
  const std::vector<SweepAxis> axes{
      kContexts, {"indexer", {"misa", "dsa", "hisa", "misa-dagger"}}, kHeads, {"candidates", {"4096", "8192"}}};
  const SweepPlan plan = plan_sweep(axes, {}, spec_at);
  CHECK(plan.points == 3 * 4 * 2 * 2);
  CHECK(plan.groups.size() == 3);
  CHECK(plan.cases() == 3 * (2 + 1 + 1 + 4));
  i64 points = 0;
  std::set<std::string> keys;
  for (const PlannedGroup& group : plan.groups) {
    CHECK(group.cases.front().spec.name == "dsa");
    for (const PlannedCase& one : group.cases) {
      points += one.points;
      CHECK(keys.insert(one.key).second);
      for (const auto& [axis, value] : one.coordinates) {
        const AxisInfo& info = axis_info(axis);
        CHECK((info.affects == nullptr || info.affects(one.spec)));
      }
    }
  }
  CHECK(points == plan.points);
  CHECK(names_of_first_group(plan) == std::vector<std::string>{"dsa", "misa h 2", "misa h 4", "hisa",
                                                               "misa-dagger h 2 k' 4096", "misa-dagger h 2 k' 8192",
                                                               "misa-dagger h 4 k' 4096", "misa-dagger h 4 k' 8192"});
}

TEST_CASE("dsa is measured once though no point asks for it") {
  const SweepPlan plan = plan_sweep({kContexts, {"indexer", {"misa"}}, kHeads}, {}, spec_at);
  CHECK(names_of_first_group(plan) == std::vector<std::string>{"dsa", "misa h 2", "misa h 4"});
  CHECK(plan.groups.front().cases.front().points == 0);
}

TEST_CASE("a point that contradicts itself is skipped, and ends the plan where there is no other") {
  const SweepAxis few{"candidates", {"64", "4096"}};
  const SweepPlan plan = plan_sweep({{"indexer", {"misa-dagger"}}, few}, {}, spec_at);
  CHECK(plan.skipped.size() == 1);
  CHECK(plan.skipped.front().key == "indexer=misa-dagger candidates=64");
  CHECK(plan.cases() == 2);
  CHECK_THROWS_AS(plan_sweep({{"indexer", {"misa-dagger"}}, {"candidates", {"64"}}}, {}, spec_at), Error);
}

TEST_CASE("cases of one series differ in the context and in what is zipped with it alone") {
  const SweepPlan plan =
      plan_sweep({kContexts, {"indexer", {"misa-dagger"}}, kHeads, {"candidates", {"4096", "6144", "8192"}}},
                 {{"context", "candidates"}}, spec_at);
  std::set<std::string> series;
  for (const PlannedGroup& group : plan.groups) {
    for (const PlannedCase& one : group.cases) series.insert(one.series);
  }
  CHECK(series == std::set<std::string>{"indexer=dsa", "indexer=misa-dagger active-heads=2",
                                        "indexer=misa-dagger active-heads=4"});
  CHECK(names_of_first_group(plan) == std::vector<std::string>{"dsa", "misa-dagger h 2", "misa-dagger h 4"});
}

TEST_CASE("every group is in one of the parts") {
  const SweepPlan plan = plan_sweep({kContexts, {"indexer", {"misa"}}}, {}, spec_at);
  for (i64 count = 1; count <= 5; ++count) {
    for (const PlannedGroup& group : plan.groups) {
      i64 parts = 0;
      for (i64 index = 1; index <= count; ++index) parts += Shard{index, count}.has(group) ? 1 : 0;
      CHECK(parts == 1);
    }
  }
  CHECK(parse_shard("2/3").index == 2);
  for (const char* text : {"", "1", "0/2", "3/2", "1/", "/2", "1/2/3", "-1/2", "a/b"}) {
    CAPTURE(text);
    CHECK_THROWS_AS(parse_shard(text), Error);
  }
}

TEST_CASE("sampling takes as long as it is estimated to") {
  for (const double budget : {0.0, 1.0, 7.5, 100.0}) {
    for (const double run : {0.25, 1.0, 3.0, 8.0}) {
      for (const i64 warm_up : {0, 1, 5}) {
        CAPTURE(budget);
        CAPTURE(run);
        CAPTURE(warm_up);
        double now = 0;
        const auto work = [&] {
          now += run;
          return RunTimes{};
        };
        const std::vector<Subject> subjects{{"a", work}, {"b", work}};
        SamplerOptions options;
        options.warm_up = warm_up;
        options.max_samples = 20;
        options.budget_seconds = budget;
        options.now = [&] { return now; };
        sample(subjects, options);
        CHECK(sampling_seconds(2 * run, {.samples = 20, .warm_up = warm_up, .budget_seconds = budget}) == now);
      }
    }
  }
}

}  // namespace misa
