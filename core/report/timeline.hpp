#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/base/types.hpp"

namespace misa {

/// Work from `begin` on, in seconds since the timeline's start.
struct TimelineEvent {
  std::string name, category;
  double begin = 0, end = 0;
  std::vector<std::pair<std::string, std::string>> facts = {};
};

/// Events that one thread or one stream did: begins ascend, and events nest.
struct TimelineTrack {
  std::string name;
  std::vector<TimelineEvent> events = {};
};

/// What belongs together: the run of an indexer.
struct TimelineGroup {
  std::string name;
  std::vector<TimelineTrack> tracks = {};
};

struct Timeline {
  std::string tool_version;
  std::vector<std::string> command_line;
  std::vector<TimelineGroup> groups = {};

  i64 events() const;
};

/// Most events that a file of a timeline has: more than a person looks at, and some 40 MB.
constexpr i64 kMostTimelineEvents = 200000;

/// The timeline as Chrome's trace events, which ui.perfetto.dev and chrome://tracing open: complete events ("X") with
/// ts and dur in microseconds since its start, to the nanosecond; a group is a process, a track a thread, named by
/// metadata events ("M"). Tracks lose their last events where there are more than `most` in all. Strict JSON.
std::string write_timeline(const Timeline& timeline, i64 most = kMostTimelineEvents);

}  // namespace misa
