#include <fmt/format.h>

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "core/report/describe.hpp"
#include "core/report/text.hpp"
#include "core/report/writers.hpp"

namespace misa {
namespace {

/// RFC 4180: quotes where a field holds a quote, a comma, a line break or an edge of space.
std::string field_of(std::string_view text) {
  std::string repaired = repaired_utf8(text);
  const bool edge = !repaired.empty() && (repaired.front() == ' ' || repaired.back() == ' ');
  if (!edge && repaired.find_first_of("\",\r\n") == std::string::npos) return repaired;
  std::string quoted = "\"";
  for (char c : repaired) {
    if (c == '"') quoted += '"';
    quoted += c;
  }
  return quoted + '"';
}

std::string field_of(i64 value) { return fmt::format("{}", value); }
std::string field_of(double value) { return exact_number(value); }
template <class T>
std::string field_of(const std::optional<T>& value) {
  return value ? field_of(*value) : std::string();
}

/// One row: a stage of a case, or with `stage` null the case end to end.
struct Row {
  const Report& report;
  const ReportCase& one;
  const ReportStage* stage;
};

struct Column {
  std::string_view name;
  std::function<std::string(const Row&)> text;
};

/// Columns that say the same in every row of a case.
template <class Get>
Column of_case(std::string_view name, Get get) {
  return {name, [get](const Row& row) { return field_of(get(row.report, row.one)); }};
}

/// Columns that only the rows of stages fill.
template <class Get>
Column of_stage(std::string_view name, Get get) {
  return {name, [get](const Row& row) { return row.stage ? field_of(get(*row.stage)) : std::string(); }};
}

/// Columns that only the end_to_end row fills.
template <class Get>
Column of_whole(std::string_view name, Get get) {
  return {name, [get](const Row& row) { return row.stage ? std::string() : field_of(get(row.one)); }};
}

template <class Get>
Column of_quality(std::string_view name, Get get) {
  return {name, [get](const Row& row) {
            return row.stage || !row.one.quality ? std::string() : field_of(get(*row.one.quality));
          }};
}

template <class Get>
Column of_time(std::string_view name, Get get) {
  return {name, [get](const Row& row) {
            if (row.stage) return field_of(get(row.stage->time));
            return row.one.end_to_end ? field_of(get(*row.one.end_to_end)) : std::string();
          }};
}

/// Of both kinds of row: picoseconds over the workload's pairs.
std::string ps_per_pair(const Row& row) {
  if (row.stage) return row.stage->seconds_per_pair ? field_of(*row.stage->seconds_per_pair * 1e12) : std::string();
  if (!row.one.end_to_end || row.report.workload.pairs <= 0) return {};
  return field_of(row.one.end_to_end->median_s * 1e12 / static_cast<double>(row.report.workload.pairs));
}

/// Every warning of the run, in every row: whoever reads some of the rows must not miss one.
std::string all_warnings(const Report& report) {
  std::vector<std::string> texts;
  for (const Warning& warning : report.warnings) texts.push_back(text_of(warning));
  return joined(texts, " | ");
}

/// Append only: readers may count on the place of a column.
std::vector<Column> columns() {
  using R = const Report&;
  using C = const ReportCase&;
  using S = const ReportStage&;
  using Q = const ReportQuality&;
  using T = const ReportTime&;
  const auto text = [](const std::string& value) { return std::string_view(value); };
  return {
      of_case("workload", [text](R report, C) { return text(report.workload.name); }),
      of_case("phase", [text](R report, C) { return text(report.workload.phase); }),
      of_case("indexer", [text](R, C one) { return text(one.indexer); }),
      of_case("router", [](R, C one) { return one.router; }),
      of_case("backend", [text](R, C one) { return text(one.backend); }),
      of_case("threads", [](R, C one) { return one.threads; }),
      of_case("rows", [](R, C one) { return one.shape.rows; }),
      of_case("heads", [](R, C one) { return one.shape.heads; }),
      of_case("head_dim", [](R, C one) { return one.shape.head_dim; }),
      of_case("keys", [](R, C one) { return one.shape.keys; }),
      of_case("max_window", [](R, C one) { return one.shape.max_window; }),
      of_case("dtype", [text](R, C one) { return text(one.shape.dtype); }),
      of_case("paged", [](R, C one) { return std::string_view(one.shape.paged ? "true" : "false"); }),
      of_case("top_k", [](R, C one) { return one.parameters.top_k; }),
      of_case("active_heads", [](R, C one) { return one.used.active_heads; }),
      of_case("head_block_size_tokens", [](R, C one) { return one.used.head_block_size; }),
      of_case("blocks", [](R, C one) { return one.used.blocks; }),
      of_case("block_size_tokens", [](R, C one) { return one.used.block_size; }),
      of_case("candidates", [](R, C one) { return one.used.candidates; }),
      {"stage", [](const Row& row) { return row.stage ? field_of(row.stage->name) : std::string("end_to_end"); }},
      of_time("median_ns", [](T time) { return whole_nanoseconds(time.median_s); }),
      of_time("p10_ns", [](T time) { return whole_nanoseconds(time.p10_s); }),
      of_time("p90_ns", [](T time) { return whole_nanoseconds(time.p90_s); }),
      of_time("samples", [](T time) { return time.samples; }),
      of_stage("flops", [](S stage) { return stage.flops; }),
      of_stage("bytes", [](S stage) { return stage.bytes; }),
      of_stage("flops_per_second", [](S stage) { return stage.flops_per_second; }),
      of_stage("bytes_per_second", [](S stage) { return stage.bytes_per_second; }),
      {"ps_per_pair", ps_per_pair},
      of_stage("share", [](S stage) { return stage.share; }),
      of_stage("roof_fraction",
               [](S stage) { return stage.roof_doubt ? std::optional<double>() : stage.roof_fraction; }),
      of_stage("bound", [](S stage) { return stage.bound; }),
      of_whole("speedup_over_dsa", [](C one) { return one.speedup_over_dsa; }),
      of_whole("closure_residual", [](C one) { return one.closure_residual; }),
      of_quality("recall_mean", [](Q quality) { return quality.recall.mean; }),
      of_quality("recall_p1", [](Q quality) { return quality.recall.p1; }),
      of_quality("recall_worst", [](Q quality) { return quality.recall.worst; }),
      of_quality("iou", [](Q quality) { return quality.iou; }),
      of_quality("attention_mass", [](Q quality) { return quality.attention_mass; }),
      of_quality("needle_hit_rate", [](Q quality) { return quality.needle_hit_rate; }),
      of_case("cache", [text](R report, C) { return text(report.measurement.cache); }),
      of_case("launch", [text](R report, C) { return text(report.measurement.launch); }),
      of_case("sm_clock_min_hz",
              [](R report, C) {
                const std::optional<ReportDevice>& device = report.measurement.device;
                return device ? device->sm_clock_min_hz : std::nullopt;
              }),
      of_case("sm_clock_max_hz",
              [](R report, C) {
                const std::optional<ReportDevice>& device = report.measurement.device;
                return device ? device->sm_clock_max_hz : std::nullopt;
              }),
      of_case("sampled_keys", [](R, C one) { return one.used.sampled_keys; }),
      of_case("warnings", [](R report, C) { return all_warnings(report); }),
      of_stage(
          "roof_doubt",
          [](S stage) { return stage.roof_doubt ? std::string_view(stage.roof_doubt->name) : std::string_view(); }),
      of_whole(
          "closure_doubt",
          [](C one) { return one.closure_doubt ? std::string_view(one.closure_doubt->name) : std::string_view(); }),
      of_whole("speedup_median", [](C one) { return one.speedup ? std::optional(one.speedup->median) : std::nullopt; }),
      of_whole("speedup_low", [](C one) { return one.speedup ? one.speedup->low : std::nullopt; }),
      of_whole("speedup_high", [](C one) { return one.speedup ? one.speedup->high : std::nullopt; }),
      of_whole("speedup_verdict",
               [](C one) { return one.speedup ? speedup_verdict_name(one.speedup->verdict) : std::string_view(); }),
      of_case("loaded",
              [](R report, C) {
                const std::optional<ReportContention>& contention = report.measurement.contention;
                return std::string_view(!contention ? "" : contention->loaded ? "true" : "false");
              }),
      of_case("seed", [](R report, C) { return report.workload.seed; }),
      of_case("preset", [](R report, C) { return report.workload.preset; }),
      of_case("context", [](R report, C) { return report.workload.context.median; }),
      of_case("date", [](R report, C) { return report.environment.timestamp_utc; }),
      of_case("version", [text](R report, C) { return text(report.tool_version); }),
      of_case("commit",
              [](R report, C) {
                const ReportBuild& build = report.environment.build;
                return build.commit.empty() ? std::string() : build.commit + (build.changed ? "-dirty" : "");
              }),
      of_case("machine", [text](R report, C) { return text(report.environment.cpu); }),
      of_quality("recall_median", [](Q quality) { return quality.recall.median; }),
      of_quality("worst_row", [](Q quality) { return quality.recall.worst_row; }),
      of_case("host", [](R report, C) { return report.environment.host; }),
      of_case("load_average", [](R report, C) { return report.environment.load_average; }),
      of_case("top_k_used", [](R, C one) { return one.used.top_k; }),
      of_quality("reference_needle_hit_rate", [](Q quality) { return quality.reference_needle_hit_rate; }),
  };
}

}  // namespace

std::string write_csv(const Report& report) {
  const std::vector<Column> all = columns();
  std::string text;
  const auto add_row = [&](const std::function<std::string(const Column&)>& field) {
    for (std::size_t i = 0; i < all.size(); ++i) {
      if (i > 0) text += ',';
      text += field(all[i]);
    }
    text += "\r\n";
  };
  add_row([](const Column& column) { return std::string(column.name); });
  for (const ReportCase& one : report.cases) {
    for (const ReportStage& stage : one.stages) {
      add_row([&](const Column& column) { return column.text({report, one, &stage}); });
    }
    add_row([&](const Column& column) { return column.text({report, one, nullptr}); });
  }
  if (report.recorded_topk) {
    const ReportCase recorded = recorded_case(report);
    add_row([&](const Column& column) { return column.text({report, recorded, nullptr}); });
  }
  return text;
}

}  // namespace misa
