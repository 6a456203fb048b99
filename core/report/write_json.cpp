#include <fmt/format.h>

#include "core/report/json_parts.hpp"
#include "core/report/text.hpp"
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
  put(json, "confidence", kConfidence);
  json["rounds"] = speedup.rounds;
  put(json, "verdict", speedup_verdict_name(speedup_verdict(speedup)));
  return json;
}

Json shape_json(const Shape& shape, i64 top_k) {
  Json json;
  json["rows"] = shape.rows;
  json["heads"] = shape.heads;
  json["head_dim"] = shape.head_dim;
  json["keys"] = shape.keys;
  json["max_window"] = shape.max_window;
  json["top_k"] = top_k;
  put(json, "dtype", dtype_name(shape.dtype));
  json["paged"] = shape.paged;
  return json;
}

std::string reason_of(Doubt doubt) { return std::string(doubt_name(doubt)) + ": " + std::string(doubt_text(doubt)); }

Json stage_json(const ReportStage& stage) {
  Json json;
  put(json, "name", stage_set_name(stage.stages));
  json["time_ns"] = time_json(stage.seconds);
  put(json, "flops", stage.cost ? std::optional(stage.cost->flops) : std::nullopt);
  put(json, "bytes", stage.cost ? std::optional(stage.cost->bytes) : std::nullopt);
  put(json, "flops_per_second", stage.flops_per_second, "");
  put(json, "bytes_per_second", stage.bytes_per_second, "");
  std::optional<double> picoseconds = stage.seconds_per_pair;
  if (picoseconds) *picoseconds *= 1e12;
  put(json, "ps_per_pair", picoseconds, "");
  put(json, "share", stage.share, "");
  if (stage.roof_doubt) {
    put_null(json, "roof_fraction", reason_of(*stage.roof_doubt));
  } else {
    put(json, "roof_fraction", stage.roofline ? std::optional(stage.roofline->fraction) : std::nullopt,
        "no roof was measured or the stage has no cost");
  }
  if (stage.roofline) {
    put(json, "bound", bound_name(stage.roofline->bound));
  } else {
    put_null(json, "bound", "");
  }
  std::string kernels;
  for (const KernelRun& one : stage.kernels) {
    if (!kernels.empty()) kernels += ", ";
    kernels.append(primitive_name(one.primitive)).append(1, '=').append(one.kernel);
  }
  if (!kernels.empty()) put(json, "kernel", kernels);
  return json;
}

Json case_json(const ReportCase& one) {
  Json json;
  put(json, "indexer", one.spec.name);
  put(json, "router", router_of(one.spec));
  put(json, "backend", one.backend);
  json["parameters"] = parameters_json(one.spec);
  json["used"] = parameters_json(one.used);
  json["shape"] = shape_json(one.shape, one.spec.top_k);
  json["threads"] = one.threads;
  json["stages"] = Json::array();
  for (const ReportStage& stage : one.stages) json["stages"].push_back(stage_json(stage));
  if (one.end_to_end) {
    json["end_to_end_ns"] = time_json(*one.end_to_end);
  } else {
    put_null(json, "end_to_end_ns", "not timed");
  }
  if (one.first_call_s) {
    put_ns(json, "first_call_ns", *one.first_call_s);
  } else {
    json["first_call_ns"] = nullptr;
  }
  if (one.closure_residual && one.closure_ok) {
    Json closure;
    put(closure, "residual", *one.closure_residual);
    closure["ok"] = *one.closure_ok;
    if (one.closure_doubt) put(closure, "reason", reason_of(*one.closure_doubt));
    json["closure"] = std::move(closure);
  } else {
    put_null(json, "closure", "stages or end to end were not timed");
  }
  put(json, "speedup_over_dsa", one.speedup_over_dsa, "dsa was not timed in this run");
  if (one.speedup) {
    json["speedup"] = speedup_json(*one.speedup);
  } else {
    put_null(json, "speedup", one.speedup_over_dsa ? "is dsa itself" : "dsa was not timed in this run");
  }
  if (one.quality) {
    json["quality"] = quality_json(*one.quality);
  } else {
    put_null(json, "quality", one.quality_reason.empty() ? "not asked for" : one.quality_reason);
  }
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
  if (loaded) put(json, "reason", *loaded);
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
  put(json, "most_runnable", contention.most_runnable);
  put(json, "clock_min_hz", contention.clock_min_hz, kUnknown);
  put(json, "clock_max_hz", contention.clock_max_hz, kUnknown);
  put(json, "clock_drift", contention.clock_drift());
  return json;
}

Json measurement_json(const ReportMeasurement& measurement) {
  Json json;
  put(json, "cache", measurement.cache);
  put(json, "launch", measurement.launch);
  if (measurement.contention) {
    json["contention"] = contention_json(*measurement.contention, measurement.loaded);
  } else {
    put_null(json, "contention", "nothing was timed");
  }
  if (!measurement.device) {
    put_null(json, "device", "no driver tells");
    return json;
  }
  Json device;
  device["before"] = device_state_json(measurement.device->before);
  device["after"] = device_state_json(measurement.device->after);
  put(device, "sm_clock_min_hz", measurement.device->sm_clock_min_hz, "");
  put(device, "sm_clock_max_hz", measurement.device->sm_clock_max_hz, "");
  put(device, "clock_drift", measurement.device->clock_drift());
  device["throttled"] = measurement.device->throttled;
  json["device"] = std::move(device);
  return json;
}

/// All that is known before the first case.
void put_head(Json& json, const Report& report) {
  put_identity(json, "result-1.0.schema.json", "misa-prof/result", kReportSchemaVersion, report.tool_version,
               report.command_line);
  json["environment"] = environment_json(report.environment);
  json["workload"] = workload_json(report.workload);
}

/// All that is known only after the last case. "complete" comes last: a file without it was cut off.
void put_tail(Json& json, const Report& report) {
  json["skipped"] = Json::array();
  for (const Refusal& skip : report.skipped) {
    Json one;
    put(one, "indexer", skip.indexer);
    put(one, "backend", skip.backend);
    put(one, "reason", skip.reason);
    json["skipped"].push_back(std::move(one));
  }
  if (report.recorded_topk) {
    json["recorded_topk"] = {{"top_k", report.recorded_topk->top_k},
                             {"quality", quality_json(report.recorded_topk->quality)}};
  } else {
    put_null(json, "recorded_topk", report.interrupted ? "interrupted" : "the workload records no selection");
  }
  json["measurement"] = measurement_json(report.measurement);
  json["warnings"] = warnings_json(report.warnings);
  json["complete"] = !report.interrupted;
}

std::string line_of(const Json& json) { return json.dump() + '\n'; }

}  // namespace

std::string write_json(const Report& report, const WriterOptions& /*options*/) {
  Json json;
  put_head(json, report);
  json["cases"] = Json::array();
  for (const ReportCase& one : report.cases) json["cases"].push_back(case_json(one));
  put_tail(json, report);
  return json.dump(2) + '\n';
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
  Json json;
  put(json, "record", std::string_view("header"));
  put_head(json, report);
  sink_(line_of(json));
}

void JsonLinesWriter::add(const ReportCase& one) {
  Json json;
  put(json, "record", std::string_view("case"));
  json["case"] = case_json(one);
  ++cases_;
  sink_(line_of(json));
}

void JsonLinesWriter::footer(const Report& report) {
  Json json;
  put(json, "record", std::string_view("footer"));
  json["cases"] = cases_;
  json["workload"] = workload_json(report.workload);  // with what only the selections tell
  put_tail(json, report);
  sink_(line_of(json));
}

}  // namespace misa
