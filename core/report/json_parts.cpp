#include "core/report/json_parts.hpp"

#include <cmath>

#include "core/report/columns.hpp"
#include "core/report/text.hpp"

namespace misa {

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

void put_ns(Json& object, const std::string& key, double seconds) {
  if (const std::optional<i64> nanoseconds = whole_nanoseconds(seconds)) {
    object[key] = *nanoseconds;
  } else {
    put_null(object, key, "not a finite number");
  }
}

namespace {

Json build_json(const ReportBuild& build) {
  Json json;
  if (build.commit.empty()) {
    put_null(json, "commit", "neither git nor the source archive told");
  } else {
    put(json, "commit", build.commit);
  }
  json["changed"] = build.changed;
  put(json, "compiler", build.compiler);
  put(json, "type", build.type);
  put(json, "flags", build.flags);
  put(json, "kernel_flags", build.kernel_flags);
  json["libraries"] = Json::array();
  for (const ReportLibrary& library : build.libraries) {
    Json one;
    put(one, "name", library.name);
    put(one, "version", library.version);
    json["libraries"].push_back(std::move(one));
  }
  return json;
}

/// A rate that was measured.
std::optional<double> measured(double rate) { return rate > 0 ? std::optional(rate) : std::nullopt; }

Json roofs_json(const ReportBackend& backend) {
  constexpr std::string_view kUnmeasured = "it could not be measured";
  const Roofs& roofs = *backend.roofs;
  Json json;
  put(json, "flops_per_second", measured(roofs.flops_of(backend.elements)), kUnmeasured);
  put(json, "bytes_per_second", roofs.bytes_per_second);
  put_ns(json, "launch_ns", roofs.launch_seconds);
  put(json, "copy_bytes_per_second", measured(roofs.copy_bytes_per_second), "");
  if (roofs.recorded_launch_seconds > 0) {
    put_ns(json, "graph_launch_ns", roofs.recorded_launch_seconds);
  } else {
    put_null(json, "graph_launch_ns", "");
  }
  put(json, "loaded", backend.roofs_loaded);
  json["peaks"] = Json::array();
  for (const Roofs::Peak& peak : roofs.peaks) {
    Json one;
    put(one, "dtype", dtype_name(peak.dtype));
    put(one, "flops_per_second", measured(peak.flops_per_second), kUnmeasured);
    json["peaks"].push_back(std::move(one));
  }
  return json;
}

}  // namespace

Json environment_json(const ReportEnvironment& environment) {
  Json json;
  put(json, "timestamp_utc", environment.timestamp_utc);
  put(json, "host", environment.host);
  put(json, "cpu", environment.machine.cpu);
  json["cores"] = environment.machine.cores;
  json["threads"] = environment.threads;
  json["memory_bytes"] = environment.machine.memory_bytes;
  json["cache_bytes"] = environment.machine.cache_bytes;
  put(json, "os", environment.machine.os);
  const std::string& governor = environment.machine.governor;
  put(json, "governor", governor.empty() ? std::nullopt : std::optional(governor));
  put(json, "load_average", environment.load_average, "");
  json["build"] = build_json(environment.build);
  json["backends"] = Json::array();
  for (const ReportBackend& backend : environment.backends) {
    Json one;
    put(one, "name", backend.name);
    put(one, "description", backend.description);
    if (backend.roofs) {
      one["roofs"] = roofs_json(backend);
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
  put(json, "top_k_source", workload.top_k_source);
  put(json, "dtype", dtype_name(workload.dtype));
  json["paged"] = workload.paged;
  json["pairs"] = workload.pairs;
  json["context"] = {
      {"min", workload.context.minimum}, {"median", workload.context.median}, {"max", workload.context.maximum}};
  put(json, "preset", workload.preset);
  put(json, "seed", workload.seed);
  put(json, "trace_path", workload.trace_path);
  const std::string_view no_recall = workload.pairs == 0 ? kNoTokenSeen : "";
  put(json, "chance_recall", workload.recall.chance, no_recall);
  put(json, "window_recall", workload.recall.window, no_recall);
  return json;
}

Json parameters_json(const IndexerSpec& spec) { return parameters_json(parameters_of(spec)); }

Json parameters_json(const ReportParameters& parameters) {
  Json json;
  json["top_k"] = parameters.top_k;
  put(json, "active_heads", parameters.active_heads);
  put(json, "head_block_size", parameters.head_block_size);
  put(json, "sampled_keys", parameters.sampled_keys);
  put(json, "blocks", parameters.blocks);
  put(json, "block_size", parameters.block_size);
  put(json, "candidates", parameters.candidates);
  put(json, "block_window", parameters.block_window);
  return json;
}

Json quality_json(const Quality& quality) {
  Json json;
  put(json, "reference", quality.reference);
  for (const Column* column : quality_columns()) {
    const std::size_t dot = column->json.find('.');
    Json& object = dot == std::string_view::npos ? json : json[std::string(column->json.substr(0, dot))];
    const std::string key(dot == std::string_view::npos ? column->json : column->json.substr(dot + 1));
    const Value value = column->of_quality(quality);
    if (const auto* whole = std::get_if<i64>(&value)) {
      object[key] = *whole;
    } else if (const auto* number = std::get_if<double>(&value)) {
      put(object, key, *number);
    } else {
      put_null(object, key, column->missing(quality));
    }
  }
  return json;
}

void put_identity(Json& json, std::string_view schema_file, std::string_view schema, std::string_view schema_version,
                  const std::string& tool_version, const std::vector<std::string>& command_line) {
  put(json, "$schema", schema_file);
  put(json, "schema", schema);
  put(json, "schema_version", schema_version);
  Json tool;
  put(tool, "name", std::string_view("misa-prof"));
  put(tool, "version", tool_version);
  json["tool"] = std::move(tool);
  json["command_line"] = Json::array();
  for (const std::string& word : command_line) json["command_line"].push_back(repaired_utf8(word));
}

Json warnings_json(const std::vector<Warning>& warnings) {
  Json json = Json::array();
  for (const Warning& warning : warnings) {
    Json one;
    put(one, "id", warning.id);
    put(one, "text", warning.what);
    put(one, "where", warning.where);
    json.push_back(std::move(one));
  }
  return json;
}

}  // namespace misa
