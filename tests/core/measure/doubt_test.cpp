#include "core/measure/doubt.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <string_view>
#include <vector>

#include "core/indexer/wall_clock.hpp"

namespace misa {
namespace {

Summary summary(double median, double p10, double p90) {
  return {.median = median, .p10 = p10, .p90 = p90, .minimum = p10, .maximum = p90, .samples = 10};
}

}  // namespace

TEST_CASE("a stage that is no faster than its roof is not doubted") {
  const Circumstances worst{.loaded = true, .roofs_loaded = true, .mark_seconds = 1, .cache_bytes = 1 << 30};
  CHECK_FALSE(doubt_roof({.floor_seconds = 1, .fraction = 1, .bound = Bound::memory}, summary(1, 1, 1), {}, worst));
}

TEST_CASE("a stage above its roof gets the reason that there is for it") {
  const Roofline memory{.floor_seconds = 2, .fraction = 2, .bound = Bound::memory};
  const Roofline compute{.floor_seconds = 2, .fraction = 2, .bound = Bound::compute};
  const Summary steady = summary(1, 0.9, 1.1), wide = summary(1, 0.9, 2);
  StageCost cost;
  cost.bytes = 1000;
  CHECK(doubt_roof(memory, steady, cost, {}) == Doubt::low_roof);
  CHECK(doubt_roof(memory, wide, cost, {}) == Doubt::noise);
  CHECK(doubt_roof(memory, wide, cost, {.mark_seconds = 0.04}) == Doubt::noise);
  CHECK(doubt_roof(memory, wide, cost, {.mark_seconds = 0.06}) == Doubt::clock);
  CHECK(doubt_roof(memory, wide, cost, {.mark_seconds = 0.06, .cache_bytes = 999}) == Doubt::clock);
  CHECK(doubt_roof(memory, wide, cost, {.mark_seconds = 0.06, .cache_bytes = 1000}) == Doubt::cache_resident);
  CHECK(doubt_roof(compute, wide, cost, {.mark_seconds = 0.06, .cache_bytes = 1000}) == Doubt::clock);
  CHECK(doubt_roof(memory, wide, cost, {.roofs_loaded = true, .cache_bytes = 1000}) == Doubt::loaded_roof);
  // Load makes a stage slower, so it is no reason for one that is too fast.
  CHECK(doubt_roof(memory, steady, cost, {.loaded = true}) == Doubt::low_roof);
}

TEST_CASE("stages that do not add up to the whole get the reason that there is for it") {
  const auto stages = [](double median, double spread) {
    return std::vector<StageSummary>{{Stage::score, summary(median / 2, median / 2, median / 2 + spread / 2)},
                                     {Stage::select, summary(median / 2, median / 2, median / 2 + spread / 2)}};
  };
  const Summary whole = summary(1, 1, 1);
  CHECK_FALSE(doubt_closure(whole, stages(0.96, 0), {.loaded = true, .mark_seconds = 1}).has_value());
  CHECK(doubt_closure(whole, stages(0.9, 0), {}) == Doubt::unexplained);
  CHECK(doubt_closure(whole, stages(1.1, 0), {}) == Doubt::unexplained);
  CHECK(doubt_closure(whole, stages(0.9, 0.11), {}) == Doubt::noise);
  CHECK(doubt_closure(whole, stages(0.9, 0.09), {}) == Doubt::unexplained);
  CHECK(doubt_closure(summary(1, 0.95, 1.06), stages(0.9, 0), {}) == Doubt::noise);
  CHECK(doubt_closure(whole, stages(0.9, 0.2), {.mark_seconds = 0.013}) == Doubt::clock);
  CHECK(doubt_closure(whole, stages(0.9, 0.2), {.mark_seconds = 0.012}) == Doubt::noise);
  CHECK(doubt_closure(whole, stages(183, 300), {.loaded = true}) == Doubt::loaded);
}

TEST_CASE("every doubt has a short name, and a text of its own") {
  std::vector<std::string_view> seen;
  for (int i = 0; i <= static_cast<int>(Doubt::unexplained); ++i) {
    const auto doubt = static_cast<Doubt>(i);
    CAPTURE(i);
    CHECK_FALSE(doubt_name(doubt).empty());
    CHECK(doubt_name(doubt).size() <= 9);
    CHECK_FALSE(doubt_text(doubt).empty());
    CHECK(std::find(seen.begin(), seen.end(), doubt_text(doubt)) == seen.end());
    seen.push_back(doubt_text(doubt));
  }
}

TEST_CASE("a mark of this machine's clock takes less than a tenth of a millisecond") {
  WallClock clock;
  const double seconds = mark_seconds(clock);
  CHECK(seconds >= 0);
  CHECK(seconds < 1e-4);
}

}  // namespace misa
