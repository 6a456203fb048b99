#include "core/report/columns.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>

#include "core/report/describe.hpp"
#include "core/report/text.hpp"

namespace misa {
namespace {

using Row = const ReportRow&;

Value value(i64 number) { return number; }
Value value(double number) { return number; }
Value value(std::string text) { return text; }
Value value(std::string_view text) { return std::string(text); }
template <class T>
Value value(const std::optional<T>& held) {
  return held ? value(*held) : Value();
}

/// The time of a stage, or of the case end to end; null where that was not timed.
const Summary* timed(Row row) {
  if (row.stage) return &row.stage->seconds;
  return row.one.end_to_end ? &*row.one.end_to_end : nullptr;
}

Value nanoseconds(Row row, double Summary::*number) {
  return timed(row) ? value(whole_nanoseconds(timed(row)->*number)) : Value();
}

template <class Get>
Value stage_value(Row row, Get get) {
  return row.stage ? value(get(*row.stage)) : Value();
}

Value device_value(Row row, std::optional<double> DeviceRecord::*number) {
  const std::optional<DeviceRecord>& device = row.report.measurement.device;
  return device ? value((*device).*number) : Value();
}

template <class Get>
Value whole_value(Row row, Get get) {
  return row.stage ? Value() : value(get(row.one));
}

std::optional<double> seconds_per_pair(Row row) {
  if (row.stage) return row.stage->seconds_per_pair;
  if (!row.one.end_to_end || row.report.workload.pairs <= 0) return std::nullopt;
  return row.one.end_to_end->median / static_cast<double>(row.report.workload.pairs);
}

/// End to end: the sum over stages per second; empty when a stage has no cost.
std::optional<double> rate(const ReportCase& one, i64 StageCost::*amount) {
  if (!one.end_to_end || !(one.end_to_end->median > 0) || one.stages.empty()) return std::nullopt;
  double sum = 0;
  for (const ReportStage& stage : one.stages) {
    if (!stage.cost) return std::nullopt;
    sum += static_cast<double>((*stage.cost).*amount);
  }
  return sum / one.end_to_end->median;
}

/// Every warning of the run: whoever reads some of the rows must not miss one.
std::string all_warnings(const Report& report) {
  std::vector<std::string> texts;
  for (const Warning& warning : report.warnings) texts.push_back(text_of(warning));
  return joined(texts, " | ");
}

// Cells.

/// Ten columns, in eighths.
std::string bar(double share) {
  constexpr std::array<std::string_view, 8> kEighths{"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
  if (!std::isfinite(share)) return {};
  const auto eighths = static_cast<std::size_t>(std::lround(std::clamp(share, 0.0, 1.0) * 80));
  std::string text;
  for (std::size_t i = 0; i < eighths / 8; ++i) text += "█";
  return text + std::string(kEighths[eighths % 8]);
}

std::string ratio(double number) {
  return std::isfinite(number) ? fmt::format("{}×", short_number(number)) : std::string("n/a");
}

std::optional<double> number_of(const Value& shown) {
  const double* number = std::get_if<double>(&shown);
  return number ? std::optional(*number) : std::nullopt;
}

/// In the unit of the column.
Cell scaled(Row, const Value& shown, const SiPrefix& prefix) {
  const std::optional<double> number = number_of(shown);
  return {number ? short_number(*number / prefix.factor) : std::string("–")};
}

Cell quality_cell(Row row, const Value& shown, const SiPrefix&) {
  return {row.one.quality ? four_decimals(number_of(shown)) : ""};
}

/// The ratio to dsa. One that may be 1 is marked; one that was measured beside other work has no colour.
Cell speedup_cell(Row row, const Value&, const SiPrefix&) {
  if (!row.one.speedup) return {row.one.speedup_over_dsa ? ratio(*row.one.speedup_over_dsa) : ""};
  const std::string text = ratio(row.one.speedup->median);
  const SpeedupVerdict verdict = speedup_verdict(*row.one.speedup);
  if (verdict == SpeedupVerdict::too_few) return {text};
  if (verdict == SpeedupVerdict::inconclusive) return {"~" + text};
  if (row.report.measurement.loaded) return {text};
  return {text, verdict == SpeedupVerdict::faster ? Style::good : Style::bad};
}

Cell interval_cell(Row row, const Value&, const SiPrefix&) {
  if (!row.one.speedup) return {};
  const PairedRatio& speedup = *row.one.speedup;
  if (!speedup.low || !speedup.high) return {"too few", Style::caution};
  return {fmt::format("{}–{}", short_number(*speedup.low), short_number(*speedup.high)), Style::faint};
}

// Why a number of quality is not known.
std::string_view no_rows(const Quality&) { return kNoTokenSeen; }
std::string_view no_mass(const Quality& quality) {
  return quality.rows == 0 ? kNoTokenSeen : "the workload records no main attention";
}
std::string_view no_needles(const Quality&) { return "the workload has no needles"; }
std::string_view no_reason(const Quality&) { return ""; }

constexpr Table kStages = Table::stages, kSummary = Table::summary;

/// Columns with a name are those of CSV. Append them only: readers may count on the place of a column.
constexpr std::array kColumns{
    Column{.name = "workload", .value = [](Row row) { return value(row.report.workload.name); }},
    Column{.name = "phase", .value = [](Row row) { return value(row.report.workload.phase); }},
    Column{.name = "indexer", .value = [](Row row) { return value(row.one.spec.name); }},
    Column{.name = "router", .value = [](Row row) { return value(router_of(row.one.spec)); }},
    Column{.name = "backend", .value = [](Row row) { return value(row.one.backend); }},
    Column{.name = "threads", .value = [](Row row) { return value(row.one.threads); }},
    Column{.name = "rows", .value = [](Row row) { return value(row.one.shape.rows); }},
    Column{.name = "heads", .value = [](Row row) { return value(row.one.shape.heads); }},
    Column{.name = "head_dim", .value = [](Row row) { return value(row.one.shape.head_dim); }},
    Column{.name = "keys", .value = [](Row row) { return value(row.one.shape.keys); }},
    Column{.name = "max_window", .value = [](Row row) { return value(row.one.shape.max_window); }},
    Column{.name = "dtype", .value = [](Row row) { return value(dtype_name(row.one.shape.dtype)); }},
    Column{.name = "paged",
           .value = [](Row row) { return value(std::string_view(row.one.shape.paged ? "true" : "false")); }},
    Column{.name = "top_k", .value = [](Row row) { return value(row.one.spec.top_k); }},
    Column{.name = "active_heads", .value = [](Row row) { return value(parameters_of(row.one.used).active_heads); }},
    Column{.name = "head_block_size_tokens",
           .value = [](Row row) { return value(parameters_of(row.one.used).head_block_size); }},
    Column{.name = "blocks", .value = [](Row row) { return value(parameters_of(row.one.used).blocks); }},
    Column{.name = "block_size_tokens", .value = [](Row row) { return value(parameters_of(row.one.used).block_size); }},
    Column{.name = "candidates", .value = [](Row row) { return value(parameters_of(row.one.used).candidates); }},
    Column{.name = "stage",
           .value = [](Row row) { return value(row.stage ? stage_set_name(row.stage->stages) : "end_to_end"); },
           .table = kStages,
           .place = 0,
           .right = false,
           .cell =
               [](Row row, const Value&, const SiPrefix&) {
                 const std::string what = row.stage ? stage_set_name(row.stage->stages) : "end to end";
                 return Cell{row.titled ? what : case_name(row.report, row.one) + ": " + what,
                             row.stage ? Style::plain : Style::strong};
               }},
    Column{.name = "median_ns",
           .value = [](Row row) { return nanoseconds(row, &Summary::median); },
           .table = kStages,
           .place = 10,
           .title = "median",
           .cell =
               [](Row row, const Value&, const SiPrefix&) {
                 return Cell{si_number(timed(row)->median, "s"), row.stage ? Style::plain : Style::strong};
               }},
    Column{.name = "p10_ns", .value = [](Row row) { return nanoseconds(row, &Summary::p10); }},
    Column{.name = "p90_ns",
           .value = [](Row row) { return nanoseconds(row, &Summary::p90); },
           .table = kStages,
           .place = 20,
           .title = "p10–p90",
           .drop = 3,
           .cell =
               [](Row row, const Value&, const SiPrefix&) {
                 return Cell{si_range(timed(row)->p10, timed(row)->p90, "s"), Style::faint};
               }},
    Column{.name = "samples", .value = [](Row row) { return timed(row) ? value(timed(row)->samples) : Value(); }},
    Column{.name = "flops",
           .value = [](Row row) { return row.stage && row.stage->cost ? value(row.stage->cost->flops) : Value(); }},
    Column{.name = "bytes",
           .value = [](Row row) { return row.stage && row.stage->cost ? value(row.stage->cost->bytes) : Value(); }},
    Column{
        .name = "flops_per_second",
        .value = [](Row row) { return stage_value(row, [](auto& stage) { return stage.flops_per_second; }); },
        .table = kStages,
        .place = 50,
        .unit = "FLOP/s",
        .drop = 4,
        .shown =
            [](Row row) { return value(row.stage ? row.stage->flops_per_second : rate(row.one, &StageCost::flops)); },
        .cell = scaled},
    Column{
        .name = "bytes_per_second",
        .value = [](Row row) { return stage_value(row, [](auto& stage) { return stage.bytes_per_second; }); },
        .table = kStages,
        .place = 60,
        .unit = "B/s",
        .drop = 5,
        .shown =
            [](Row row) { return value(row.stage ? row.stage->bytes_per_second : rate(row.one, &StageCost::bytes)); },
        .cell = scaled},
    Column{.name = "ps_per_pair",
           .value =
               [](Row row) {
                 if (row.stage) {
                   return row.stage->seconds_per_pair ? value(*row.stage->seconds_per_pair * 1e12) : Value();
                 }
                 if (!seconds_per_pair(row)) return Value();
                 return value(row.one.end_to_end->median * 1e12 / static_cast<double>(row.report.workload.pairs));
               },
           .table = kStages,
           .place = 70,
           .unit = "s/pair",
           .drop = 1,
           .shown = [](Row row) { return value(seconds_per_pair(row)); },
           .cell = scaled},
    Column{.name = "share",
           .value = [](Row row) { return stage_value(row, [](auto& stage) { return stage.share; }); },
           .table = kStages,
           .place = 40,
           .title = "share",
           .drop = 2,
           .cell = [](Row, const Value& shown,
                      const SiPrefix&) { return Cell{number_of(shown) ? percent(*number_of(shown)) : ""}; }},
    Column{.name = "roof_fraction",
           .value =
               [](Row row) {
                 return stage_value(row, [](auto& stage) {
                   return stage.roofline && !stage.roof_doubt ? std::optional(stage.roofline->fraction) : std::nullopt;
                 });
               },
           .table = kStages,
           .place = 80,
           .title = "% roof",
           .cell =
               [](Row row, const Value& shown, const SiPrefix&) {
                 if (!row.stage) return Cell{};
                 return Cell{number_of(shown) ? short_number(100 * *number_of(shown)) : "–"};
               }},
    Column{
        .name = "bound",
        .value =
            [](Row row) {
              return stage_value(row, [](auto& stage) {
                return stage.roofline ? std::optional(bound_name(stage.roofline->bound)) : std::nullopt;
              });
            },
        .table = kStages,
        .place = 90,
        .title = "bound",
        .right = false,
        .cell =
            [](Row row, const Value&, const SiPrefix&) {
              if (!row.stage) return Cell{};
              if (row.stage->roof_doubt) return Cell{std::string(doubt_name(*row.stage->roof_doubt)), Style::caution};
              return Cell{row.stage->roofline ? std::string(bound_name(row.stage->roofline->bound)) : "", Style::faint};
            }},
    Column{.name = "speedup_over_dsa",
           .value = [](Row row) { return whole_value(row, [](auto& one) { return one.speedup_over_dsa; }); },
           .table = kSummary,
           .place = 20,
           .title = "vs dsa",
           .cell = speedup_cell},
    Column{.name = "closure_residual",
           .value = [](Row row) { return whole_value(row, [](auto& one) { return one.closure_residual; }); }},
    Column{.name = "recall_mean",
           .of_quality = [](const Quality& quality) { return value(quality.recall.mean); },
           .json = "recall.mean",
           .missing = no_rows,
           .table = kSummary,
           .place = 40,
           .title = "recall",
           .cell =
               [](Row row, const Value& shown, const SiPrefix& prefix) {
                 return row.one.quality ? quality_cell(row, shown, prefix) : Cell{"–", Style::faint};
               }},
    Column{.name = "recall_p1",
           .of_quality = [](const Quality& quality) { return value(quality.recall.p1); },
           .json = "recall.p1",
           .missing = no_rows,
           .table = kSummary,
           .place = 60,
           .title = "p1",
           .drop = 3,
           .cell = quality_cell},
    Column{.name = "recall_worst",
           .of_quality = [](const Quality& quality) { return value(quality.recall.worst); },
           .json = "recall.worst",
           .missing = no_rows,
           .table = kSummary,
           .place = 70,
           .title = "worst",
           .drop = 1,
           .cell = quality_cell},
    Column{.name = "iou",
           .of_quality = [](const Quality& quality) { return value(quality.iou); },
           .json = "iou",
           .missing = no_rows,
           .table = kSummary,
           .place = 80,
           .title = "IoU",
           .drop = 5,
           .cell = quality_cell},
    Column{.name = "attention_mass",
           .of_quality = [](const Quality& quality) { return value(quality.attention_mass); },
           .json = "attention_mass",
           .missing = no_mass,
           .table = kSummary,
           .place = 90,
           .title = "mass",
           .drop = 2,
           .cell = [](Row, const Value& shown,
                      const SiPrefix&) { return Cell{number_of(shown) ? four_decimals(number_of(shown)) : ""}; }},
    Column{.name = "needle_hit_rate",
           .of_quality = [](const Quality& quality) { return value(quality.needle_hit_rate); },
           .json = "needle_hit_rate",
           .missing = no_needles,
           .table = kSummary,
           .place = 130,
           .title = "needles",
           .drop = 2,
           .cell =
               [](Row row, const Value& shown, const SiPrefix&) {
                 const bool shows = row.one.quality && row.one.quality->shows_needles();
                 return Cell{shows ? percent(*number_of(shown)) : ""};
               }},
    Column{.name = "cache", .value = [](Row row) { return value(row.report.measurement.cache); }},
    Column{.name = "launch", .value = [](Row row) { return value(row.report.measurement.launch); }},
    Column{.name = "sm_clock_min_hz",
           .value = [](Row row) { return device_value(row, &DeviceRecord::sm_clock_min_hz); }},
    Column{.name = "sm_clock_max_hz",
           .value = [](Row row) { return device_value(row, &DeviceRecord::sm_clock_max_hz); }},
    Column{.name = "sampled_keys", .value = [](Row row) { return value(parameters_of(row.one.used).sampled_keys); }},
    Column{.name = "warnings", .value = [](Row row) { return value(all_warnings(row.report)); }},
    Column{.name = "roof_doubt",
           .value =
               [](Row row) {
                 return row.stage && row.stage->roof_doubt ? value(doubt_name(*row.stage->roof_doubt)) : Value();
               }},
    Column{.name = "closure_doubt",
           .value =
               [](Row row) {
                 return !row.stage && row.one.closure_doubt ? value(doubt_name(*row.one.closure_doubt)) : Value();
               }},
    Column{.name = "speedup_median",
           .value = [](Row row) { return !row.stage && row.one.speedup ? value(row.one.speedup->median) : Value(); }},
    Column{.name = "speedup_low",
           .value = [](Row row) { return !row.stage && row.one.speedup ? value(row.one.speedup->low) : Value(); },
           .table = kSummary,
           .place = 30,
           .title = "95 %",
           .drop = 1,
           .cell = interval_cell},
    Column{.name = "speedup_high",
           .value = [](Row row) { return !row.stage && row.one.speedup ? value(row.one.speedup->high) : Value(); }},
    Column{.name = "speedup_verdict",
           .value =
               [](Row row) {
                 if (row.stage || !row.one.speedup) return Value();
                 return value(speedup_verdict_name(speedup_verdict(*row.one.speedup)));
               }},
    Column{.name = "loaded",
           .value =
               [](Row row) {
                 if (!row.report.measurement.contention) return Value();
                 return value(std::string_view(row.report.measurement.loaded ? "true" : "false"));
               }},
    Column{.name = "seed", .value = [](Row row) { return value(row.report.workload.seed); }},
    Column{.name = "preset", .value = [](Row row) { return value(row.report.workload.preset); }},
    Column{.name = "context", .value = [](Row row) { return value(row.report.workload.context.median); }},
    Column{.name = "date", .value = [](Row row) { return value(row.report.environment.timestamp_utc); }},
    Column{.name = "version", .value = [](Row row) { return value(row.report.tool_version); }},
    Column{.name = "commit",
           .value =
               [](Row row) {
                 const ReportBuild& build = row.report.environment.build;
                 return build.commit.empty() ? Value() : value(build.commit + (build.changed ? "-dirty" : ""));
               }},
    Column{.name = "machine", .value = [](Row row) { return value(row.report.environment.machine.cpu); }},
    Column{.name = "recall_median",
           .of_quality = [](const Quality& quality) { return value(quality.recall.median); },
           .json = "recall.median",
           .missing = no_rows,
           .table = kSummary,
           .place = 50,
           .title = "median",
           .drop = 4,
           .cell = quality_cell},
    Column{.name = "worst_row",
           .of_quality = [](const Quality& quality) { return value(quality.recall.worst_row); },
           .json = "recall.worst_row",
           .missing = no_reason,
           .place = 71},
    Column{.name = "host", .value = [](Row row) { return value(row.report.environment.host); }},
    Column{.name = "load_average", .value = [](Row row) { return value(row.report.environment.load_average); }},
    Column{.name = "top_k_used", .value = [](Row row) { return value(row.one.used.top_k); }},
    Column{.name = "reference_needle_hit_rate",
           .of_quality = [](const Quality& quality) { return value(quality.reference_needle_hit_rate); },
           .json = "reference_needle_hit_rate",
           .missing = no_needles,
           .place = 160},

    // Not in CSV.
    Column{.of_quality = [](const Quality& quality) { return value(quality.rows); },
           .json = "rows",
           .missing = no_reason,
           .place = 1},
    Column{.of_quality = [](const Quality& quality) { return value(quality.attention_mass_absolute); },
           .json = "attention_mass_absolute",
           .missing = no_mass,
           .place = 100},
    Column{.of_quality = [](const Quality& quality) { return value(quality.reference_attention_mass); },
           .json = "reference_attention_mass",
           .missing = no_mass,
           .place = 110},
    Column{.of_quality = [](const Quality& quality) { return value(quality.attention_rows); },
           .json = "attention_mass_rows",
           .missing = no_reason,
           .place = 120},
    Column{.of_quality = [](const Quality& quality) { return value(quality.needle_cells); },
           .json = "needle_cells",
           .missing = no_reason,
           .place = 140},
    Column{.of_quality = [](const Quality& quality) { return value(quality.needle_answer_cells); },
           .json = "needle_answer_cells",
           .missing = no_reason,
           .place = 150},
    Column{.value = [](Row) { return Value(); },
           .table = kStages,
           .place = 30,
           .right = false,
           .drop = 6,
           .cell =
               [](Row row, const Value&, const SiPrefix&) {
                 const bool shows = row.titled && row.stage && row.stage->share;
                 return Cell{shows ? bar(*row.stage->share) : "", Style::accent};
               }},
    Column{.value = [](Row) { return Value(); },
           .table = kSummary,
           .place = 0,
           .title = "indexer",
           .right = false,
           .cell =
               [](Row row, const Value&, const SiPrefix&) {
                 return Cell{case_name(row.report, row.one), Style::strong};
               }},
    Column{.value = [](Row) { return Value(); },
           .table = kSummary,
           .place = 10,
           .title = "end to end",
           .cell =
               [](Row row, const Value&, const SiPrefix&) {
                 return Cell{row.one.end_to_end ? si_number(row.one.end_to_end->median, "s") : "not timed"};
               }},
};

template <class Keep>
std::vector<const Column*> placed_columns(Keep keep) {
  std::vector<const Column*> kept;
  for (const Column& column : kColumns) {
    if (keep(column)) kept.push_back(&column);
  }
  std::sort(kept.begin(), kept.end(), [](const Column* a, const Column* b) { return a->place < b->place; });
  return kept;
}

}  // namespace

std::span<const Column> columns() { return kColumns; }

std::vector<const Column*> columns_of(Table table) {
  return placed_columns([&](const Column& column) { return column.table == table; });
}

std::vector<const Column*> quality_columns() {
  return placed_columns([](const Column& column) { return !column.json.empty(); });
}

Value value_of(const Column& column, const ReportRow& row) {
  if (!column.of_quality) return column.value(row);
  return row.stage || !row.one.quality ? Value() : column.of_quality(*row.one.quality);
}

Value shown_of(const Column& column, const ReportRow& row) {
  return column.shown ? column.shown(row) : value_of(column, row);
}

}  // namespace misa
