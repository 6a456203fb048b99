#include "core/report/columns.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>

#include "core/report/writers.hpp"

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

Value flag(bool set) { return std::string(set ? "true" : "false"); }
Value name_of(const std::optional<Doubt>& doubt) { return doubt ? value(doubt_name(*doubt)) : Value(); }

std::string stage_or(Row row, const char* whole) { return row.stage ? stage_set_name(row.stage->stages) : whole; }

Value of_stage(Row row, std::optional<double> ReportStage::*number) {
  return row.stage ? value(row.stage->*number) : Value();
}

Value of_whole(Row row, std::optional<double> ReportCase::*number) {
  return row.stage ? Value() : value(row.one.*number);
}

template <class Get>
Value of_speedup(Row row, Get get) {
  return !row.stage && row.one.speedup ? get(*row.one.speedup) : Value();
}

template <class Get>
Value of_base_speedup(Row row, Get get) {
  return !row.stage && row.one.base_speedup ? get(*row.one.base_speedup) : Value();
}

std::string kernels_of(Row row) {
  std::vector<std::string> names;
  if (row.stage) {
    for (const KernelRun& one : row.stage->kernels) names.emplace_back(one.kernel);
  }
  return joined(names, ", ");
}

Value device_value(Row row, std::optional<double> DeviceRecord::*number) {
  const std::optional<DeviceRecord>& device = row.report.measurement.device;
  return device ? value((*device).*number) : Value();
}

std::optional<double> seconds_per_pair(Row row) {
  if (row.stage) return row.stage->seconds_per_pair;
  if (!row.one.end_to_end || row.report.workload.pairs <= 0) return std::nullopt;
  return row.one.end_to_end->median / static_cast<double>(row.report.workload.pairs);
}

/// End to end: the sum over stages per second; empty when a stage has no cost.
Value rate(Row row, std::optional<double> ReportStage::*of_one, i64 StageCost::*amount) {
  if (row.stage) return value(row.stage->*of_one);
  const ReportCase& one = row.one;
  if (!one.end_to_end || !(one.end_to_end->median > 0) || one.stages.empty()) return {};
  double sum = 0;
  for (const ReportStage& stage : one.stages) {
    if (!stage.cost) return {};
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

/// A ratio to what was timed beside. One that may be 1 is marked; one that was measured beside other work has no
/// colour.
Cell ratio_cell(Row row, const std::optional<double>& of_medians, const std::optional<PairedRatio>& speedup) {
  if (!speedup) return {of_medians ? ratio(*of_medians) : ""};
  const std::string text = ratio(speedup->median);
  const SpeedupVerdict verdict = speedup_verdict(*speedup);
  if (verdict == SpeedupVerdict::too_few) return {text};
  if (verdict == SpeedupVerdict::inconclusive) return {"~" + text};
  if (row.report.measurement.loaded) return {text};
  return {text, verdict == SpeedupVerdict::faster ? Style::good : Style::bad};
}

Cell speedup_cell(Row row, const Value&, const SiPrefix&) {
  return ratio_cell(row, row.one.speedup_over_dsa, row.one.speedup);
}
Cell base_cell(Row row, const Value&, const SiPrefix&) {
  return ratio_cell(row, row.one.speedup_over_base, row.one.base_speedup);
}

Cell interval_of(const std::optional<PairedRatio>& speedup) {
  if (!speedup) return {};
  if (!speedup->low || !speedup->high) return {"too few", Style::caution};
  return {fmt::format("{}–{}", short_number(*speedup->low), short_number(*speedup->high)), Style::faint};
}
Cell change_cell(Row row, const Value&, const SiPrefix&) {
  if (!row.one.change) return {};
  return {fmt::format("{:.3f}", row.one.change->ratio)};
}
Cell change_interval_cell(Row row, const Value&, const SiPrefix&) {
  if (!row.one.change) return {};
  const std::optional<RatioInterval>& interval = row.one.change->interval;
  if (!interval) return {"–", Style::caution};
  return {fmt::format("{:.3f}–{:.3f}", interval->low, interval->high), Style::faint};
}
Cell change_verdict_cell(Row row, const Value& shown, const SiPrefix&) {
  if (!row.one.change) return {};
  const Change change = row.one.change->change;
  const Style style = change == Change::faster   ? Style::good
                      : change == Change::slower ? Style::bad
                      : change == Change::same   ? Style::plain
                                                 : Style::caution;
  return {std::get<std::string>(shown), style};
}

/// A number or a word of what side B is beside side A.
template <class Get>
Value of_change(Row row, Get get) {
  return !row.stage && row.one.change ? get(*row.one.change) : Value();
}

Cell interval_cell(Row row, const Value&, const SiPrefix&) { return interval_of(row.one.speedup); }
Cell base_interval_cell(Row row, const Value&, const SiPrefix&) { return interval_of(row.one.base_speedup); }

// Why a number of quality is not known.
std::string_view no_rows(const Quality&) { return kNoTokenSeen; }
std::string_view no_mass(const Quality& quality) {
  return quality.rows == 0 ? kNoTokenSeen : "the workload records no main attention";
}
std::string_view none_free(const Quality& quality) {
  return quality.rows == 0 ? kNoTokenSeen : "no row could choose a token";
}
std::string_view no_needles(const Quality&) { return "the workload has no needles"; }
std::string_view no_reason(const Quality&) { return ""; }

// Cells of stages; numbers in one unit are `scaled`.

Cell stage_cell(Row row, const Value&, const SiPrefix&) {
  const std::string what = stage_or(row, "end to end");
  return {row.titled ? what : case_name(row.report, row.one) + ": " + what, row.stage ? Style::plain : Style::strong};
}

Cell median_cell(Row row, const Value&, const SiPrefix&) {
  return {si_number(timed(row)->median, "s"), row.stage ? Style::plain : Style::strong};
}

Cell spread_cell(Row row, const Value&, const SiPrefix&) {
  return {si_range(timed(row)->p10, timed(row)->p90, "s"), Style::faint};
}

Cell bar_cell(Row row, const Value&, const SiPrefix&) {
  const bool shows = row.titled && row.stage && row.stage->share;
  return {shows ? bar(*row.stage->share) : "", Style::accent};
}

Cell share_cell(Row, const Value& shown, const SiPrefix&) {
  return {number_of(shown) ? percent(*number_of(shown)) : ""};
}

Cell roof_cell(Row row, const Value& shown, const SiPrefix&) {
  if (!row.stage) return {};
  return {number_of(shown) ? short_number(100 * *number_of(shown)) : "–"};
}

Cell bound_cell(Row row, const Value&, const SiPrefix&) {
  if (!row.stage) return {};
  if (row.stage->roof_doubt) return {std::string(doubt_name(*row.stage->roof_doubt)), Style::caution};
  if (!row.stage->roofline) return {};
  const Roofline& roofline = *row.stage->roofline;
  // Which peak, where it is not that of the workload's elements.
  const bool other = roofline.bound == Bound::compute && roofline.peak != row.report.workload.dtype;
  return {std::string(other ? dtype_name(roofline.peak) : bound_name(roofline.bound)), Style::faint};
}

/// Beside a plug-in only: one backend's kernels are the same in every report.
Cell kernel_cell(Row row, const Value& shown, const SiPrefix&) {
  const std::string* names = std::get_if<std::string>(&shown);
  return {row.report.environment.backends.size() > 1 && names ? printable(*names) : "", Style::faint};
}

// Cells of the summary.

Cell indexer_cell(Row row, const Value&, const SiPrefix&) { return {case_name(row.report, row.one), Style::strong}; }

Cell whole_cell(Row row, const Value&, const SiPrefix&) {
  return {row.one.end_to_end ? si_number(row.one.end_to_end->median, "s") : "not timed"};
}

Cell recall_cell(Row row, const Value& shown, const SiPrefix& prefix) {
  return row.one.quality ? quality_cell(row, shown, prefix) : Cell{"–", Style::faint};
}

/// With the row's number: "0.4803 (17)".
Cell worst_cell(Row row, const Value& shown, const SiPrefix& prefix) {
  Cell cell = quality_cell(row, shown, prefix);
  if (row.one.quality && row.one.quality->recall.worst_row) {
    cell.text += fmt::format(" ({})", *row.one.quality->recall.worst_row);
  }
  return cell;
}

Cell mass_cell(Row, const Value& shown, const SiPrefix&) {
  return {number_of(shown) ? four_decimals(number_of(shown)) : ""};
}

/// Shows a rate over what was free to choose; blank where nothing was forced.
Cell free_cell(Row row, const Value& shown, const SiPrefix&) {
  return {row.one.quality && row.one.quality->forced.any() ? four_decimals(number_of(shown)) : ""};
}

Cell needle_cell(Row row, const Value& shown, const SiPrefix&) {
  const bool shows = row.one.quality && row.one.quality->shows_needles();
  return {shows ? percent(*number_of(shown)) : ""};
}

// Values that take more than a line.

Value ps_per_pair(Row row) {
  if (row.stage) return row.stage->seconds_per_pair ? value(*row.stage->seconds_per_pair * 1e12) : Value();
  if (!seconds_per_pair(row)) return {};
  return row.one.end_to_end->median * 1e12 / static_cast<double>(row.report.workload.pairs);
}

Value roof_fraction(Row row) {
  const bool known = row.stage && row.stage->roofline && !row.stage->roof_doubt;
  return known ? value(row.stage->roofline->fraction) : Value();
}

Value bound(Row row) {
  return row.stage && row.stage->roofline ? value(bound_name(row.stage->roofline->bound)) : Value();
}

Value commit(Row row) {
  const ReportBuild& build = row.report.environment.build;
  return build.commit.empty() ? Value() : value(build.commit + (build.changed ? "-dirty" : ""));
}

// How a column is made.

constexpr Column csv(std::string_view name, Value (*value)(Row)) { return {.name = name, .value = value}; }

/// A number of quality: `name` in CSV, or in none, `json` in JSON, at `place` there and in the summary.
template <auto Number>
constexpr Column quality(std::string_view name, std::string_view json, int place, decltype(Column::missing) missing) {
  const auto number = [](const Quality& rated) { return value(rated.*Number); };
  return {.name = name, .of_quality = number, .json = json, .missing = missing, .place = place};
}
/// The same of recall.
template <auto Number>
constexpr Column recall(std::string_view name, std::string_view json, int place, decltype(Column::missing) missing) {
  Column column = quality<&Quality::rows>(name, json, place, missing);
  column.of_quality = [](const Quality& rated) { return value(rated.recall.*Number); };
  return column;
}

/// Makes a column of a rate over what was free to choose. JSON has it only where something was forced.
constexpr Column free_quality(std::string_view name, std::string_view json, int place,
                              Value (*number)(const Quality& rated)) {
  return {.name = name, .of_quality = number, .json = json, .missing = none_free, .of_free = true, .place = place};
}
template <auto Number>
constexpr Column free_recall(std::string_view name, std::string_view json, int place) {
  return free_quality(name, json, place, [](const Quality& rated) {
    return rated.forced.any() ? value(rated.free_recall.*Number) : Value();
  });
}

constexpr Column in_summary(std::string_view title, decltype(Column::cell) cell, int drop, Column column) {
  column.table = Table::summary, column.title = title, column.cell = cell, column.drop = drop;
  return column;
}

constexpr Column in_stages(int place, Column column, std::string_view title, decltype(Column::cell) cell,
                           int drop = 0) {
  column.table = Table::stages, column.place = place, column.title = title, column.cell = cell, column.drop = drop;
  return column;
}

/// A column of stages whose numbers share a prefix, and are `shown` end to end too.
constexpr Column in_unit(int place, Column column, std::string_view unit, int drop, Value (*shown)(Row)) {
  column = in_stages(place, column, "", scaled, drop);
  column.unit = unit, column.shown = shown;
  return column;
}

constexpr Column left(Column column) {
  column.right = false;
  return column;
}

constexpr Column at(int place, Column column) {
  column.place = place;
  return column;
}

/// Of columns that only people see.
constexpr Column kNoValue = csv("", [](Row) { return Value(); });

/// Columns with a name are those of CSV. Append them only: readers may count on the place of a column.
constexpr std::array kColumns{
    csv("workload", [](Row row) { return value(row.report.workload.name); }),
    csv("phase", [](Row row) { return value(row.report.workload.phase); }),
    csv("indexer", [](Row row) { return value(row.one.spec.name); }),
    csv("router", [](Row row) { return value(router_of(row.one.spec)); }),
    csv("backend", [](Row row) { return value(row.one.backend); }),
    csv("threads", [](Row row) { return value(row.one.threads); }),
    csv("rows", [](Row row) { return value(row.one.shape.rows); }),
    csv("heads", [](Row row) { return value(row.one.shape.heads); }),
    csv("head_dim", [](Row row) { return value(row.one.shape.head_dim); }),
    csv("keys", [](Row row) { return value(row.one.shape.keys); }),
    csv("max_window", [](Row row) { return value(row.one.shape.max_window); }),
    csv("dtype", [](Row row) { return value(dtype_name(row.one.shape.dtype)); }),
    csv("paged", [](Row row) { return flag(row.one.shape.paged); }),
    csv("top_k", [](Row row) { return value(row.one.spec.top_k); }),
    csv("active_heads", [](Row row) { return value(parameters_of(row.one.used).active_heads); }),
    csv("head_block_size_tokens", [](Row row) { return value(parameters_of(row.one.used).head_block_size); }),
    csv("blocks", [](Row row) { return value(parameters_of(row.one.used).blocks); }),
    csv("block_size_tokens", [](Row row) { return value(parameters_of(row.one.used).block_size); }),
    csv("candidates", [](Row row) { return value(parameters_of(row.one.used).candidates); }),
    left(in_stages(0, csv("stage", [](Row row) { return value(stage_or(row, "end_to_end")); }), "", stage_cell)),
    in_stages(10, csv("median_ns", [](Row row) { return nanoseconds(row, &Summary::median); }), "median", median_cell),
    csv("p10_ns", [](Row row) { return nanoseconds(row, &Summary::p10); }),
    in_stages(20, csv("p90_ns", [](Row row) { return nanoseconds(row, &Summary::p90); }), "p10–p90", spread_cell, 3),
    csv("samples", [](Row row) { return timed(row) ? value(timed(row)->samples) : Value(); }),
    csv("flops", [](Row row) { return row.stage && row.stage->cost ? value(row.stage->cost->flops) : Value(); }),
    csv("bytes", [](Row row) { return row.stage && row.stage->cost ? value(row.stage->cost->bytes) : Value(); }),
    in_unit(50, csv("flops_per_second", [](Row row) { return of_stage(row, &ReportStage::flops_per_second); }),
            "FLOP/s", 4, [](Row row) { return rate(row, &ReportStage::flops_per_second, &StageCost::flops); }),
    in_unit(60, csv("bytes_per_second", [](Row row) { return of_stage(row, &ReportStage::bytes_per_second); }), "B/s",
            5, [](Row row) { return rate(row, &ReportStage::bytes_per_second, &StageCost::bytes); }),
    in_unit(70, csv("ps_per_pair", ps_per_pair), "s/pair", 1, [](Row row) { return value(seconds_per_pair(row)); }),
    in_stages(40, csv("share", [](Row row) { return of_stage(row, &ReportStage::share); }), "share", share_cell, 2),
    in_stages(80, csv("roof_fraction", roof_fraction), "% roof", roof_cell),
    left(in_stages(90, csv("bound", bound), "bound", bound_cell)),
    in_summary("vs dsa", speedup_cell, 0,
               at(20, csv("speedup_over_dsa", [](Row row) { return of_whole(row, &ReportCase::speedup_over_dsa); }))),
    csv("closure_residual", [](Row row) { return of_whole(row, &ReportCase::closure_residual); }),
    in_summary("recall", recall_cell, 0, recall<&Recall::mean>("recall_mean", "recall.mean", 40, no_rows)),
    in_summary("p1", quality_cell, 3, recall<&Recall::p1>("recall_p1", "recall.p1", 60, no_rows)),
    in_summary("worst row", worst_cell, 1, recall<&Recall::worst>("recall_worst", "recall.worst", 70, no_rows)),
    in_summary("IoU", quality_cell, 5, quality<&Quality::iou>("iou", "iou", 80, no_rows)),
    in_summary("mass", mass_cell, 2,
               quality<&Quality::attention_mass>("attention_mass", "attention_mass", 90, no_mass)),
    in_summary("needles", needle_cell, 2,
               quality<&Quality::needle_hit_rate>("needle_hit_rate", "needle_hit_rate", 130, no_needles)),
    csv("cache", [](Row row) { return value(row.report.measurement.cache); }),
    csv("launch", [](Row row) { return value(row.report.measurement.launch); }),
    csv("sm_clock_min_hz", [](Row row) { return device_value(row, &DeviceRecord::sm_clock_min_hz); }),
    csv("sm_clock_max_hz", [](Row row) { return device_value(row, &DeviceRecord::sm_clock_max_hz); }),
    csv("sampled_keys", [](Row row) { return value(parameters_of(row.one.used).sampled_keys); }),
    csv("warnings", [](Row row) { return value(all_warnings(row.report)); }),
    csv("roof_doubt", [](Row row) { return row.stage ? name_of(row.stage->roof_doubt) : Value(); }),
    csv("closure_doubt", [](Row row) { return row.stage ? Value() : name_of(row.one.closure_doubt); }),
    csv("speedup_median", [](Row row) { return of_speedup(row, [](auto& speedup) { return value(speedup.median); }); }),
    in_summary("95 %", interval_cell, 1,
               at(30, csv("speedup_low",
                          [](Row row) { return of_speedup(row, [](auto& speedup) { return value(speedup.low); }); }))),
    csv("speedup_high", [](Row row) { return of_speedup(row, [](auto& speedup) { return value(speedup.high); }); }),
    csv("speedup_verdict",
        [](Row row) {
          return of_speedup(row, [](auto& speedup) { return value(speedup_verdict_name(speedup_verdict(speedup))); });
        }),
    csv("loaded",
        [](Row row) {
          const ReportMeasurement& measurement = row.report.measurement;
          return measurement.contention ? flag(measurement.loaded.has_value()) : Value();
        }),
    csv("seed", [](Row row) { return value(row.report.workload.seed); }),
    csv("preset", [](Row row) { return value(row.report.workload.preset); }),
    csv("context", [](Row row) { return value(row.report.workload.context.median); }),
    csv("date", [](Row row) { return value(row.report.environment.timestamp_utc); }),
    csv("version", [](Row row) { return value(row.report.tool_version); }),
    csv("commit", commit),
    csv("machine", [](Row row) { return value(row.report.environment.machine.cpu); }),
    in_summary("median", quality_cell, 4, recall<&Recall::median>("recall_median", "recall.median", 50, no_rows)),
    recall<&Recall::worst_row>("worst_row", "recall.worst_row", 71, no_reason),
    csv("host", [](Row row) { return value(row.report.environment.host); }),
    csv("load_average", [](Row row) { return value(row.report.environment.load_average); }),
    csv("top_k_used", [](Row row) { return value(row.one.used.top_k); }),
    quality<&Quality::reference_needle_hit_rate>("reference_needle_hit_rate", "reference_needle_hit_rate", 160,
                                                 no_needles),
    left(in_stages(100, csv("kernel", [](Row row) { return row.stage ? value(kernels_of(row)) : Value(); }), "kernel",
                   kernel_cell)),
    csv("base", [](Row row) { return row.one.base.empty() ? Value() : value(row.one.base); }),
    in_summary("vs ours", base_cell, 0,
               at(32, csv("speedup_over_base", [](Row row) { return of_whole(row, &ReportCase::speedup_over_base); }))),
    csv("base_speedup_median",
        [](Row row) { return of_base_speedup(row, [](auto& speedup) { return value(speedup.median); }); }),
    in_summary(
        "95 %", base_interval_cell, 1,
        at(33, csv("base_speedup_low",
                   [](Row row) { return of_base_speedup(row, [](auto& speedup) { return value(speedup.low); }); }))),
    csv("base_speedup_high",
        [](Row row) { return of_base_speedup(row, [](auto& speedup) { return value(speedup.high); }); }),
    csv("base_speedup_verdict",
        [](Row row) {
          return of_base_speedup(row,
                                 [](auto& speedup) { return value(speedup_verdict_name(speedup_verdict(speedup))); });
        }),
    csv("side", [](Row row) { return row.one.side.empty() ? Value() : value(row.one.side); }),
    in_summary(
        "B / A", change_cell, 0,
        at(34, csv("change", [](Row row) { return of_change(row, [](auto& one) { return value(one.ratio); }); }))),
    in_summary("interval", change_interval_cell, 1,
               at(35, csv("change_low",
                          [](Row row) {
                            return of_change(
                                row, [](auto& one) { return one.interval ? value(one.interval->low) : Value(); });
                          }))),
    csv("change_high",
        [](Row row) {
          return of_change(row, [](auto& one) { return one.interval ? value(one.interval->high) : Value(); });
        }),
    left(in_summary("verdict", change_verdict_cell, 0,
                    at(36, csv("change_verdict",
                               [](Row row) {
                                 return of_change(
                                     row, [](auto& one) { return value(std::string(change_name(one.change))); });
                               })))),
    csv("force_first", [](Row row) { return value(row.one.spec.forced.first); }),
    csv("force_last", [](Row row) { return value(row.one.spec.forced.last); }),
    in_summary("free recall", free_cell, 1, free_recall<&Recall::mean>("recall_free", "recall_free.mean", 42)),
    free_recall<&Recall::p1>("recall_free_p1", "recall_free.p1", 62),
    free_recall<&Recall::worst>("recall_free_worst", "recall_free.worst", 72),
    in_summary("free IoU", free_cell, 5,
               free_quality("iou_free", "iou_free", 82,
                            [](const Quality& rated) { return rated.forced.any() ? value(rated.free_iou) : Value(); })),

    // Not in CSV.
    free_recall<&Recall::median>("", "recall_free.median", 52),
    free_recall<&Recall::worst_row>("", "recall_free.worst_row", 73),
    quality<&Quality::rows>("", "rows", 1, no_reason),
    quality<&Quality::attention_mass_absolute>("", "attention_mass_absolute", 100, no_mass),
    quality<&Quality::reference_attention_mass>("", "reference_attention_mass", 110, no_mass),
    quality<&Quality::attention_rows>("", "attention_mass_rows", 120, no_reason),
    quality<&Quality::needle_cells>("", "needle_cells", 140, no_reason),
    quality<&Quality::needle_answer_cells>("", "needle_answer_cells", 150, no_reason),
    left(in_stages(30, kNoValue, "", bar_cell, 6)),
    left(in_summary("indexer", indexer_cell, 0, at(0, kNoValue))),
    in_summary("end to end", whole_cell, 0, at(10, kNoValue)),
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
