#pragma once

#include <functional>
#include <string>
#include <vector>

#include "core/experiment/memory.hpp"
#include "core/experiment/origin.hpp"
#include "core/report/niah_report.hpp"
#include "core/workload/synthetic.hpp"

namespace misa {

/// An indexer to be mapped.
struct NiahVariant {
  std::string name;  ///< "misa (qnorm, h 1)"
  /// Its spec for a workload of one context.
  std::function<IndexerSpec(const Workload&)> spec;
};

/// How far a map has come.
struct NiahProgress {
  std::string_view doing;  ///< a variant, or "generating"
  i64 context = 0;
  u64 seed = 0;
  double done = 0;  ///< share of the work
  double seconds = 0, seconds_left = 0;
};

/// Needles at every depth of every context, and indexers that shall select them.
struct NiahRequest {
  Backend& backend;
  SyntheticRequest drawn;     ///< model, formats and preset; contexts, rows, seed and needles' depths are the map's own
  NeedleRequest needle = {};  ///< length, mode, gain
  std::vector<i64> contexts = {};   ///< ascending
  std::vector<double> depths = {};  ///< ascending, 0..1
  std::vector<u64> seeds = {};      ///< a sequence of each context for each
  i64 needles = 1;                  ///< of each depth in a sequence
  std::vector<NiahVariant> variants = {};
  i64 threads = 1;  ///< of the backend
  MemoryLimits memory = {};
  bool fusion = true;
  Origin origin = {};
  std::function<void(const NiahProgress&)> progress = {};  ///< before each piece of work; may be empty
};

/// Runs every indexer on every context: one workload of a context and a seed holds all needles, and row i asks for
/// needle i. Needles of one depth lie side by side. Contexts that have no room for them are skipped. An interruption
/// ends it early; what is whole stays. Source: ours; the map's form is that of MISA, arXiv:2605.07363.
///
/// Error(unavailable) MP-E405: the backend can run no indexer. Error(nothing) MP-E552: no context has room for the
/// needles. Error(runtime) MP-E502: the memory does not suffice; thrown before it is taken.
NiahReport niah(const NiahRequest& request);

/// What niah would do; nothing is drawn.
struct NiahPlan {
  struct Context {
    i64 tokens = 0, rows = 0;
    i64 bytes = 0;  ///< at most, on the host and, where the backend has memory of its own, there
  };
  std::vector<Context> contexts = {};
  std::vector<std::string> indexers = {};
  std::vector<Refusal> skipped = {};
  i64 runs = 0;   ///< of an indexer on a workload
  i64 cells = 0;  ///< of all maps
};
/// The workload of a context for planning: no value of it is drawn.
Workload undrawn_column(const NiahRequest& request, i64 context);

/// Throws what niah throws before its first run.
NiahPlan plan_niah(const NiahRequest& request);

}  // namespace misa
