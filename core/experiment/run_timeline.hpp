#pragma once

#include <string>
#include <vector>

#include "core/measure/timed_run.hpp"
#include "core/report/timeline.hpp"

namespace misa {

/// A run, and what it was of.
struct NamedRun {
  std::string indexer, backend, workload;
  bool on_device = false;  ///< the work is on a stream; else on the host's threads
  bool recorded = false;   ///< it was launched as one graph
  TracedRun run;
};

/// The runs on one timeline, which begins with the first of them. A run is a group with these tracks: its stages (of a
/// device: its stream), with the run around them; then each of the host's threads that worked, or what the host
/// launched. A stream's track begins when the host began to launch: how much later the device began is not known.
Timeline timeline_of(const std::vector<NamedRun>& runs);

}  // namespace misa
