#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/types.hpp"
#include "core/base/warning.hpp"

namespace misa {

/// A result as plain data: SI units, in the names. A number that is not finite is written as null with a reason, an
/// optional that is empty as null. Writers choose units and rounding (core/report/write.hpp).
constexpr std::string_view kReportSchemaVersion = "1.0.0";

struct ReportPeak {
  std::string dtype;
  std::optional<double> flops_per_second;  ///< empty: could not be measured
};

struct ReportRoofs {
  std::optional<double> flops_per_second;  ///< for the workload's elements; empty: could not be measured
  double bytes_per_second = 0, launch_seconds = 0;
  std::optional<double> copy_bytes_per_second = {}, graph_launch_seconds = {};  ///< empty where there is no such thing
  std::vector<ReportPeak> peaks = {};      ///< where flops_per_second depends on elements
  std::optional<std::string> loaded = {};  ///< what disturbed their measurement; empty: nothing was seen
};

struct ReportBackend {
  std::string name, description;
  std::optional<ReportRoofs> roofs;  ///< empty where they mean nothing
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
  std::string cpu, os;
  i64 cores = 0;    ///< logical, available to this process
  i64 threads = 0;  ///< used
  i64 memory_bytes = 0;
  i64 cache_bytes = 0;                            ///< of the last level; 0: not known
  std::optional<std::string> governor = {};       ///< of the cores' clock; empty: the system does not say
  std::optional<double> load_average = {};        ///< over the last minute, before anything was run
  std::optional<std::string> timestamp_utc = {};  ///< start of the run, ISO 8601
  std::optional<std::string> host = {};           ///< only when asked for: results travel
  ReportBuild build = {};
  std::vector<ReportBackend> backends;
};

struct ReportContext {
  i64 minimum = 0, median = 0, maximum = 0;  ///< visible tokens per row
};

struct ReportWorkload {
  std::string name;
  std::string provenance;  ///< "synthetic", "recorded", ...
  std::string model, phase;
  i64 rows = 0, heads = 0, head_dim = 0;
  i64 keys = 0;  ///< tokens stored
  i64 sequences = 0, top_k = 0;
  std::string top_k_source = "default";  ///< "option", "index_topk", "recorded" (columns of topk) or "default"
  std::string dtype;
  bool paged = false;
  i64 pairs = 0;  ///< visible (row, token) pairs
  ReportContext context;
  std::optional<std::string> preset = {};  ///< of the generator
  std::optional<std::string> seed;         ///< decimal; 64 bits do not fit a JSON number
  std::optional<std::string> trace_path;   ///< of a recorded workload
  std::optional<double> chance_recall;     ///< mean over rows of min(1, k / visible): recall of a random choice
  std::optional<double> window_recall;     ///< share of DSA's tokens among the last k of the row
};

/// The numbers of an indexer, as told or as used; empty where it has no such parameter.
struct ReportParameters {
  i64 top_k = 0;
  std::optional<i64> active_heads;
  std::optional<i64> head_block_size;  ///< tokens per block mean that heads are ranked over
  std::optional<i64> sampled_keys;     ///< keys of a row, at least, that heads are ranked over
  std::optional<i64> blocks;           ///< kept
  std::optional<i64> block_size;       ///< tokens per block that is kept or left
  std::optional<i64> candidates;       ///< that are scored again
  std::optional<std::string> block_window;
};

struct ReportShape {
  i64 rows = 0, heads = 0, head_dim = 0, keys = 0, max_window = 0, top_k = 0;
  std::string dtype;
  bool paged = false;
};

struct ReportTime {
  double median_s = 0, p10_s = 0, p90_s = 0;
  i64 samples = 0;
  std::vector<double> raw_s = {};  ///< all samples, in the order they were taken
};

struct ReportDoubt {
  std::string name, text;  ///< "noise", "the samples spread by more than that"
};

struct ReportStage {
  std::string name;  ///< "score", or "score+select" where one kernel does both
  ReportTime time;
  std::optional<i64> flops, bytes;  ///< the cost model's floor (docs/measurement.md)
  std::optional<double> flops_per_second, bytes_per_second;
  std::optional<double> seconds_per_pair;      ///< over the workload's pairs, so that stages add up
  std::optional<double> share;                 ///< of the sum of stages
  std::optional<double> roof_fraction;         ///< floor / time
  std::optional<ReportDoubt> roof_doubt = {};  ///< why roof_fraction is above 1
  std::optional<std::string> bound;            ///< "compute", "memory" or "latency"
};

/// Why nothing over rows is known.
constexpr std::string_view kNoTokenSeen = "no row sees a token";

/// Over the rows that see a token; empty where none does.
struct ReportRecall {
  std::optional<double> mean, median, p1, worst;
  std::optional<i64> worst_row;
};

/// How much of the reference's selection an indexer keeps: quality of the approximation, not numerical agreement.
struct ReportQuality {
  std::string reference;  ///< "dsa", or "trace"
  i64 rows = 0;           ///< compared
  ReportRecall recall;
  std::optional<double> iou;                       ///< mean over rows of shared / united
  std::optional<double> attention_mass;            ///< relative to the reference's, mean over rows
  std::optional<double> attention_mass_absolute;   ///< share of all main attention
  std::optional<double> reference_attention_mass;  ///< the same of the reference
  i64 attention_mass_rows = 0;                     ///< rows for which the workload records it
  std::optional<double> needle_hit_rate;
  i64 needle_cells = 0;         ///< (needle, row) pairs that rate is over
  i64 needle_answer_cells = 0;  ///< of them: the answer's tokens are counted, and not all of the needle
  std::optional<double> reference_needle_hit_rate = {};

  /// What people are shown: no rate that the reference itself does not reach in half of the cells.
  bool shows_needles() const { return needle_hit_rate && reference_needle_hit_rate.value_or(1) >= 0.5; }
};

enum class SpeedupVerdict { faster, slower, inconclusive, too_few };
constexpr std::string_view speedup_verdict_name(SpeedupVerdict verdict) {
  constexpr std::string_view kNames[] = {"faster", "slower", "inconclusive", "too few samples"};
  return kNames[static_cast<int>(verdict)];
}

/// How many times as long dsa took, round by round (core/measure/paired_ratio.hpp).
struct ReportSpeedup {
  double median = 0;
  std::optional<double> low, high;   ///< of the median; empty: too few rounds
  double confidence = 0;             ///< that the interval holds the median
  i64 rounds = 0, least_rounds = 0;  ///< that were sampled, and that an interval takes
  SpeedupVerdict verdict = SpeedupVerdict::too_few;
};

struct ReportCase {
  std::string indexer;
  std::optional<std::string> router;  ///< empty: routes no heads
  std::string backend;
  ReportParameters parameters;  ///< as told
  ReportParameters used;        ///< what that amounts to: no more of anything than the workload has room for
  ReportShape shape;
  i64 threads = 0;
  std::vector<ReportStage> stages;
  std::optional<ReportTime> end_to_end;  ///< timed without marks inside; empty: not timed
  std::optional<double> first_call_s;
  std::optional<double> closure_residual;  ///< (end_to_end - sum of stages) / end_to_end
  std::optional<bool> closure_ok;
  std::optional<ReportDoubt> closure_doubt;  ///< why closure_ok is false
  std::optional<double> speedup_over_dsa;    ///< ratio of medians; same run, backend and workload
  std::optional<ReportSpeedup> speedup;      ///< the same round by round; empty for dsa itself
  std::optional<ReportQuality> quality;
  std::string quality_reason;  ///< why there is none: "is the reference", "not asked for", ...
};

/// The selection that the trace recorded, rated against dsa of as many tokens.
struct ReportRecorded {
  i64 top_k = 0;  ///< its columns
  ReportQuality quality;
};

struct ReportDeviceState {
  std::optional<double> sm_clock_hz, memory_clock_hz, power_watts, temperature_celsius;
  std::vector<std::string> throttled;
};

/// How a device stood while it was measured.
struct ReportDevice {
  ReportDeviceState before, after;
  std::optional<double> sm_clock_min_hz, sm_clock_max_hz;  ///< over the samples
  double clock_drift = 0;                                  ///< (max - min) / max
  std::vector<std::string> throttled;                      ///< what slowed it down in a sample
};

/// What other work took while it was measured (core/measure/contention.hpp).
struct ReportContention {
  double seconds = 0;        ///< watched
  double own_cpu_share = 0;  ///< of the time of all threads
  std::optional<double> waiting_share, others_share, steal_share, pressure_share;
  i64 voluntary_switches = 0, involuntary_switches = 0;
  std::optional<double> load_average_before, load_average_after;
  std::optional<i64> most_runnable;
  std::optional<double> clock_min_hz, clock_max_hz;
  double clock_drift = 0;             ///< (max - min) / max
  std::optional<std::string> loaded;  ///< what disturbed the measurement; empty: nothing was seen
};

struct ReportMeasurement {
  std::string cache = "warm";                       ///< "cold": flushed before each run
  std::string launch = "calls";                     ///< "graph": each run is one launch
  std::optional<ReportDevice> device;               ///< empty where no driver tells
  std::optional<ReportContention> contention = {};  ///< empty: nothing was timed
};

struct ReportSkip {
  std::string indexer, backend, reason;
};

struct Report {
  std::string tool_version;
  std::vector<std::string> command_line;
  ReportEnvironment environment;
  ReportWorkload workload;
  ReportMeasurement measurement;
  std::vector<ReportCase> cases;
  std::optional<ReportRecorded> recorded_topk = {};  ///< empty: the workload has none, or the run was interrupted
  std::vector<ReportSkip> skipped;
  std::vector<Warning> warnings;
  bool interrupted = false;
};

}  // namespace misa
