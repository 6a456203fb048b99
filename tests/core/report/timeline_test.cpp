#include "core/report/timeline.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <random>
#include <string>

#include "checks.hpp"

namespace misa {
namespace {

/// Tracks of so many events each, one after the other.
Timeline timeline_of_tracks(const std::vector<i64>& sizes) {
  Timeline timeline{.tool_version = "1.2.3", .command_line = {"misa-prof"}};
  TimelineGroup& group = timeline.groups.emplace_back();
  group.name = "dsa on cpu";
  for (const i64 size : sizes) {
    TimelineTrack& track = group.tracks.emplace_back();
    track.name = "thread";
    for (i64 i = 0; i < size; ++i) {
      const double begin = static_cast<double>(i);
      track.events.push_back({.name = "score", .category = "stage", .begin = begin, .end = begin + 0.5});
    }
  }
  return timeline;
}

/// Complete events of a timeline's text, by thread.
std::vector<i64> events_by_thread(const nlohmann::ordered_json& json, std::size_t threads) {
  std::vector<i64> counts(threads, 0);
  for (const auto& event : json["traceEvents"]) {
    if (event["ph"] == "X") ++counts[event["tid"].get<std::size_t>() - 1];
  }
  return counts;
}

}  // namespace

TEST_CASE("a timeline that is too long loses the last events of its longest tracks, and says how many") {
  const Timeline timeline = timeline_of_tracks({10, 2, 5});
  const auto whole = parse_strictly(write_timeline(timeline, 17));
  CHECK(events_by_thread(whole, 3) == std::vector<i64>{10, 2, 5});
  CHECK(whole["otherData"]["events_left_out"] == 0);
  const auto cut = parse_strictly(write_timeline(timeline, 9));
  CHECK(events_by_thread(cut, 3) == std::vector<i64>{3, 2, 3});
  CHECK(cut["otherData"]["events_left_out"] == 9);
  CHECK(events_by_thread(parse_strictly(write_timeline(timeline, 0)), 3) == std::vector<i64>{0, 0, 0});
  CHECK(parse_strictly(write_timeline({}, 5))["traceEvents"].empty());
}

TEST_CASE("events that nest still do when they are rounded to nanoseconds") {
  for (unsigned seed = 1; seed <= 200; ++seed) {
    INFO("seed ", seed);
    std::mt19937_64 random(seed);
    std::uniform_real_distribution<double> share(0, 1);
    Timeline timeline{.tool_version = "1", .command_line = {}};
    TimelineTrack& track = timeline.groups.emplace_back().tracks.emplace_back();
    const double begin = 1e-6 * share(random), end = begin + 1e-7 * share(random);
    track.events.push_back({.name = "run", .category = "run", .begin = begin, .end = end});
    double at = begin;
    for (int i = 0; i < 5; ++i) {
      const double from = at + (end - at) * share(random), to = from + (end - from) * share(random);
      track.events.push_back({.name = "stage", .category = "stage", .begin = from, .end = i == 4 ? end : to});
      at = to;
    }
    const auto json = parse_strictly(write_timeline(timeline));
    std::vector<std::pair<i64, i64>> spans;
    for (const auto& event : json["traceEvents"]) {
      if (event["ph"] != "X") continue;
      const double ts = event["ts"].get<double>(), dur = event["dur"].get<double>();
      spans.emplace_back(std::llround(ts * 1000), std::llround(ts * 1000) + std::llround(dur * 1000));
    }
    for (std::size_t i = 1; i < spans.size(); ++i) {
      CHECK(spans[i].first >= (i == 1 ? spans[0].first : spans[i - 1].second));
      CHECK(spans[i].second <= spans[0].second);
    }
  }
}

TEST_CASE("names in a timeline are text, whatever they hold") {
  Timeline timeline = timeline_of_tracks({1});
  const std::string hostile = "a \"b\" \\ <script>\n\x01\xff";
  timeline.groups[0].name = timeline.groups[0].tracks[0].name = hostile;
  timeline.groups[0].tracks[0].events[0].name = hostile;
  timeline.groups[0].tracks[0].events[0].facts = {{"kernel", hostile}};
  const auto json = parse_strictly(write_timeline(timeline));
  const std::string repaired = "a \"b\" \\ <script>\n\x01\xef\xbf\xbd";
  const auto& events = json["traceEvents"];
  CHECK(events.front()["args"]["name"] == repaired);
  CHECK(events.back()["name"] == repaired);
  CHECK(events.back()["args"]["kernel"] == repaired);
}

}  // namespace misa
