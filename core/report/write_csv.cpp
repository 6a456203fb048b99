#include <fmt/format.h>

#include <array>
#include <cstddef>

#include "core/report/text.hpp"
#include "core/report/writers.hpp"

namespace misa {
namespace {

/// Append only: readers may count on the place of a column.
constexpr std::array<std::string_view, 46> kColumns{"workload",
                                                    "phase",
                                                    "indexer",
                                                    "router",
                                                    "backend",
                                                    "threads",
                                                    "rows",
                                                    "heads",
                                                    "head_dim",
                                                    "keys",
                                                    "max_window",
                                                    "dtype",
                                                    "paged",
                                                    "top_k",
                                                    "active_heads",
                                                    "head_block_size_tokens",
                                                    "blocks",
                                                    "block_size_tokens",
                                                    "candidates",
                                                    "stage",
                                                    "median_ns",
                                                    "p10_ns",
                                                    "p90_ns",
                                                    "samples",
                                                    "flops",
                                                    "bytes",
                                                    "flops_per_second",
                                                    "bytes_per_second",
                                                    "ps_per_pair",
                                                    "share",
                                                    "roof_fraction",
                                                    "bound",
                                                    "speedup_over_dsa",
                                                    "closure_residual",
                                                    "recall_mean",
                                                    "recall_p1",
                                                    "recall_worst",
                                                    "iou",
                                                    "attention_mass",
                                                    "needle_hit_rate",
                                                    "cache",
                                                    "launch",
                                                    "sm_clock_min_hz",
                                                    "sm_clock_max_hz",
                                                    "sampled_keys",
                                                    "warnings"};

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

class Rows {
 public:
  void add(std::string_view text) { put(field_of(text)); }
  void add(i64 value) { put(fmt::format("{}", value)); }
  void add(double value) { put(exact_number(value)); }
  template <class T>
  void add(const std::optional<T>& value) {
    if (value) {
      add(*value);
    } else {
      put("");
    }
  }
  void add(const std::optional<std::string>& value) { add(std::string_view(value ? *value : std::string())); }
  void skip(int fields) {
    for (int i = 0; i < fields; ++i) put("");
  }
  void end_row() {
    text_ += "\r\n";
    first_ = true;
  }
  std::string text() && { return std::move(text_); }

 private:
  void put(std::string_view field) {
    if (!first_) text_ += ',';
    text_ += field;
    first_ = false;
  }

  std::string text_;
  bool first_ = true;
};

/// Every warning of the run, in every row: whoever reads some of the rows must not miss one.
std::string all_warnings(const Report& report) {
  std::vector<std::string> texts;
  for (const Warning& warning : report.warnings) texts.push_back(text_of(warning));
  return joined(texts, " | ");
}

void add_time(Rows& rows, const ReportTime& time) {
  for (double seconds : {time.median_s, time.p10_s, time.p90_s}) rows.add(whole_nanoseconds(seconds));
  rows.add(time.samples);
}

void add_case_columns(Rows& rows, const Report& report, const ReportCase& one) {
  rows.add(std::string_view(report.workload.name));
  rows.add(std::string_view(report.workload.phase));
  rows.add(std::string_view(one.indexer));
  rows.add(one.router);
  rows.add(std::string_view(one.backend));
  rows.add(one.threads);
  rows.add(one.shape.rows);
  rows.add(one.shape.heads);
  rows.add(one.shape.head_dim);
  rows.add(one.shape.keys);
  rows.add(one.shape.max_window);
  rows.add(std::string_view(one.shape.dtype));
  rows.add(std::string_view(one.shape.paged ? "true" : "false"));
  rows.add(one.parameters.top_k);
  rows.add(one.parameters.active_heads);
  rows.add(one.parameters.head_block_size);
  rows.add(one.parameters.blocks);
  rows.add(one.parameters.block_size);
  rows.add(one.parameters.candidates);
}

void add_measurement_columns(Rows& rows, const ReportMeasurement& measurement) {
  rows.add(std::string_view(measurement.cache));
  rows.add(std::string_view(measurement.launch));
  if (measurement.device) {
    rows.add(measurement.device->sm_clock_min_hz);
    rows.add(measurement.device->sm_clock_max_hz);
  } else {
    rows.skip(2);
  }
}

void add_stage_row(Rows& rows, const Report& report, const ReportCase& one, const ReportStage& stage) {
  add_case_columns(rows, report, one);
  rows.add(std::string_view(stage.name));
  add_time(rows, stage.time);
  rows.add(stage.flops);
  rows.add(stage.bytes);
  rows.add(stage.flops_per_second);
  rows.add(stage.bytes_per_second);
  std::optional<double> picoseconds = stage.seconds_per_pair;
  if (picoseconds) *picoseconds *= 1e12;
  rows.add(picoseconds);
  rows.add(stage.share);
  rows.add(stage.roof_fraction);
  rows.add(stage.bound);
  rows.skip(8);
  add_measurement_columns(rows, report.measurement);
  rows.add(one.parameters.sampled_keys);
  rows.add(std::string_view(all_warnings(report)));
  rows.end_row();
}

void add_end_to_end_row(Rows& rows, const Report& report, const ReportCase& one) {
  add_case_columns(rows, report, one);
  rows.add(std::string_view("end_to_end"));
  if (one.end_to_end) {
    add_time(rows, *one.end_to_end);
  } else {
    rows.skip(4);
  }
  rows.skip(4);
  std::optional<double> per_pair;
  if (one.end_to_end && report.workload.pairs > 0) {
    per_pair = one.end_to_end->median_s * 1e12 / static_cast<double>(report.workload.pairs);
  }
  rows.add(per_pair);
  rows.skip(3);
  rows.add(one.speedup_over_dsa);
  rows.add(one.closure_residual);
  if (one.quality) {
    rows.add(one.quality->recall.mean);
    rows.add(one.quality->recall.p1);
    rows.add(one.quality->recall.worst);
    rows.add(one.quality->iou);
    rows.add(one.quality->attention_mass);
    rows.add(one.quality->needle_hit_rate);
  } else {
    rows.skip(6);
  }
  add_measurement_columns(rows, report.measurement);
  rows.add(one.parameters.sampled_keys);
  rows.add(std::string_view(all_warnings(report)));
  rows.end_row();
}

}  // namespace

std::string write_csv(const Report& report) {
  Rows rows;
  for (std::string_view column : kColumns) rows.add(column);
  rows.end_row();
  for (const ReportCase& one : report.cases) {
    for (const ReportStage& stage : one.stages) add_stage_row(rows, report, one, stage);
    add_end_to_end_row(rows, report, one);
  }
  return std::move(rows).text();
}

}  // namespace misa
