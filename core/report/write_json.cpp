#include <fmt/format.h>

#include "core/report/json_parts.hpp"
#include "core/report/text.hpp"
#include "core/report/whole_model.hpp"
#include "core/report/writers.hpp"

namespace misa {
namespace {

Json time_json(const Summary& time) {
  Json json;
  put_ns(json, "median", time.median);
  put_ns(json, "p10", time.p10);
  put_ns(json, "p90", time.p90);
  json["samples"] = time.samples;
  json["raw"] = Json::array();
  for (const double seconds : time.raw) {
    if (const std::optional<i64> nanoseconds = whole_nanoseconds(seconds)) json["raw"].push_back(*nanoseconds);
  }
  return json;
}

Json speedup_json(const PairedRatio& speedup) {
  Json json;
  put(json, "median", speedup.median);
  const std::string reason = fmt::format("an interval takes {} rounds, there are {}", kLeastRounds, speedup.rounds);
  put(json, "low", speedup.low, reason);
  put(json, "high", speedup.high, reason);
  json.update({{"confidence", kConfidence},
               {"rounds", speedup.rounds},
               {"verdict", speedup_verdict_name(speedup_verdict(speedup))}});
  return json;
}

Json change_json(const JudgedRatio& change) {
  const char* const reason = change.moves ? "the ratio moved while it was measured" : "too few samples";
  Json json;
  put(json, "ratio", change.ratio);
  put(json, "low", change.interval ? std::optional(change.interval->low) : std::nullopt, reason);
  put(json, "high", change.interval ? std::optional(change.interval->high) : std::nullopt, reason);
  json.update(
      {{"confidence", change.confidence}, {"p_value", change.p_value}, {"verdict", change_name(change.change)}});
  put(json, "resolution", resolution(change));
  return json;
}

Json sides_json(const ReportSides& sides) {
  return {{"b", Json(sides.b)}, {"same_within", sides.same_within}, {"max_slowdown", or_null(sides.max_slowdown)}};
}

Json shape_json(const Shape& shape, i64 top_k) {
  return {{"rows", shape.rows},
          {"heads", shape.heads},
          {"head_dim", shape.head_dim},
          {"keys", shape.keys},
          {"max_window", shape.max_window},
          {"top_k", top_k},
          {"dtype", dtype_name(shape.dtype)},
          {"paged", shape.paged}};
}

std::string reason_of(Doubt doubt) { return std::string(doubt_name(doubt)) + ": " + std::string(doubt_text(doubt)); }

Json stage_json(const ReportStage& stage) {
  Json json{{"name", stage_set_name(stage.stages)},
            {"time_ns", time_json(stage.seconds)},
            {"flops", stage.cost ? Json(stage.cost->flops) : Json()},
            {"bytes", stage.cost ? Json(stage.cost->bytes) : Json()}};
  put(json, "flops_per_second", stage.flops_per_second, "");
  put(json, "bytes_per_second", stage.bytes_per_second, "");
  std::optional<double> picoseconds = stage.seconds_per_pair;
  if (picoseconds) *picoseconds *= 1e12;
  put(json, "ps_per_pair", picoseconds, "");
  put(json, "share", stage.share, "");
  if (stage.roof_doubt) {
    put(json, "roof_fraction", Json(), reason_of(*stage.roof_doubt));
  } else {
    put(json, "roof_fraction", stage.roofline ? std::optional(stage.roofline->fraction) : std::nullopt,
        "no roof was measured or the stage has no cost");
  }
  json["bound"] = stage.roofline ? Json(bound_name(stage.roofline->bound)) : Json();
  if (stage.roofline) json["peak"] = dtype_name(stage.roofline->peak);
  std::vector<std::string> kernels;
  for (const KernelRun& one : stage.kernels) {
    kernels.push_back(fmt::format("{}={}", primitive_name(one.primitive), one.kernel));
  }
  if (!kernels.empty()) json["kernel"] = joined(kernels, ", ");
  return json;
}

Json device_state_json(const DeviceState& state) {
  Json json;
  put(json, "sm_clock_hz", state.sm_clock_hz, "");
  put(json, "memory_clock_hz", state.memory_clock_hz, "");
  put(json, "power_watts", state.power_watts, "");
  put(json, "temperature_celsius", state.temperature_celsius, "");
  json["throttled"] = state.throttled;
  return json;
}

Json contention_json(const Contention& contention, const std::optional<std::string>& loaded) {
  constexpr std::string_view kUnknown = "the system does not tell, or the time was too short";
  Json json;
  json["loaded"] = loaded.has_value();
  if (loaded) json["reason"] = *loaded;
  put_ns(json, "watched_ns", contention.seconds);
  put(json, "own_cpu_share", contention.own_cpu_share);
  put(json, "waiting_share", contention.waiting_share, kUnknown);
  put(json, "others_share", contention.others_share, kUnknown);
  put(json, "steal_share", contention.steal_share, kUnknown);
  put(json, "pressure_share", contention.pressure_share, kUnknown);
  json["voluntary_switches"] = contention.voluntary_switches;
  json["involuntary_switches"] = contention.involuntary_switches;
  put(json, "load_average_before", contention.load_average_before, kUnknown);
  put(json, "load_average_after", contention.load_average_after, kUnknown);
  json["most_runnable"] = or_null(contention.most_runnable);
  put(json, "clock_min_hz", contention.clock_min_hz, kUnknown);
  put(json, "clock_max_hz", contention.clock_max_hz, kUnknown);
  put(json, "clock_drift", contention.clock_drift());
  return json;
}

Json device_json(const DeviceRecord& record) {
  Json json{{"before", device_state_json(record.before)}, {"after", device_state_json(record.after)}};
  put(json, "sm_clock_min_hz", record.sm_clock_min_hz, "");
  put(json, "sm_clock_max_hz", record.sm_clock_max_hz, "");
  put(json, "clock_drift", record.clock_drift());
  json["throttled"] = record.throttled;
  return json;
}

/// All that is known before the first case.
void put_head(Json& json, const Report& report) {
  json.update(identity_json("result-1.0.schema.json", "misa-prof/result", kReportSchemaVersion, report.tool_version,
                            report.command_line));
  json["environment"] = environment_json(report.environment);
  json["workload"] = workload_json(report.workload);
  if (report.sides) json["sides"] = sides_json(*report.sides);
}

Json whole_model_json(const WholeModel& whole) {
  return {{"layers", whole.layers},
          {"indexer_layers", whole.indexer_layers},
          {"per", whole.per},
          {"cases", array_of(whole.cases, [](const WholeModel::One& one) {
             return Json{{"name", one.name}, {"ns", whole_nanoseconds(one.seconds).value_or(0)}};
           })}};
}

Json recorded_json(const ReportRecorded& recorded) {
  return {{"top_k", recorded.top_k}, {"quality", quality_json(recorded.quality)}};
}

/// All that is known only after the last case. "complete" comes last: a file without it was cut off.
void put_tail(Json& json, const Report& report) {
  json["skipped"] = array_of(report.skipped, [](const Refusal& skip) {
    return Json{{"indexer", skip.indexer}, {"backend", skip.backend}, {"reason", skip.reason}};
  });
  put(json, "recorded_topk", report.recorded_topk ? recorded_json(*report.recorded_topk) : Json(),
      report.interrupted ? "interrupted" : "the workload records no selection");
  if (const std::optional<WholeModel> whole = whole_model(report)) json["whole_model"] = whole_model_json(*whole);
  json["measurement"] = measurement_json(report.measurement);
  json["warnings"] = warnings_json(report.warnings);
  json["complete"] = !report.interrupted;
}

}  // namespace

Json case_json(const ReportCase& one) {
  Json json{{"indexer", one.spec.name},
            {"router", or_null(router_of(one.spec))},
            {"backend", one.backend},
            {"parameters", parameters_json(parameters_of(one.spec))},
            {"used", parameters_json(parameters_of(one.used))},
            {"shape", shape_json(one.shape, one.spec.top_k)},
            {"threads", one.threads},
            {"stages", array_of(one.stages, stage_json)}};
  put(json, "end_to_end_ns", one.end_to_end ? time_json(*one.end_to_end) : Json(), "not timed");
  put_ns(json, "first_call_ns", one.first_call_s);
  Json closure;
  if (one.closure_residual && one.closure_ok) {
    put(closure, "residual", *one.closure_residual);
    closure["ok"] = *one.closure_ok;
    if (one.closure_doubt) closure["reason"] = reason_of(*one.closure_doubt);
  }
  put(json, "closure", closure, "stages or end to end were not timed");
  put(json, "speedup_over_dsa", one.speedup_over_dsa, "dsa was not timed in this run");
  put(json, "speedup", one.speedup ? speedup_json(*one.speedup) : Json(),
      one.speedup_over_dsa ? "is dsa itself" : "dsa was not timed in this run");
  if (!one.base.empty()) {
    json["base"] = one.base;
    put(json, "speedup_over_base", one.speedup_over_base, "one of the two was not timed");
    put(json, "base_speedup", one.base_speedup ? speedup_json(*one.base_speedup) : Json(),
        "one of the two was not timed");
  }
  if (!one.side.empty()) {
    json["side"] = one.side;
    if (one.side == "B") put(json, "change", one.change ? change_json(*one.change) : Json(), "a side was not timed");
    if (one.gate) json["gate"] = gate_name(*one.gate);
  }
  put(json, "selection_hash", one.selection_hash.empty() ? Json() : Json(one.selection_hash), "");
  put(json, "quality", one.quality ? quality_json(*one.quality) : Json(),
      one.quality_reason.empty() ? "not asked for" : one.quality_reason);
  return json;
}

Json measurement_json(const ReportMeasurement& measurement) {
  Json json{{"cache", measurement.cache}, {"launch", measurement.launch}};
  const std::optional<Contention>& contention = measurement.contention;
  put(json, "contention", contention ? contention_json(*contention, measurement.loaded) : Json(), "nothing was timed");
  put(json, "device", measurement.device ? device_json(*measurement.device) : Json(), "no driver tells");
  return json;
}

std::string write_json(const Report& report, const WriterOptions& /*options*/) {
  Json json;
  put_head(json, report);
  json["cases"] = array_of(report.cases, case_json);
  put_tail(json, report);
  return text_of(json, 2);
}

std::string write_json_lines(const Report& report, const WriterOptions& /*options*/) {
  std::string text;
  JsonLinesWriter writer([&](std::string_view line) { text += line; });
  writer.header(report);
  for (const ReportCase& one : report.cases) writer.add(one);
  writer.footer(report);
  return text;
}

void JsonLinesWriter::header(const Report& report) {
  Json json{{"record", "header"}};
  put_head(json, report);
  sink_(text_of(json, -1));
}

void JsonLinesWriter::add(const ReportCase& one) {
  ++cases_;
  sink_(text_of({{"record", "case"}, {"case", case_json(one)}}, -1));
}

void JsonLinesWriter::footer(const Report& report) {
  Json json{{"record", "footer"}};
  json["cases"] = cases_;
  json["workload"] = workload_json(report.workload);  // with what only the selections tell
  put_tail(json, report);
  sink_(text_of(json, -1));
}

}  // namespace misa
