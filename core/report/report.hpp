#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/error.hpp"
#include "core/base/types.hpp"
#include "core/indexer/runnable.hpp"
#include "core/indexer/spec.hpp"
#include "core/measure/contention.hpp"
#include "core/measure/device_watch.hpp"
#include "core/measure/difference.hpp"
#include "core/measure/doubt.hpp"
#include "core/measure/statistics.hpp"
#include "core/platform/system.hpp"
#include "core/quality/quality.hpp"

namespace misa {

/// A run as plain data: the results themselves, in SI units. A number that is not finite is written as null with a
/// reason, an optional that is empty as null. Writers choose units and rounding (core/report/write.hpp).
constexpr std::string_view kReportSchemaVersion = "1.5.0";

struct ReportBackend {
  std::string name, description;
  std::optional<Roofs> roofs = {};               ///< empty where they mean nothing
  Dtype elements = Dtype::f32;                   ///< of the workload: the peak that counts is roofs->flops_of(elements)
  std::optional<std::string> roofs_loaded = {};  ///< what disturbed their measurement; empty: nothing was seen
};

struct ReportLibrary {
  std::string name, version;
};

/// What the program was built from, and how.
struct ReportBuild {
  std::string commit;    ///< 12 digits; empty: not known
  bool changed = false;  ///< tracked files differed from the commit
  std::string compiler, type, flags;
  std::string kernel_flags;  ///< of the backends' kernels, beside `flags`
  std::vector<ReportLibrary> libraries;
};

struct ReportEnvironment {
  SystemInfo machine = {};
  i64 threads = 0;                                ///< used
  std::optional<double> load_average = {};        ///< over the last minute, before anything was run
  std::optional<std::string> timestamp_utc = {};  ///< start of the run, ISO 8601
  std::optional<std::string> host = {};           ///< only when asked for: results travel
  ReportBuild build = {};
  std::vector<ReportBackend> backends = {};
};

/// Summarises a count that every row has, such as the tokens it sees.
struct ReportContext {
  i64 minimum = 0, median = 0, maximum = 0;
};

struct ReportWorkload {
  std::string name;
  std::string provenance;  ///< "synthetic", "recorded", ...
  std::string model, phase;
  i64 rows = 0, heads = 0, head_dim = 0;
  i64 keys = 0;            ///< stored
  i64 compress_ratio = 1;  ///< tokens that a key stands for
  i64 sequences = 0, top_k = 0;
  std::string top_k_source = "default";  ///< "option", "index_topk", "recorded" (columns of topk) or "default"
  Dtype dtype = Dtype::f32;
  bool paged = false;
  i64 pairs = 0;          ///< visible (row, key) pairs
  ReportContext context;  ///< tokens, each row's own included
  ReportContext visible;  ///< keys that each row sees: the tokens, or where they are entries as many as are whole
  std::optional<std::string> preset = {};      ///< of the generator
  std::optional<std::string> seed;             ///< decimal; 64 bits do not fit a JSON number
  std::optional<std::string> trace_path;       ///< of a recorded workload
  std::optional<std::string> input_hash = {};  ///< 16 hexadecimal digits of all that an indexer reads
  std::optional<i64> layers = {};              ///< of the model; empty: not said
  std::optional<i64> indexer_layers = {};      ///< of them, those that have an indexer
  Baselines recall = {};                       ///< of DSA's tokens, by selections that look at nothing
};

/// The numbers of an indexer as writers show them; empty where it has no such parameter.
struct ReportParameters {
  i64 top_k = 0;
  Forced forced = {};  ///< tokens that every selection holds
  std::optional<i64> active_heads;
  std::optional<i64> head_block_size;  ///< tokens per block mean that heads are ranked over
  std::optional<i64> group;            ///< rows that keep the same heads; empty: each its own
  std::optional<i64> sampled_keys;     ///< keys of a row, at least, that heads are ranked over
  std::optional<i64> blocks;           ///< kept
  std::optional<i64> block_size;       ///< tokens per block that is kept or left
  std::optional<i64> candidates;       ///< that are scored again
  std::optional<std::string> block_window;
  std::optional<std::string> pooling;
};
ReportParameters parameters_of(const IndexerSpec& spec);

/// The router's name; empty: the indexer routes no heads.
std::optional<std::string> router_of(const IndexerSpec& spec);

struct ReportStage {
  StageSet stages;  ///< several where one kernel does them
  Summary seconds = {};
  std::optional<StageCost> cost = {};
  std::optional<double> flops_per_second = {}, bytes_per_second = {};
  std::optional<double> seconds_per_pair = {};  ///< over the workload's pairs, so that stages add up
  std::optional<double> share = {};             ///< of the sum of stages
  std::optional<Roofline> roofline = {};
  std::optional<Doubt> roof_doubt = {};  ///< why its fraction is above 1
  std::vector<KernelRun> kernels = {};   ///< those that ran
};

/// Why nothing over rows is known.
constexpr std::string_view kNoTokenSeen = "no row sees a token";

enum class SpeedupVerdict { faster, slower, inconclusive, too_few };
constexpr std::string_view speedup_verdict_name(SpeedupVerdict verdict) {
  constexpr std::string_view kNames[] = {"faster", "slower", "inconclusive", "too few samples"};
  return kNames[static_cast<int>(verdict)];
}

/// What `ratio`, how many times as long dsa or the base backend took, says of an indexer.
inline SpeedupVerdict speedup_verdict(const PairedRatio& ratio) {
  if (!ratio.low) return SpeedupVerdict::too_few;
  if (!ratio.decided()) return SpeedupVerdict::inconclusive;
  return *ratio.low > 1 ? SpeedupVerdict::faster : SpeedupVerdict::slower;
}

struct ReportCase {
  IndexerSpec spec;  ///< as told
  IndexerSpec used;  ///< what that amounts to: no more of anything than the workload has room for
  std::string backend;
  Shape shape;
  i64 threads = 0;
  std::vector<ReportStage> stages;
  std::optional<Summary> end_to_end;  ///< seconds, timed without marks inside; empty: not timed
  std::optional<double> first_call_s;
  std::optional<double> closure_residual;  ///< (end_to_end - sum of stages) / end_to_end
  std::optional<bool> closure_ok;
  std::optional<Doubt> closure_doubt;       ///< why closure_ok is false
  std::optional<double> speedup_over_dsa;   ///< ratio of medians; same run and workload, dsa of the first backend
  std::optional<PairedRatio> speedup;       ///< the same round by round; empty for dsa itself
  std::string base;                         ///< the backend that the same is measured on beside a plug-in; empty: none
  std::optional<double> speedup_over_base;  ///< ratio of medians, base / this
  std::optional<PairedRatio> base_speedup;  ///< the same round by round
  std::string side;                         ///< "A" or "B" where two sides are measured; empty: there is one
  std::optional<JudgedRatio> change;        ///< of side B: B / A, round by round; empty: B or A was not timed
  std::optional<Gate> gate;                 ///< of side B, where --max-slowdown asks
  std::string selection_hash;               ///< of all tokens that it selected; empty: not known
  std::optional<Quality> quality;
  std::string quality_reason;  ///< why there is no quality: "is the reference", "not asked for", ...
};

/// The selection that the trace recorded, rated against dsa of as many tokens.
struct ReportRecorded {
  i64 top_k = 0;  ///< its columns
  Quality quality;
};

struct ReportMeasurement {
  std::string cache = "warm";                 ///< "cold": flushed before each run
  std::string launch = "calls";               ///< "graph": each run is one launch
  std::optional<DeviceRecord> device = {};    ///< empty where no driver tells
  std::optional<Contention> contention = {};  ///< empty: nothing was timed
  std::optional<std::string> loaded = {};     ///< how other work disturbed the measurement; empty: nothing was seen
};

/// What two sides that were measured in turns are, and how they are judged.
struct ReportSides {
  std::vector<std::string> b = {};  ///< the options by which B differs from A; none: B is A
  double same_within = 0.01;
  std::optional<double> max_slowdown = {};
};

struct Report {
  std::string tool_version;
  std::vector<std::string> command_line;
  ReportEnvironment environment;
  ReportWorkload workload;
  ReportMeasurement measurement;
  std::optional<ReportSides> sides = {};  ///< empty: there is one side
  std::vector<ReportCase> cases;
  std::optional<ReportRecorded> recorded_topk = {};  ///< empty: the workload has none, or the run was interrupted
  std::string explain_worst = {};  ///< the command that explains the row of lowest recall; empty: there is none
  std::vector<Refusal> skipped;
  std::vector<Warning> warnings;
  bool interrupted = false;
};

}  // namespace misa
