#pragma once

#include <functional>
#include <optional>
#include <string_view>
#include <vector>

#include "core/experiment/memory.hpp"
#include "core/experiment/origin.hpp"
#include "core/measure/sampler.hpp"
#include "core/report/timeline.hpp"
#include "core/selection/selection.hpp"

namespace misa {

/// How far a profile has come.
struct ProfileProgress {
  std::string_view indexer;    ///< and the backend, where it is measured on two
  bool reference = false;      ///< dsa runs once more, as the reference of the others
  i64 most_samples = 0;        ///< of each indexer
  SamplingProgress done = {};  ///< nothing while the reference runs
};

/// What a caller may see of a profile before it returns. Any may be empty.
struct ProfileSinks {
  std::function<void(const ProfileProgress&)> progress = {};  ///< after every run
  /// Before loaded kernels work on an indexer, which is named, and with "" after it.
  std::function<void(std::string_view)> loaded_work = {};
  std::function<void(const Report&)> started = {};       ///< what is known before the first run: no case yet
  std::function<void(const ReportCase&)> finished = {};  ///< each case once it is whole, in their order
  std::function<void(const Report&)> reported = {};      ///< the whole report
  /// The first sample of each indexer with its stages marked, on one timeline; none if there is no sample yet.
  std::function<void(const Timeline&)> timeline = {};
  /// What each indexer selected on `backend`: tokens, heads and blocks; comes last, and not of an interrupted profile.
  std::function<void(const IndexerSpec&, const Selection&)> selected = {};
};

/// Side B of a comparison: measured beside each indexer of the request, side A, in the same rounds, end to end only.
struct ProfileSide {
  Backend& backend;                ///< in the same memory as the request's: both on the host, or on one device
  std::vector<IndexerSpec> specs;  ///< the request's, with other parameters; found by name
  i64 threads = 1;
  bool fusion = true, graphs = true;
  ReportSides told;  ///< in words, and how B is judged
};

/// Indexers to be timed side by side on one workload and one backend, and rated against dsa. A backend of loaded
/// kernels (Backend::base) is measured beside its base: each indexer of which the kernels do a part is timed on both,
/// in the same rounds. DSA, which all are compared with, is then the base's.
struct ProfileRequest {
  Backend& backend;
  const Workload& workload;
  std::vector<IndexerSpec> specs;    ///< those that the backend refuses are skipped
  std::vector<Refusal> failed = {};  ///< indexers in which loaded kernels failed before: measured on the base alone
  IndexerSettings settings;          ///< dsa, the reference, is made with them
  i64 threads = 1;                   ///< of the backend
  MemoryLimits memory = {};

  std::optional<i64> samples = {};  ///< of each indexer, if the budget allows; empty: 50, or 1 of a slow backend
  std::optional<i64> warm_up = {};  ///< runs that are thrown away first; empty: 1, or 0 of a slow backend
  double budget_seconds = 10;       ///< of all runs together; a sample of each indexer is always taken
  bool cold = true;                 ///< flush caches before each run, where the backend can
  bool fusion = true;               ///< use fused kernels, where the backend has them
  bool graphs = true;               ///< replay a recording, where the backend makes one
  bool once = false;                ///< one run of each indexer with its stages marked, for a profiler
  const ProfileSide* b = nullptr;   ///< null: there is one side; not with a backend of loaded kernels, or `once`

  Origin origin = {};
  ProfileSinks sinks = {};
};

/// Times every indexer end to end and stage by stage in alternating rounds, rates what it selects against dsa's
/// selection, and notes in warnings what makes the numbers doubtful. An interruption ends it early: the report says so.
///
/// Error(nothing) MP-E030: the workload has no rows. Error(unavailable) MP-E405: the backend can run none of `specs`.
/// Error(runtime) MP-E502: the memory does not suffice; thrown before it is taken.
Report profile(const ProfileRequest& request);

}  // namespace misa
