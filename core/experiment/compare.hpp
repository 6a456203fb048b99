#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/agreement/fault_injection.hpp"
#include "core/experiment/isolated_side.hpp"
#include "core/experiment/memory.hpp"
#include "core/experiment/origin.hpp"
#include "core/experiment/planned.hpp"
#include "core/experiment/user_program.hpp"
#include "core/report/agreement_report.hpp"
#include "core/selection/id_kind.hpp"

namespace misa {

/// How far a comparison has come when its next case begins.
struct CompareProgress {
  std::string_view indexer;  ///< of that case; "recorded topk" comes after all others
  i64 done = 0;              ///< cases before it
  double seconds = 0;        ///< that these took
};

/// What a caller may see of a comparison before it returns. Any may be empty.
struct CompareSinks {
  std::function<void(const CompareProgress&)> progress = {};  ///< before each case
  /// Both sides of a case that failed, the tested one first.
  std::function<void(const IndexerSpec&, const Selection&, const Selection&)> failed = {};
  /// What the tested side chose in each case that was compared, for the caller to keep.
  std::function<void(const IndexerSpec&, Selection)> selected = {};
};

/// A selection from a file, which stands in the workload as its `topk`.
struct GivenSelection {
  std::string path;
  IdKind ids = IdKind::token;  ///< what its ids count
};

/// Indexers to be compared on one workload: what `backend` selects against what another side selects. With
/// `against_indexer` there is no other side, and what they select is rated against what that indexer selects. With
/// `selection` no backend is tested, and the selection is judged by the formulas of each indexer; so is what `program`
/// selects.
struct CompareRequest {
  Backend& exact;            ///< the formulas: they judge, and are the other side where there is no other
  Backend& backend;          ///< the side that is tested
  Backend* other = nullptr;  ///< the other side
  std::string golden = {};   ///< ... or a golden: a file, or a folder of INDEXER.safetensors
  std::string against_indexer = {};
  std::optional<double> min_recall = {};  ///< with `against_indexer`: the least mean recall that passes
  std::optional<GivenSelection> selection = {};
  std::optional<UserProgram> program = {};
  std::optional<Isolation> isolation = {};  ///< `backend` stands for a plug-in, which is tested in another process

  const Workload& workload;
  std::vector<IndexerSpec> specs;  ///< a case each; one that a side refuses compares nothing
  IndexerSettings settings;        ///< `against_indexer` is made with them
  bool recorded = true;            ///< the selection that the workload recorded, if it did, is one more case
  std::vector<Choice> choices{kChoices.begin(), kChoices.end()};
  i64 max_miss = 0;                         ///< misses of a case that still pass
  std::optional<MistakeInfo> mistake = {};  ///< that the tested side makes; its runs are not repeated then
  i64 repeats = 0;                          ///< more runs, which must give the same bits
  bool sweep = false;                       ///< so must runs of 1 to `threads` threads
  bool poison = false;                      ///< so must a run with NaN in every key that no row sees
  i64 threads = 1;                          ///< of the backends
  /// Makes `backend` with this many threads; for `sweep`.
  std::function<std::unique_ptr<Backend>(i64)> with_threads = {};
  MemoryLimits memory = {};
  bool fusion = true;  ///< use fused kernels, where a backend has them

  /// The command that compares this indexer alone.
  std::function<std::string(const IndexerSpec&)> reproduce = [](const IndexerSpec&) { return std::string(); };
  Origin origin = {};
  CompareSinks sinks = {};

  /// No backend is tested, but ids of somebody else's.
  bool judges_ids() const { return selection || program; }
};

/// Compares every indexer choice by choice, judges differences by the formulas, and checks the canaries around the
/// tested side's memory. An interruption ends it early: the report says so.
///
/// Error(nothing) MP-E030: the workload has no rows. Error(unavailable) MP-E405: the backend can run none of `specs`.
/// Error(runtime) MP-E502: the memory does not suffice; thrown before it is taken. Error(usage) MP-E038: an indexer
/// gives no occasion for the mistake. Error(input): a golden is not one, or was made from something else.
AgreementReport compare(const CompareRequest& request);

/// What compare would run, side by side, the tested one first; a golden runs nothing. The backends compute nothing
/// (DryBackend), `exact` need not be such. Throws what compare throws before its first case.
std::vector<PlannedRun> plan_comparison(const CompareRequest& request);

}  // namespace misa
