#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "core/report/text.hpp"
#include "core/report/writers.hpp"

namespace misa {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kSchemaFile = "result-1.0.schema.json";

void put(Json& object, const std::string& key, std::string_view text) { object[key] = repaired_utf8(text); }

void put(Json& object, const std::string& key, const std::string& text) { object[key] = repaired_utf8(text); }

void put(Json& object, const std::string& key, const std::optional<std::string>& text) {
  if (text) {
    put(object, key, *text);
  } else {
    object[key] = nullptr;
  }
}

void put(Json& object, const std::string& key, std::optional<i64> value) {
  if (value) {
    object[key] = *value;
  } else {
    object[key] = nullptr;
  }
}

void put_null(Json& object, const std::string& key, std::string_view reason) {
  object[key] = nullptr;
  if (!reason.empty()) put(object, key + "_reason", reason);
}

/// JSON has no NaN and no infinity: null, and why.
void put(Json& object, const std::string& key, double value) {
  if (std::isfinite(value)) {
    object[key] = value;
  } else {
    put_null(object, key, "not a finite number");
  }
}

void put(Json& object, const std::string& key, std::optional<double> value, std::string_view reason) {
  if (value) {
    put(object, key, *value);
  } else {
    put_null(object, key, reason);
  }
}

/// Whole nanoseconds.
void put_ns(Json& object, const std::string& key, double seconds) {
  if (const std::optional<i64> nanoseconds = whole_nanoseconds(seconds)) {
    object[key] = *nanoseconds;
  } else {
    put_null(object, key, "not a finite number");
  }
}

Json time_json(const ReportTime& time) {
  Json json;
  put_ns(json, "median", time.median_s);
  put_ns(json, "p10", time.p10_s);
  put_ns(json, "p90", time.p90_s);
  json["samples"] = time.samples;
  return json;
}

Json environment_json(const ReportEnvironment& environment) {
  Json json;
  put(json, "timestamp_utc", environment.timestamp_utc);
  put(json, "host", environment.host);
  put(json, "cpu", environment.cpu);
  json["cores"] = environment.cores;
  json["threads"] = environment.threads;
  json["memory_bytes"] = environment.memory_bytes;
  put(json, "os", environment.os);
  json["backends"] = Json::array();
  for (const ReportBackend& backend : environment.backends) {
    Json one;
    put(one, "name", backend.name);
    put(one, "description", backend.description);
    if (backend.roofs) {
      Json roofs;
      put(roofs, "flops_per_second", backend.roofs->flops_per_second);
      put(roofs, "bytes_per_second", backend.roofs->bytes_per_second);
      put_ns(roofs, "launch_ns", backend.roofs->launch_seconds);
      one["roofs"] = std::move(roofs);
    } else {
      put_null(one, "roofs", "this backend measures none");
    }
    json["backends"].push_back(std::move(one));
  }
  return json;
}

Json workload_json(const ReportWorkload& workload) {
  Json json;
  put(json, "name", workload.name);
  put(json, "provenance", workload.provenance);
  put(json, "model", workload.model);
  put(json, "phase", workload.phase);
  json["rows"] = workload.rows;
  json["heads"] = workload.heads;
  json["head_dim"] = workload.head_dim;
  json["keys"] = workload.keys;
  json["sequences"] = workload.sequences;
  json["top_k"] = workload.top_k;
  put(json, "dtype", workload.dtype);
  json["paged"] = workload.paged;
  json["pairs"] = workload.pairs;
  json["context"] = {
      {"min", workload.context.minimum}, {"median", workload.context.median}, {"max", workload.context.maximum}};
  put(json, "seed", workload.seed);
  put(json, "trace_path", workload.trace_path);
  put(json, "chance_recall", workload.chance_recall, "");
  put(json, "window_recall", workload.window_recall, "");
  return json;
}

Json parameters_json(const ReportParameters& parameters) {
  Json json;
  json["top_k"] = parameters.top_k;
  put(json, "active_heads", parameters.active_heads);
  put(json, "head_block_size", parameters.head_block_size);
  put(json, "blocks", parameters.blocks);
  put(json, "block_size", parameters.block_size);
  put(json, "candidates", parameters.candidates);
  put(json, "block_window", parameters.block_window);
  return json;
}

Json shape_json(const ReportShape& shape) {
  Json json;
  json["rows"] = shape.rows;
  json["heads"] = shape.heads;
  json["head_dim"] = shape.head_dim;
  json["keys"] = shape.keys;
  json["max_window"] = shape.max_window;
  json["top_k"] = shape.top_k;
  put(json, "dtype", shape.dtype);
  json["paged"] = shape.paged;
  return json;
}

Json stage_json(const ReportStage& stage) {
  Json json;
  put(json, "name", stage.name);
  json["time_ns"] = time_json(stage.time);
  put(json, "flops", stage.flops);
  put(json, "bytes", stage.bytes);
  put(json, "flops_per_second", stage.flops_per_second, "");
  put(json, "bytes_per_second", stage.bytes_per_second, "");
  std::optional<double> picoseconds = stage.seconds_per_pair;
  if (picoseconds) *picoseconds *= 1e12;
  put(json, "ps_per_pair", picoseconds, "");
  put(json, "share", stage.share, "");
  put(json, "roof_fraction", stage.roof_fraction, "no roof was measured or the stage has no cost");
  put(json, "bound", stage.bound);
  return json;
}

Json quality_json(const ReportQuality& quality) {
  constexpr std::string_view kNoMass = "the workload records no main attention";
  Json json;
  put(json, "reference", quality.reference);
  json["rows"] = quality.rows;
  Json recall;
  put(recall, "mean", quality.recall.mean);
  put(recall, "median", quality.recall.median);
  put(recall, "p1", quality.recall.p1);
  put(recall, "worst", quality.recall.worst);
  recall["worst_row"] = quality.recall.worst_row;
  json["recall"] = std::move(recall);
  put(json, "iou", quality.iou);
  put(json, "attention_mass", quality.attention_mass, kNoMass);
  put(json, "attention_mass_absolute", quality.attention_mass_absolute, kNoMass);
  put(json, "reference_attention_mass", quality.reference_attention_mass, kNoMass);
  json["attention_mass_rows"] = quality.attention_mass_rows;
  put(json, "needle_hit_rate", quality.needle_hit_rate, "the workload has no needles");
  json["needle_cells"] = quality.needle_cells;
  return json;
}

Json case_json(const ReportCase& one) {
  Json json;
  put(json, "indexer", one.indexer);
  put(json, "router", one.router);
  put(json, "backend", one.backend);
  json["parameters"] = parameters_json(one.parameters);
  json["shape"] = shape_json(one.shape);
  json["threads"] = one.threads;
  json["stages"] = Json::array();
  for (const ReportStage& stage : one.stages) json["stages"].push_back(stage_json(stage));
  if (one.end_to_end) {
    Json time = time_json(*one.end_to_end);
    time["raw"] = Json::array();
    for (double seconds : one.end_to_end_samples_s) {
      if (const std::optional<i64> nanoseconds = whole_nanoseconds(seconds)) time["raw"].push_back(*nanoseconds);
    }
    json["end_to_end_ns"] = std::move(time);
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
    json["closure"] = std::move(closure);
  } else {
    put_null(json, "closure", "stages or end to end were not timed");
  }
  put(json, "speedup_over_dsa", one.speedup_over_dsa, "dsa was not timed in this run");
  if (one.quality) {
    json["quality"] = quality_json(*one.quality);
  } else {
    put_null(json, "quality", one.quality_reason.empty() ? "not asked for" : one.quality_reason);
  }
  return json;
}

/// All that is known before the first case.
void put_head(Json& json, const Report& report) {
  put(json, "$schema", std::string_view(kSchemaFile));
  put(json, "schema", std::string_view("misa-prof/result"));
  put(json, "schema_version", kReportSchemaVersion);
  Json tool;
  put(tool, "name", std::string_view("misa-prof"));
  put(tool, "version", report.tool_version);
  json["tool"] = std::move(tool);
  json["command_line"] = Json::array();
  for (const std::string& word : report.command_line) json["command_line"].push_back(repaired_utf8(word));
  json["environment"] = environment_json(report.environment);
  json["workload"] = workload_json(report.workload);
}

/// All that is known only after the last case. "complete" comes last: a file without it was cut off.
void put_tail(Json& json, const Report& report) {
  json["skipped"] = Json::array();
  for (const ReportSkip& skip : report.skipped) {
    Json one;
    put(one, "indexer", skip.indexer);
    put(one, "backend", skip.backend);
    put(one, "reason", skip.reason);
    json["skipped"].push_back(std::move(one));
  }
  json["warnings"] = Json::array();
  for (const ReportWarning& warning : report.warnings) {
    Json one;
    put(one, "id", warning.id);
    put(one, "text", warning.text);
    json["warnings"].push_back(std::move(one));
  }
  json["complete"] = !report.interrupted;
}

std::string line_of(const Json& json) { return json.dump() + '\n'; }

}  // namespace

std::string write_json(const Report& report) {
  Json json;
  put_head(json, report);
  json["cases"] = Json::array();
  for (const ReportCase& one : report.cases) json["cases"].push_back(case_json(one));
  put_tail(json, report);
  return json.dump(2) + '\n';
}

std::string write_json_lines(const Report& report) {
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
  put_tail(json, report);
  sink_(line_of(json));
}

}  // namespace misa
