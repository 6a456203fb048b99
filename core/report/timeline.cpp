#include "core/report/timeline.hpp"

#include <algorithm>
#include <cmath>

#include "core/report/json_parts.hpp"

namespace misa {
namespace {

i64 nanoseconds_of(double seconds) { return std::llround(seconds * 1e9); }

Json naming_json(std::string_view what, i64 process, i64 thread, const std::string& name) {
  return {{"name", what}, {"ph", "M"}, {"pid", process}, {"tid", thread}, {"args", {{"name", name}}}};
}

Json event_json(const TimelineEvent& event, i64 process, i64 thread) {
  // Both ends are rounded, so that what nests still does.
  const i64 begin = nanoseconds_of(event.begin), end = nanoseconds_of(event.end);
  Json json{{"name", event.name},
            {"cat", event.category},
            {"ph", "X"},
            {"ts", static_cast<double>(begin) / 1000},
            {"dur", static_cast<double>(std::max<i64>(0, end - begin)) / 1000},
            {"pid", process},
            {"tid", thread},
            {"args", Json::object()}};
  for (const auto& [name, value] : event.facts) json["args"][name] = value;
  return json;
}

}  // namespace

i64 Timeline::events() const {
  i64 count = 0;
  for (const TimelineGroup& group : groups) {
    for (const TimelineTrack& track : group.tracks) count += static_cast<i64>(track.events.size());
  }
  return count;
}

std::string write_timeline(const Timeline& timeline, i64 most) {
  // The largest number that each track may have so that all of them together have at most `most`.
  std::vector<std::size_t> sizes;
  for (const TimelineGroup& group : timeline.groups) {
    for (const TimelineTrack& track : group.tracks) sizes.push_back(track.events.size());
  }
  std::sort(sizes.begin(), sizes.end());
  auto left = static_cast<std::size_t>(std::max<i64>(0, most));
  std::size_t limit = sizes.empty() ? 0 : sizes.back();
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    limit = left / (sizes.size() - i);
    if (sizes[i] > limit) break;
    left -= sizes[i];
    limit = sizes.back();
  }

  Json events = Json::array();
  i64 process = 0, written = 0;
  for (const TimelineGroup& group : timeline.groups) {
    events.push_back(naming_json("process_name", ++process, 0, group.name));
    i64 thread = 0;
    for (const TimelineTrack& track : group.tracks) {
      events.push_back(naming_json("thread_name", process, ++thread, track.name));
      events.push_back(Json{{"name", "thread_sort_index"},
                            {"ph", "M"},
                            {"pid", process},
                            {"tid", thread},
                            {"args", {{"sort_index", thread}}}});
      for (std::size_t i = 0; i < std::min(limit, track.events.size()); ++i, ++written) {
        events.push_back(event_json(track.events[i], process, thread));
      }
    }
  }
  const Json json{{"traceEvents", events},
                  {"displayTimeUnit", "ns"},
                  {"otherData",
                   {{"tool", "misa-prof " + timeline.tool_version},
                    {"command_line", timeline.command_line},
                    {"events_left_out", timeline.events() - written}}}};
  return text_of(json, -1);
}

}  // namespace misa
