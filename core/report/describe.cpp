#include "core/report/describe.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <utility>

#include "core/report/text.hpp"

namespace misa {
namespace {

std::string percent(double fraction) {
  return std::isfinite(fraction) ? fmt::format("{:.1f} %", 100 * fraction) : std::string("n/a");
}

/// Ten columns, in eighths.
std::string bar(double share) {
  constexpr std::array<std::string_view, 8> kEighths{"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
  if (!std::isfinite(share)) return {};
  const auto eighths = static_cast<std::size_t>(std::lround(std::clamp(share, 0.0, 1.0) * 80));
  std::string text;
  for (std::size_t i = 0; i < eighths / 8; ++i) text += "█";
  return text + std::string(kEighths[eighths % 8]);
}

std::string ratio(double value) {
  return std::isfinite(value) ? fmt::format("{}×", short_number(value)) : std::string("n/a");
}

/// Recall and its like: four decimals, for differences in the third matter.
std::string share_number(std::optional<double> value) {
  if (!value) return "–";
  return std::isfinite(*value) ? fmt::format("{:.4f}", *value) : std::string("n/a");
}

/// Picks one unit for a column.
class Unit {
 public:
  void see(double value) {
    if (std::isfinite(value)) largest_ = std::max(largest_, std::abs(value));
  }
  std::string name(std::string_view unit) const { return std::string(si_prefix(largest_).symbol) + std::string(unit); }
  std::string text(std::optional<double> value) const {
    return value ? short_number(*value / si_prefix(largest_).factor) : std::string("–");
  }

 private:
  double largest_ = 0;
};

std::optional<double> per_pair(const Report& report, const ReportCase& one) {
  if (!one.end_to_end || report.workload.pairs <= 0) return std::nullopt;
  return one.end_to_end->median_s / static_cast<double>(report.workload.pairs);
}

/// The sum over stages per second of end to end; empty when a stage has no cost.
std::optional<double> rate(const ReportCase& one, std::optional<i64> ReportStage::*amount) {
  if (!one.end_to_end || !(one.end_to_end->median_s > 0) || one.stages.empty()) return std::nullopt;
  double sum = 0;
  for (const ReportStage& stage : one.stages) {
    if (!(stage.*amount)) return std::nullopt;
    sum += static_cast<double>(*(stage.*amount));
  }
  return sum / one.end_to_end->median_s;
}

std::string peak_text(const std::optional<double>& rate) {
  return rate ? si_number(*rate, "FLOP/s") : std::string("not measured");
}

/// Of a backend that has more of them than fit its own line.
Fact describe_roofs(const ReportRoofs& roofs) {
  Fact fact{.name = "roofs", .parts = {}};
  for (const ReportPeak& one : roofs.peaks) {
    fact.parts.push_back(printable(one.dtype) + " " + peak_text(one.flops_per_second));
  }
  fact.parts.push_back("read " + si_number(roofs.bytes_per_second, "B/s"));
  if (roofs.copy_bytes_per_second) fact.parts.push_back("copy " + si_number(*roofs.copy_bytes_per_second, "B/s"));
  fact.parts.push_back("launch " + si_number(roofs.launch_seconds, "s"));
  if (roofs.graph_launch_seconds) fact.parts.push_back("in a graph " + si_number(*roofs.graph_launch_seconds, "s"));
  return fact;
}

/// The ratio and its interval. A ratio that may be 1 is marked; one that was measured beside other work has no colour.
std::pair<Cell, Cell> speedup_cells(const ReportCase& one, bool loaded) {
  if (!one.speedup) return {{one.speedup_over_dsa ? ratio(*one.speedup_over_dsa) : "", Style::plain}, {}};
  const ReportSpeedup& speedup = *one.speedup;
  if (!speedup.low || !speedup.high) return {{ratio(speedup.median), Style::plain}, {"too few", Style::caution}};
  const Cell interval{fmt::format("{}–{}", short_number(*speedup.low), short_number(*speedup.high)), Style::faint};
  if (speedup.verdict == SpeedupVerdict::inconclusive) return {{"~" + ratio(speedup.median), Style::plain}, interval};
  const Style verdict = speedup.verdict == SpeedupVerdict::faster ? Style::good : Style::bad;
  return {{ratio(speedup.median), loaded ? Style::plain : verdict}, interval};
}

}  // namespace

std::string build_text(const ReportBuild& build) {
  std::vector<std::string> parts;
  if (!build.commit.empty()) {
    parts.push_back("commit " + printable(build.commit) + (build.changed ? " with changes" : ""));
  }
  for (const std::string& part : {build.compiler, build.type}) {
    if (!part.empty()) parts.push_back(printable(part));
  }
  return joined(parts, ", ");
}

std::vector<Fact> describe_run(const Report& report) {
  const ReportWorkload& workload = report.workload;
  const ReportEnvironment& environment = report.environment;
  std::vector<Fact> facts;

  Fact load{.name = "workload", .parts = {printable(workload.name), printable(workload.provenance)}};
  if (!workload.model.empty() && workload.name.find(workload.model) == std::string::npos) {
    load.parts.push_back(printable(workload.model));
  }
  load.parts.push_back(printable(workload.phase));
  if (workload.seed) load.parts.push_back("seed " + printable(*workload.seed));
  facts.push_back(std::move(load));

  facts.push_back({.name = "shape",
                   .parts = {counted(workload.rows, "row", "rows"),
                             counted(workload.heads, "head", "heads") + fmt::format(" × {}", workload.head_dim),
                             fmt::format("{} in {}", counted(workload.keys, "key", "keys"),
                                         counted(workload.sequences, "sequence", "sequences")),
                             printable(workload.dtype) + (workload.paged ? " paged" : ""),
                             fmt::format("top-k {}{}", workload.top_k,
                                         workload.top_k_source == "recorded" ? " as the recorded topk has" : "")}});

  Fact context{.name = "context",
               .parts = {workload.context.minimum == workload.context.maximum
                             ? counted(workload.context.maximum, "token", "tokens") + " visible"
                             : fmt::format("{} / {} / {} tokens visible (min / median / max)", workload.context.minimum,
                                           workload.context.median, workload.context.maximum),
                         workload.pairs < 100000 ? counted(workload.pairs, "pair", "pairs")
                                                 : si_number(static_cast<double>(workload.pairs), " pairs")}};
  facts.push_back(std::move(context));

  Fact baselines{.name = "baselines", .parts = {}};
  if (workload.chance_recall || workload.pairs == 0) {
    baselines.parts.push_back("recall of chance " + share_number(workload.chance_recall));
  }
  if (workload.window_recall || workload.pairs == 0) {
    baselines.parts.push_back("recall of the last k tokens " + share_number(workload.window_recall));
  }
  if (workload.pairs == 0) baselines.parts.push_back(std::string(kNoTokenSeen));
  if (!baselines.parts.empty()) facts.push_back(std::move(baselines));

  Fact machine{.name = "machine", .parts = {printable(environment.cpu)}};
  machine.parts.push_back(fmt::format("{}, {}", counted(environment.cores, "core", "cores"),
                                      counted(environment.threads, "thread", "threads")));
  if (environment.memory_bytes > 0) machine.parts.push_back(binary_bytes(environment.memory_bytes));
  machine.parts.push_back(printable(environment.os));
  if (environment.governor) machine.parts.push_back("governor " + printable(*environment.governor));
  if (environment.host) machine.parts.push_back(printable(*environment.host));
  facts.push_back(std::move(machine));

  if (std::string build = build_text(environment.build); !build.empty()) {
    facts.push_back({.name = "build", .parts = {std::move(build)}});
  }

  for (const ReportBackend& backend : environment.backends) {
    Fact fact{.name = printable(backend.name), .parts = {printable(backend.description)}};
    if (!backend.roofs || !backend.roofs->peaks.empty()) {
      facts.push_back(std::move(fact));
      if (backend.roofs) facts.push_back(describe_roofs(*backend.roofs));
      continue;
    }
    fact.parts.push_back(fmt::format("roofs {}, {}, launch {}", peak_text(backend.roofs->flops_per_second),
                                     si_number(backend.roofs->bytes_per_second, "B/s"),
                                     si_number(backend.roofs->launch_seconds, "s")));
    facts.push_back(std::move(fact));
  }
  if (const std::optional<ReportDevice>& device = report.measurement.device) {
    Fact fact{.name = "clocks", .parts = {}};
    if (device->sm_clock_min_hz) {
      const double from = *device->sm_clock_min_hz, to = *device->sm_clock_max_hz;
      fact.parts.push_back("SM " + (from < to ? si_range(from, to, "Hz") : si_number(to, "Hz")));
    }
    if (device->after.memory_clock_hz)
      fact.parts.push_back("memory " + si_number(*device->after.memory_clock_hz, "Hz"));
    if (device->after.power_watts) fact.parts.push_back(fmt::format("{:.0f} W", *device->after.power_watts));
    if (device->after.temperature_celsius) {
      fact.parts.push_back(fmt::format("{:.0f} °C", *device->after.temperature_celsius));
    }
    for (const std::string& reason : device->throttled) fact.parts.push_back("slowed by " + printable(reason));
    if (!fact.parts.empty()) facts.push_back(std::move(fact));
  }
  if (const std::optional<ReportContention>& contention = report.measurement.contention) {
    Fact fact{.name = "load", .parts = {}};
    if (contention->load_average_before && contention->load_average_after) {
      fact.parts.push_back(fmt::format("average {:.2f} before, {:.2f} after", *contention->load_average_before,
                                       *contention->load_average_after));
    }
    fact.parts.push_back("own share of its threads' time " + percent(contention->own_cpu_share));
    if (contention->waiting_share) fact.parts.push_back("waited for a core " + percent(*contention->waiting_share));
    if (contention->others_share) fact.parts.push_back("others " + percent(*contention->others_share));
    if (contention->steal_share.value_or(0) > 0) fact.parts.push_back("stolen " + percent(*contention->steal_share));
    if (contention->clock_max_hz) {
      fact.parts.push_back("clock " + (contention->clock_drift > 0
                                           ? si_range(*contention->clock_min_hz, *contention->clock_max_hz, "Hz")
                                           : si_number(*contention->clock_max_hz, "Hz")));
    }
    facts.push_back(std::move(fact));
  }
  if (report.measurement.device || report.measurement.launch == "graph" || report.measurement.cache == "cold") {
    facts.push_back({.name = "runs",
                     .parts = {report.measurement.cache == "cold" ? "cold cache" : "warm cache",
                               report.measurement.launch == "graph" ? "one graph launch each" : "kernel by kernel"}});
  }
  return facts;
}

std::string case_name(const Report& report, const ReportCase& one) {
  std::string name = printable(one.indexer);
  if (one.router && *one.router != "pooled") name += " (" + printable(*one.router) + ")";
  const bool several =
      !one.backend.empty() && std::any_of(report.cases.begin(), report.cases.end(),
                                          [&](const auto& other) { return other.backend != one.backend; });
  if (several) name += " on " + printable(one.backend);
  return name;
}

std::vector<std::string> describe_parameters(const ReportCase& one) {
  const ReportParameters& parameters = one.used;
  std::vector<std::string> parts{fmt::format("top-k {}", one.parameters.top_k)};
  if (parameters.top_k < one.parameters.top_k) parts.back() += fmt::format(" ({} used)", parameters.top_k);
  if (parameters.active_heads) {
    std::string heads = fmt::format("{} of {}", *parameters.active_heads, counted(one.shape.heads, "head", "heads"));
    if (one.router) heads += " by " + printable(*one.router);
    parts.push_back(std::move(heads));
  }
  if (parameters.head_block_size)
    parts.push_back("means of " + counted(*parameters.head_block_size, "token", "tokens"));
  if (parameters.sampled_keys) parts.push_back(counted(*parameters.sampled_keys, "key", "keys") + " sampled");
  if (parameters.blocks) {
    parts.push_back(fmt::format("{} of {}", counted(*parameters.blocks, "block", "blocks"),
                                counted(parameters.block_size.value_or(0), "token", "tokens")));
  }
  if (parameters.candidates) parts.push_back(counted(*parameters.candidates, "candidate", "candidates"));
  if (parameters.block_window) parts.push_back(printable(*parameters.block_window) + " blocks");
  parts.push_back(printable(one.backend) + ", " + counted(one.threads, "thread", "threads"));
  return parts;
}

std::vector<Cell> describe_timing(const ReportCase& one) {
  std::vector<Cell> parts;
  if (one.end_to_end) parts.push_back({counted(one.end_to_end->samples, "sample", "samples"), Style::faint});
  if (one.first_call_s) parts.push_back({"first call " + si_number(*one.first_call_s, "s"), Style::faint});
  if (one.closure_doubt) {
    parts.push_back({"stages do not add up to the whole: " + printable(one.closure_doubt->text), Style::bad});
  } else if (one.closure_residual && one.closure_ok) {
    const std::string residual = fmt::format("unexplained {}", percent(*one.closure_residual));
    parts.push_back(*one.closure_ok ? Cell{residual, Style::faint}
                                    : Cell{residual + ": do not trust the stages", Style::bad});
  }
  return parts;
}

TextTable stage_table(const Report& report, const std::optional<WriterOptions>& terminal) {
  const bool titles = terminal.has_value();
  const bool colour = titles && terminal->colour;
  Unit flops, bytes, pair;
  for (const ReportCase& one : report.cases) {
    for (const ReportStage& stage : one.stages) {
      flops.see(stage.flops_per_second.value_or(0));
      bytes.see(stage.bytes_per_second.value_or(0));
      pair.see(stage.seconds_per_pair.value_or(0));
    }
    pair.see(per_pair(report, one).value_or(0));
  }
  TextTable table({{.header = "", .right = false, .drop = 0},
                   {.header = "median", .right = true, .drop = 0},
                   {.header = "p10–p90", .right = true, .drop = 3},
                   {.header = "", .right = false, .drop = 6},
                   {.header = "share", .right = true, .drop = 2},
                   {.header = flops.name("FLOP/s"), .right = true, .drop = 4},
                   {.header = bytes.name("B/s"), .right = true, .drop = 5},
                   {.header = pair.name("s/pair"), .right = true, .drop = 1},
                   {.header = "% roof", .right = true, .drop = 0},
                   {.header = "bound", .right = false, .drop = 0}});
  const auto time_cells = [](const ReportTime& time) {
    return std::pair{Cell{si_number(time.median_s, "s"), Style::plain},
                     Cell{si_range(time.p10_s, time.p90_s, "s"), Style::faint}};
  };
  for (const ReportCase& one : report.cases) {
    const std::string name = case_name(report, one);
    if (titles) {
      const i64 indent = display_width(name) + 2;
      std::string title = styled(name, Style::strong, colour) + "  ";
      for (const std::string& line : wrapped(describe_parameters(one), " · ", terminal->width - indent)) {
        table.add_line(title + styled(line, Style::faint, colour));
        title.assign(static_cast<std::size_t>(indent), ' ');
      }
    }
    const auto label = [&](const std::string& stage) { return titles ? stage : name + ": " + stage; };
    for (const ReportStage& stage : one.stages) {
      const auto [middle, range] = time_cells(stage.time);
      table.add(
          {{label(printable(stage.name)), Style::plain},
           middle,
           range,
           {titles && stage.share ? bar(*stage.share) : "", Style::accent},
           {stage.share ? percent(*stage.share) : "", Style::plain},
           {flops.text(stage.flops_per_second), Style::plain},
           {bytes.text(stage.bytes_per_second), Style::plain},
           {pair.text(stage.seconds_per_pair), Style::plain},
           {!stage.roof_doubt && stage.roof_fraction ? short_number(100 * *stage.roof_fraction) : "–", Style::plain},
           stage.roof_doubt ? Cell{printable(stage.roof_doubt->name), Style::caution}
                            : Cell{stage.bound ? printable(*stage.bound) : "", Style::faint}});
    }
    if (one.end_to_end) {
      const auto [middle, range] = time_cells(*one.end_to_end);
      table.add({{label("end to end"), Style::strong},
                 {middle.text, Style::strong},
                 range,
                 {},
                 {},
                 {flops.text(rate(one, &ReportStage::flops)), Style::plain},
                 {bytes.text(rate(one, &ReportStage::bytes)), Style::plain},
                 {pair.text(per_pair(report, one)), Style::plain},
                 {},
                 {}});
    }
    if (titles) {
      std::string timing;
      i64 used = 0;
      for (const Cell& part : describe_timing(one)) {
        if (used > 0 && used + 3 + display_width(part.text) > terminal->width) {
          table.add_line(timing);
          used = 0;
        }
        timing = used == 0 ? "  " : timing + styled(" · ", Style::faint, colour);
        timing += styled(part.text, part.style, colour);
        used += (used == 0 ? 2 : 3) + display_width(part.text);
      }
      if (used > 0) table.add_line(timing);
      table.add_line("");
    }
  }
  return table;
}

ReportCase recorded_case(const Report& report) {
  ReportCase one;
  one.indexer = "recorded topk";
  one.parameters.top_k = one.shape.top_k = report.recorded_topk->top_k;
  one.used.top_k = std::clamp<i64>(report.workload.context.maximum, 1, one.parameters.top_k);
  one.shape.rows = report.recorded_topk->quality.rows;
  one.shape.heads = report.workload.heads;
  one.shape.head_dim = report.workload.head_dim;
  one.shape.keys = report.workload.keys;
  one.shape.max_window = report.workload.context.maximum;
  one.shape.dtype = report.workload.dtype;
  one.shape.paged = report.workload.paged;
  one.quality = report.recorded_topk->quality;
  return one;
}

TextTable summary_table(const Report& report) {
  TextTable table({{.header = "indexer", .right = false, .drop = 0},
                   {.header = "end to end", .right = true, .drop = 0},
                   {.header = "vs dsa", .right = true, .drop = 0},
                   {.header = "95 %", .right = true, .drop = 1},
                   {.header = "recall", .right = true, .drop = 0},
                   {.header = "median", .right = true, .drop = 4},
                   {.header = "p1", .right = true, .drop = 3},
                   {.header = "worst", .right = true, .drop = 1},
                   {.header = "IoU", .right = true, .drop = 5},
                   {.header = "mass", .right = true, .drop = 2},
                   {.header = "needles", .right = true, .drop = 2}});
  const bool loaded = report.measurement.contention && report.measurement.contention->loaded;
  const auto add = [&](const ReportCase& one) {
    std::vector<Cell> row{{case_name(report, one), Style::strong},
                          {one.end_to_end ? si_number(one.end_to_end->median_s, "s") : "not timed", Style::plain}};
    const auto [speedup, interval] = speedup_cells(one, loaded);
    row.push_back(speedup);
    row.push_back(interval);
    if (one.quality) {
      const ReportQuality& quality = *one.quality;
      const ReportRecall& recall = quality.recall;
      for (const std::optional<double>& value : {recall.mean, recall.median, recall.p1, recall.worst}) {
        row.push_back({share_number(value), Style::plain});
      }
      row.push_back({share_number(quality.iou), Style::plain});
      row.push_back({quality.attention_mass ? share_number(*quality.attention_mass) : "", Style::plain});
      row.push_back({quality.shows_needles() ? percent(*quality.needle_hit_rate) : "", Style::plain});
    } else {
      row.push_back({"–", Style::faint});
    }
    table.add(std::move(row));
  };
  for (const ReportCase& one : report.cases) add(one);
  if (report.recorded_topk) add(recorded_case(report));
  return table;
}

std::string unshown_needles(const ReportQuality& quality) {
  const double rate = quality.reference_needle_hit_rate.value_or(0);
  return fmt::format("needles are not shown: {} itself selects {:.0f} of {}{}", printable(quality.reference),
                     rate * static_cast<double>(quality.needle_cells), quality.needle_cells,
                     quality.needle_answer_cells == 0
                         ? ", and the workload does not say which of a needle's tokens are "
                           "the answer, so that all of them count"
                         : "");
}

std::vector<Cell> describe_notes(const Report& report) {
  std::vector<Cell> notes;
  for (const ReportSkip& skip : report.skipped) {
    notes.push_back(
        {fmt::format("skipped {} on {}: {}", printable(skip.indexer), printable(skip.backend), printable(skip.reason)),
         Style::caution});
  }
  for (const ReportCase& one : report.cases) {
    if (!one.quality || !one.quality->needle_hit_rate || one.quality->shows_needles()) continue;
    notes.push_back({unshown_needles(*one.quality), Style::faint});
    break;  // the reference is the same for all
  }
  for (const Warning& warning : report.warnings) notes.push_back({warning_line(warning), Style::caution});
  const auto with_verdict = [&](SpeedupVerdict verdict) {
    std::vector<std::string> names;
    for (const ReportCase& one : report.cases) {
      if (one.speedup && one.speedup->verdict == verdict) names.push_back(case_name(report, one));
    }
    return joined(names, ", ");
  };
  if (const std::string names = with_verdict(SpeedupVerdict::inconclusive); !names.empty()) {
    notes.push_back(
        {"~ inconclusive: 1 lies in the interval of " + names + ": the order may be chance", Style::caution});
  }
  if (const std::string names = with_verdict(SpeedupVerdict::too_few); !names.empty()) {
    i64 rounds = 0, least = 0;
    for (const ReportCase& one : report.cases) {
      if (!one.speedup || one.speedup->verdict != SpeedupVerdict::too_few) continue;
      rounds = one.speedup->rounds;
      least = one.speedup->least_rounds;
    }
    notes.push_back(
        {fmt::format("too few samples: {} of the {} that an interval takes, for {}: the order may be chance", rounds,
                     least, names),
         Style::caution});
  }
  if (report.interrupted) notes.push_back({"interrupted: this result is not complete", Style::bad});
  return notes;
}

}  // namespace misa
