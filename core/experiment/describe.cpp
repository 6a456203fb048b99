#include "core/experiment/describe.hpp"

#include <algorithm>
#include <set>

#include "core/measure/paired_ratio.hpp"
#include "core/platform/load.hpp"
#include "core/platform/system.hpp"
#include "core/workload/placement.hpp"

namespace misa {

ReportWorkload describe_workload(const Workload& workload, i64 top_k, const Origin& origin) {
  const auto metadata = [&](const char* key) {
    const auto found = workload.metadata.find(key);
    return found == workload.metadata.end() ? std::string() : found->second;
  };
  const Shape shape = shape_of(workload);
  ReportWorkload described;
  described.name = workload.name;
  described.provenance = metadata("provenance");
  described.model = metadata("model");
  described.phase = metadata("phase");
  if (std::string preset = metadata("preset"); !preset.empty()) described.preset = std::move(preset);
  described.rows = shape.rows;
  described.heads = shape.heads;
  described.head_dim = shape.head_dim;
  described.keys = shape.keys;
  described.top_k = top_k;
  described.top_k_source = origin.top_k_asked ? "option" : default_top_k(workload).source;
  described.sequences = static_cast<i64>(std::set<i32>(workload.sequence.begin(), workload.sequence.end()).size());
  described.dtype = dtype_name(shape.dtype);
  described.paged = shape.paged;
  std::vector<i64> lengths;
  for (std::size_t m = 0; m < workload.ks.size(); ++m) lengths.push_back(workload.ke[m] - workload.ks[m]);
  for (const i64 length : lengths) described.pairs += length;
  std::sort(lengths.begin(), lengths.end());
  const std::size_t half = lengths.size() / 2;
  const i64 median = lengths.size() % 2 == 1 ? lengths[half] : (lengths[half - 1] + lengths[half]) / 2;
  described.context = {lengths.front(), median, lengths.back()};
  if (origin.seed) described.seed = std::to_string(*origin.seed);
  described.trace_path = origin.trace_path;
  return described;
}

ReportEnvironment describe_environment(const std::vector<Backend*>& backends, i64 threads, const Origin& origin,
                                       std::optional<Dtype> roofs_of) {
  const SystemInfo system = system_info();
  ReportEnvironment environment;
  environment.cpu = system.cpu;
  environment.os = system.os;
  environment.cores = system.cores;
  environment.threads = threads;
  environment.memory_bytes = system.memory_bytes;
  environment.cache_bytes = system.cache_bytes;
  if (!system.governor.empty()) environment.governor = system.governor;
  environment.load_average = read_load().load_average;
  environment.timestamp_utc = utc_timestamp();
  if (origin.host) environment.host = host_name();
  environment.build = origin.build;
  for (Backend* backend : backends) {
    ReportBackend& described = environment.backends.emplace_back();
    described.name = backend->name();
    described.description = backend->description();
    if (!roofs_of) continue;
    if (const auto roofs = backend->roofs()) {
      const auto measured = [](double rate) { return rate > 0 ? std::optional(rate) : std::nullopt; };
      ReportRoofs& report = described.roofs.emplace();
      report.flops_per_second = measured(roofs->flops_of(*roofs_of));
      report.bytes_per_second = roofs->bytes_per_second;
      report.launch_seconds = roofs->launch_seconds;
      report.copy_bytes_per_second = measured(roofs->copy_bytes_per_second);
      report.graph_launch_seconds = measured(roofs->recorded_launch_seconds);
      for (const Roofs::Peak& peak : roofs->peaks) {
        report.peaks.push_back({std::string(dtype_name(peak.dtype)), measured(peak.flops_per_second)});
      }
    }
  }
  return environment;
}

std::optional<ReportDevice> describe_device(const std::optional<DeviceRecord>& record) {
  if (!record) return std::nullopt;
  const auto state = [](const DeviceState& from) {
    return ReportDeviceState{from.sm_clock_hz, from.memory_clock_hz, from.power_watts, from.temperature_celsius,
                             from.throttled};
  };
  return ReportDevice{state(record->before),   state(record->after),  record->sm_clock_min_hz,
                      record->sm_clock_max_hz, record->clock_drift(), record->throttled};
}

ReportContention describe_contention(const Contention& contention) {
  return {.seconds = contention.seconds,
          .own_cpu_share = contention.own_cpu_share,
          .waiting_share = contention.waiting_share,
          .others_share = contention.others_share,
          .steal_share = contention.steal_share,
          .pressure_share = contention.pressure_share,
          .voluntary_switches = contention.voluntary_switches,
          .involuntary_switches = contention.involuntary_switches,
          .load_average_before = contention.load_average_before,
          .load_average_after = contention.load_average_after,
          .most_runnable = contention.most_runnable,
          .clock_min_hz = contention.clock_min_hz,
          .clock_max_hz = contention.clock_max_hz,
          .clock_drift = contention.clock_drift(),
          .loaded = why_loaded(contention)};
}

ReportDoubt describe_doubt(Doubt doubt) { return {std::string(doubt_name(doubt)), std::string(doubt_text(doubt))}; }

ReportSpeedup describe_speedup(const std::vector<double>& dsa, const std::vector<double>& own) {
  const PairedRatio ratio = paired_ratio(dsa, own);
  ReportSpeedup speedup{.median = ratio.median,
                        .low = ratio.low,
                        .high = ratio.high,
                        .confidence = kConfidence,
                        .rounds = ratio.rounds,
                        .least_rounds = kLeastRounds};
  if (ratio.low) speedup.verdict = SpeedupVerdict::inconclusive;
  if (ratio.decided()) speedup.verdict = *ratio.low > 1 ? SpeedupVerdict::faster : SpeedupVerdict::slower;
  return speedup;
}

ReportParameters describe_parameters(const IndexerSpec& spec) {
  ReportParameters parameters;
  parameters.top_k = spec.top_k;
  if (spec.heads) {
    parameters.active_heads = spec.heads->active;
    if (spec.heads->router == Router::pooled) parameters.head_block_size = spec.heads->block_size;
    if (samples_keys(spec.heads->router)) parameters.sampled_keys = spec.heads->samples;
  }
  if (spec.blocks) {
    parameters.blocks = spec.blocks->blocks;
    parameters.block_size = spec.blocks->block_size;
  }
  if (spec.rerank) parameters.candidates = spec.rerank->candidates;
  if (parameters.head_block_size || spec.blocks) parameters.block_window = block_window_name(spec.block_window);
  return parameters;
}

ReportQuality describe_quality(const Quality& quality, std::string_view reference) {
  ReportQuality report;
  report.reference = reference;
  report.rows = quality.rows;
  report.recall = {quality.recall.mean, quality.recall.median, quality.recall.p1, quality.recall.worst,
                   quality.recall.worst_row};
  report.iou = quality.iou;
  report.attention_mass = quality.attention_mass;
  report.attention_mass_absolute = quality.attention_mass_absolute;
  report.reference_attention_mass = quality.reference_attention_mass;
  report.attention_mass_rows = quality.attention_rows;
  report.needle_hit_rate = quality.needle_hit_rate;
  report.needle_cells = quality.needle_cells;
  report.needle_answer_cells = quality.needle_answer_cells;
  report.reference_needle_hit_rate = quality.reference_needle_hit_rate;
  return report;
}

std::map<std::string, std::string> backend_facts(Backend& backend, const Shape& shape, const Origin& origin) {
  const ReportBuild& build = origin.build;
  const auto arithmetic = backend.arithmetic(shape);
  return {{"backend", std::string(backend.name())},
          {"backend_description", backend.description()},
          {"arithmetic", arithmetic ? std::string(arithmetic->name) : std::string()},
          {"tool_version", origin.tool_version},
          {"commit", build.commit.empty() ? "unknown" : build.commit + (build.changed ? "-dirty" : "")}};
}

}  // namespace misa
