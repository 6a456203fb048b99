#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "core/report/text.hpp"
#include "core/report/writers.hpp"

namespace misa {
namespace {

std::string peak_text(double rate) { return rate > 0 ? si_number(rate, "FLOP/s") : std::string("not measured"); }

/// Of a backend that has more of them than fit its own line.
Fact describe_roofs(const Roofs& roofs) {
  Fact fact{.name = "roofs", .parts = {}};
  for (const Roofs::Peak& one : roofs.peaks) {
    fact.parts.push_back(std::string(dtype_name(one.dtype)) + " " + peak_text(one.flops_per_second));
  }
  fact.parts.push_back("read " + si_number(roofs.bytes_per_second, "B/s"));
  if (roofs.copy_bytes_per_second > 0) fact.parts.push_back("copy " + si_number(roofs.copy_bytes_per_second, "B/s"));
  fact.parts.push_back("launch " + si_number(roofs.launch_seconds, "s"));
  if (roofs.recorded_launch_seconds > 0) {
    fact.parts.push_back("in a graph " + si_number(roofs.recorded_launch_seconds, "s"));
  }
  return fact;
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

std::string keys_text(const ReportWorkload& workload) {
  if (workload.compress_ratio == 1) return counted(workload.keys, "key", "keys");
  return counted(workload.keys, "entry", "entries") + fmt::format(" of {} tokens", workload.compress_ratio);
}

std::string context_text(const ReportWorkload& workload) {
  const auto spread = [](const ReportContext& counts, const std::string& one, const std::string& several) {
    return counts.minimum == counts.maximum
               ? counted(counts.maximum, one, several)
               : fmt::format("{} / {} / {} {}", counts.minimum, counts.median, counts.maximum, several);
  };
  const ReportContext& context = workload.context;
  const i64 ratio = workload.compress_ratio;
  std::string text = spread(context, "token", "tokens");
  if (ratio > 1) text += ", " + spread(workload.visible, "entry", "entries") + fmt::format(" of {}", ratio);
  text += " visible";
  return context.minimum == context.maximum ? text : text + " (min / median / max)";
}

std::vector<Fact> describe_run(const Report& report) {
  const ReportWorkload& workload = report.workload;
  const ReportEnvironment& environment = report.environment;
  std::vector<Fact> facts;

  const bool named = workload.name.find(workload.model) != std::string::npos;
  facts.push_back({"workload",
                   {printable(workload.name), printable(workload.provenance), named ? "" : printable(workload.model),
                    printable(workload.phase), workload.seed ? "seed " + printable(*workload.seed) : ""}});
  facts.push_back({"shape",
                   {counted(workload.rows, "row", "rows"),
                    counted(workload.heads, "head", "heads") + fmt::format(" × {}", workload.head_dim),
                    fmt::format("{} in {}", keys_text(workload), counted(workload.sequences, "sequence", "sequences")),
                    std::string(dtype_name(workload.dtype)) + (workload.paged ? " paged" : ""),
                    fmt::format("top-k {}{}", workload.top_k,
                                workload.top_k_source == "recorded" ? " as the recorded topk has" : "")}});
  facts.push_back(
      {"context",
       {context_text(workload), workload.pairs < 100000 ? counted(workload.pairs, "pair", "pairs")
                                                        : si_number(static_cast<double>(workload.pairs), " pairs")}});

  const auto baseline = [&](const char* what, std::optional<double> recall) {
    return recall || workload.pairs == 0 ? what + four_decimals(recall) : "";
  };
  facts.push_back(
      {"baselines",
       {baseline("recall of chance ", workload.recall.chance),
        baseline(workload.compress_ratio == 1 ? "recall of the last k tokens " : "recall of the last k entries ",
                 workload.recall.window),
        std::string(workload.pairs == 0 ? kNoTokenSeen : "")}});

  const SystemInfo& system = environment.machine;
  const std::string quota = is_limited_by_quota(system) ? fmt::format(" by a quota of {:.2f}", *system.cpu_quota) : "";
  facts.push_back({"machine",
                   {printable(system.cpu),
                    fmt::format("{}{}, {}", counted(system.cores, "core", "cores"), quota,
                                counted(environment.threads, "thread", "threads")),
                    system.memory_bytes > 0 ? binary_bytes(system.memory_bytes) : "", printable(system.os),
                    system.governor.empty() ? "" : "governor " + printable(system.governor),
                    printable(environment.host.value_or(""))}});
  facts.push_back({"build", {build_text(environment.build)}});

  for (const ReportBackend& backend : environment.backends) {
    Fact fact{.name = printable(backend.name), .parts = {printable(backend.description)}};
    if (!backend.roofs || !backend.roofs->peaks.empty()) {
      facts.push_back(std::move(fact));
      if (backend.roofs) facts.push_back(describe_roofs(*backend.roofs));
      continue;
    }
    fact.parts.push_back(fmt::format("roofs {}, {}, launch {}", peak_text(backend.roofs->flops_of(backend.elements)),
                                     si_number(backend.roofs->bytes_per_second, "B/s"),
                                     si_number(backend.roofs->launch_seconds, "s")));
    facts.push_back(std::move(fact));
  }
  if (const std::optional<DeviceRecord>& device = report.measurement.device) {
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
  if (const std::optional<Contention>& contention = report.measurement.contention) {
    const auto share = [](const char* what, std::optional<double> part) { return part ? what + percent(*part) : ""; };
    const std::optional<double> from = contention->load_average_before, to = contention->load_average_after;
    const std::optional<double> slow = contention->clock_min_hz, fast = contention->clock_max_hz;
    facts.push_back(
        {"load",
         {from && to ? fmt::format("average {:.2f} before, {:.2f} after", *from, *to) : "",
          share("own share of its threads' time ", contention->own_cpu_share),
          share("waited for a core ", contention->waiting_share), share("others ", contention->others_share),
          contention->steal_share.value_or(0) > 0 ? share("stolen ", contention->steal_share) : "",
          fast ? "clock " + (*slow < *fast ? si_range(*slow, *fast, "Hz") : si_number(*fast, "Hz")) : ""}});
  }
  if (report.measurement.device || report.measurement.launch == "graph" || report.measurement.cache == "cold") {
    facts.push_back({.name = "runs",
                     .parts = {report.measurement.cache == "cold" ? "cold cache" : "warm cache",
                               report.measurement.launch == "graph" ? "one graph launch each" : "kernel by kernel"}});
  }
  return facts;
}

std::string text_head(const std::string& tool_version, const ReportEnvironment& environment,
                      const std::vector<Fact>& facts, i64 name_width, const WriterOptions& options) {
  std::string out = styled("misa-prof " + printable(tool_version), Style::strong, options.colour);
  if (environment.timestamp_utc) {
    out += "  " + styled(printable(*environment.timestamp_utc), Style::faint, options.colour);
  }
  out += '\n';
  for (const Fact& fact : facts) name_width = std::max(name_width, display_width(fact.name) + 2);
  for (const Fact& fact : facts) {
    const std::string name = styled(padded(fact.name, name_width, false), Style::faint, options.colour);
    const std::string text = hanging(name, name_width, fact.parts, " · ", options.width);
    if (!text.empty()) out += text + '\n';
  }
  return out + '\n';
}

std::string case_name(const Report& report, const ReportCase& one) {
  std::string name = printable(one.spec.name);
  if (const auto router = router_of(one.spec); router && *router != "pooled") name += " (" + *router + ")";
  const bool several =
      !one.backend.empty() && std::any_of(report.cases.begin(), report.cases.end(),
                                          [&](const auto& other) { return other.backend != one.backend; });
  if (several) name += " on " + printable(one.backend);
  if (!one.side.empty()) name += ", " + one.side;
  return name;
}

std::vector<std::string> describe_parameters(const Report& report, const ReportCase& one) {
  const ReportParameters parameters = parameters_of(one.used);
  const auto keys = [&](i64 count) {
    return report.workload.compress_ratio == 1 ? counted(count, "token", "tokens") : counted(count, "entry", "entries");
  };
  std::vector<std::string> parts{fmt::format("top-k {}", one.spec.top_k)};
  if (parameters.top_k < one.spec.top_k) parts.back() += fmt::format(" ({} used)", parameters.top_k);
  if (parameters.forced.any()) {
    parts.push_back(fmt::format("{} first and {} last forced", parameters.forced.first, parameters.forced.last));
  }
  if (parameters.active_heads) {
    std::string heads = fmt::format("{} of {}", *parameters.active_heads, counted(one.shape.heads, "head", "heads"));
    if (const auto router = router_of(one.spec)) heads += " by " + *router;
    if (parameters.group) heads += fmt::format(" for {} rows at once", *parameters.group);
    parts.push_back(std::move(heads));
  }
  if (parameters.head_block_size) parts.push_back("means of " + keys(*parameters.head_block_size));
  if (parameters.sampled_keys) parts.push_back(counted(*parameters.sampled_keys, "key", "keys") + " sampled");
  if (parameters.blocks) {
    parts.push_back(fmt::format("{} of {}", counted(*parameters.blocks, "block", "blocks"),
                                keys(parameters.block_size.value_or(0))));
  }
  if (parameters.candidates) parts.push_back(counted(*parameters.candidates, "candidate", "candidates"));
  if (parameters.block_window) parts.push_back(*parameters.block_window + " blocks");
  if (parameters.pooling == "cached") parts.push_back("cached means");
  parts.push_back(printable(one.backend) + ", " + counted(one.threads, "thread", "threads"));
  return parts;
}

std::vector<Cell> describe_timing(const ReportCase& one) {
  std::vector<Cell> parts;
  if (one.end_to_end) parts.push_back({counted(one.end_to_end->samples, "sample", "samples"), Style::faint});
  if (one.first_call_s) parts.push_back({"first call " + si_number(*one.first_call_s, "s"), Style::faint});
  if (one.closure_doubt) {
    parts.push_back({"stages do not add up to the whole: " + std::string(doubt_text(*one.closure_doubt)), Style::bad});
  } else if (one.closure_residual && one.closure_ok) {
    const std::string residual = fmt::format("unexplained {}", percent(*one.closure_residual));
    parts.push_back(*one.closure_ok ? Cell{residual, Style::faint}
                                    : Cell{residual + ": do not trust the stages", Style::bad});
  }
  return parts;
}

ReportCase recorded_case(const Report& report) {
  ReportCase one;
  one.spec.name = "recorded topk";
  one.spec.top_k = report.recorded_topk->top_k;
  one.used.top_k = std::clamp<i64>(report.workload.visible.maximum, 1, one.spec.top_k);
  one.shape.rows = report.recorded_topk->quality.rows;
  one.shape.heads = report.workload.heads;
  one.shape.head_dim = report.workload.head_dim;
  one.shape.keys = report.workload.keys;
  one.shape.max_window = report.workload.visible.maximum;
  one.shape.dtype = report.workload.dtype;
  one.shape.paged = report.workload.paged;
  one.quality = report.recorded_topk->quality;
  return one;
}

std::string unshown_needles(const Quality& quality) {
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
  for (const Refusal& skip : report.skipped) {
    notes.push_back(
        {fmt::format("skipped {} on {}: {}", printable(skip.indexer), printable(skip.backend), printable(skip.reason)),
         Style::caution});
  }
  for (const ReportCase& one : report.cases) {
    if (!one.quality || !one.quality->needle_hit_rate || one.quality->shows_needles()) continue;
    notes.push_back({unshown_needles(*one.quality), Style::faint});
    break;  // the reference is the same for all
  }
  if (!report.explain_worst.empty()) {
    notes.push_back({"the worst row, explained: " + printable(report.explain_worst), Style::faint});
  }
  for (const Warning& warning : report.warnings) notes.push_back({warning_line(warning), Style::caution});
  const auto with_verdict = [&](SpeedupVerdict verdict) {
    std::vector<std::string> names;
    for (const ReportCase& one : report.cases) {
      if (one.speedup && speedup_verdict(*one.speedup) == verdict) names.push_back(case_name(report, one));
    }
    return joined(names, ", ");
  };
  if (const std::string names = with_verdict(SpeedupVerdict::inconclusive); !names.empty()) {
    notes.push_back(
        {"~ inconclusive: 1 lies in the interval of " + names + ": the order may be chance", Style::caution});
  }
  if (const std::string names = with_verdict(SpeedupVerdict::too_few); !names.empty()) {
    i64 rounds = 0;
    for (const ReportCase& one : report.cases) {
      if (one.speedup && speedup_verdict(*one.speedup) == SpeedupVerdict::too_few) rounds = one.speedup->rounds;
    }
    notes.push_back(
        {fmt::format("too few samples: {} of the {} that an interval takes, for {}: the order may be chance", rounds,
                     kLeastRounds, names),
         Style::caution});
  }
  if (report.interrupted) notes.push_back({"interrupted: this result is not complete", Style::bad});
  return notes;
}

}  // namespace misa
