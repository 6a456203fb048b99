#include "core/experiment/run_timeline.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>

namespace misa {
namespace {

/// The run, and its spans in it, from `start` on.
TimelineTrack stages_track(const NamedRun& one, double start) {
  TimelineTrack track{.name = one.on_device ? "stream" : "stages"};
  const double begin = one.run.begin - start;
  track.events.push_back({.name = one.indexer + " run",
                          .category = "run",
                          .begin = begin,
                          .end = begin + one.run.times.seconds,
                          .facts = {{"indexer", one.indexer}, {"backend", one.backend}, {"workload", one.workload}}});
  for (const StageSpan& span : one.run.times.spans) {
    std::vector<std::string> kernels;
    for (const KernelRun& kernel : span.kernels) {
      kernels.push_back(fmt::format("{}={}", primitive_name(kernel.primitive), kernel.kernel));
    }
    track.events.push_back({.name = stage_set_name(span.stages),
                            .category = "stage",
                            .begin = begin + span.begin,
                            .end = begin + span.end,
                            .facts = {{"kernel", fmt::format("{}", fmt::join(kernels, ", "))}}});
  }
  return track;
}

/// What a thread did, each time under the name of the stage in which it began.
TimelineTrack thread_track(const NamedRun& one, std::size_t thread, double start) {
  TimelineTrack track{.name = fmt::format("thread {}", thread)};
  for (const WorkSpan& span : one.run.threads[thread]) {
    const double at = span.begin - one.run.begin;
    const auto& spans = one.run.times.spans;
    const auto within = std::find_if(spans.begin(), spans.end(),
                                     [&](const StageSpan& stage) { return stage.begin <= at && at <= stage.end; });
    track.events.push_back({.name = within == spans.end() ? "work" : stage_set_name(within->stages),
                            .category = "thread",
                            .begin = span.begin - start,
                            .end = span.end - start});
  }
  return track;
}

}  // namespace

Timeline timeline_of(const std::vector<NamedRun>& runs) {
  double start = runs.empty() ? 0 : runs.front().run.begin;
  for (const NamedRun& one : runs) start = std::min(start, one.run.begin);
  Timeline timeline;
  for (const NamedRun& one : runs) {
    TimelineGroup& group = timeline.groups.emplace_back();
    group.name = one.indexer + " on " + one.backend;
    group.tracks.push_back(stages_track(one, start));
    if (one.on_device) {
      group.tracks.push_back({.name = "host",
                              .events = {{.name = one.recorded ? "launch graph" : "launch kernels",
                                          .category = "host",
                                          .begin = one.run.begin - start,
                                          .end = one.run.launched - start}}});
      continue;
    }
    for (std::size_t i = 0; i < one.run.threads.size(); ++i) {
      if (!one.run.threads[i].empty()) group.tracks.push_back(thread_track(one, i, start));
    }
  }
  return timeline;
}

}  // namespace misa
