#include "core/report/json_parts.hpp"

#include <cmath>

#include "core/report/columns.hpp"
#include "core/report/fingerprint.hpp"
#include "core/report/text.hpp"

namespace misa {

void put(Json& object, const std::string& key, Json value, std::string_view reason) {
  const bool null = value.is_null();
  object[key] = std::move(value);
  if (null && !reason.empty()) object[key + "_reason"] = reason;
}

void put(Json& object, const std::string& key, double value) {
  put(object, key, std::isfinite(value) ? Json(value) : Json(), "not a finite number");
}

void put(Json& object, const std::string& key, std::optional<double> value, std::string_view reason) {
  if (value) return put(object, key, *value);
  put(object, key, Json(), reason);
}

void put_ns(Json& object, const std::string& key, std::optional<double> seconds) {
  put(object, key, seconds ? or_null(whole_nanoseconds(*seconds)) : Json(), seconds ? "not a finite number" : "");
}

namespace {

Json build_json(const ReportBuild& build) {
  Json json;
  put(json, "commit", build.commit.empty() ? Json() : Json(build.commit), "neither git nor the source archive told");
  json.update({{"changed", build.changed},
               {"compiler", build.compiler},
               {"type", build.type},
               {"flags", build.flags},
               {"kernel_flags", build.kernel_flags},
               {"libraries", array_of(build.libraries, [](const ReportLibrary& library) {
                  return Json{{"name", library.name}, {"version", library.version}};
                })}});
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
  put_ns(json, "graph_launch_ns", measured(roofs.recorded_launch_seconds));
  json["loaded"] = or_null(backend.roofs_loaded);
  json["peaks"] = array_of(roofs.peaks, [&](const Roofs::Peak& peak) {
    Json one{{"dtype", dtype_name(peak.dtype)}};
    put(one, "flops_per_second", measured(peak.flops_per_second), kUnmeasured);
    return one;
  });
  return json;
}

}  // namespace

Json environment_json(const ReportEnvironment& environment) {
  const SystemInfo& machine = environment.machine;
  Json json{{"timestamp_utc", or_null(environment.timestamp_utc)},
            {"host", or_null(environment.host)},
            {"cpu", machine.cpu},
            {"cores", machine.cores},
            {"threads", environment.threads},
            {"memory_bytes", machine.memory_bytes},
            {"cache_bytes", machine.cache_bytes},
            {"os", machine.os},
            {"governor", machine.governor.empty() ? Json() : Json(machine.governor)},
            {"isa", machine.isa.empty() ? Json() : Json(machine.isa)},
            {"cpu_quota", or_null(machine.cpu_quota)},
            {"fingerprint", fingerprint(environment)}};
  put(json, "load_average", environment.load_average, "");
  json["build"] = build_json(environment.build);
  json["backends"] = array_of(environment.backends, [](const ReportBackend& backend) {
    Json one{{"name", backend.name}, {"description", backend.description}};
    put(one, "roofs", backend.roofs ? roofs_json(backend) : Json(), "this backend measures none");
    return one;
  });
  return json;
}

Json workload_json(const ReportWorkload& workload) {
  const auto spread = [](const ReportContext& counts) {
    return Json{{"min", counts.minimum}, {"median", counts.median}, {"max", counts.maximum}};
  };
  Json json{{"name", workload.name},
            {"provenance", workload.provenance},
            {"model", workload.model},
            {"phase", workload.phase},
            {"rows", workload.rows},
            {"heads", workload.heads},
            {"head_dim", workload.head_dim},
            {"keys", workload.keys},
            {"compress_ratio", workload.compress_ratio},
            {"sequences", workload.sequences},
            {"top_k", workload.top_k},
            {"top_k_source", workload.top_k_source},
            {"dtype", dtype_name(workload.dtype)},
            {"paged", workload.paged},
            {"pairs", workload.pairs},
            {"context", spread(workload.context)},
            {"visible", spread(workload.visible)},
            {"preset", or_null(workload.preset)},
            {"seed", or_null(workload.seed)},
            {"trace_path", or_null(workload.trace_path)}};
  if (workload.input_hash) json["input_hash"] = *workload.input_hash;
  if (workload.layers) json["layers"] = *workload.layers;
  if (workload.indexer_layers) json["indexer_layers"] = *workload.indexer_layers;
  const std::string_view no_recall = workload.pairs == 0 ? kNoTokenSeen : "";
  put(json, "chance_recall", workload.recall.chance, no_recall);
  put(json, "window_recall", workload.recall.window, no_recall);
  return json;
}

Json parameters_json(const ReportParameters& parameters) {
  Json json{{"top_k", parameters.top_k},
            {"active_heads", or_null(parameters.active_heads)},
            {"head_block_size", or_null(parameters.head_block_size)},
            {"sampled_keys", or_null(parameters.sampled_keys)},
            {"blocks", or_null(parameters.blocks)},
            {"block_size", or_null(parameters.block_size)},
            {"candidates", or_null(parameters.candidates)},
            {"block_window", or_null(parameters.block_window)},
            {"pooling", or_null(parameters.pooling)}};
  if (parameters.group) json["group"] = *parameters.group;
  if (!parameters.forced.any()) return json;
  json["force_first"] = parameters.forced.first;
  json["force_last"] = parameters.forced.last;
  return json;
}

Json quality_json(const Quality& quality) {
  Json json{{"reference", quality.reference}};
  const bool forces = quality.forced.any();
  for (const Column* column : quality_columns()) {
    if (column->of_free && !forces) continue;
    const std::size_t dot = column->json.find('.');
    Json& object = dot == std::string_view::npos ? json : json[std::string(column->json.substr(0, dot))];
    const std::string key(dot == std::string_view::npos ? column->json : column->json.substr(dot + 1));
    const Value value = column->of_quality(quality);
    if (const auto* whole = std::get_if<i64>(&value)) {
      object[key] = *whole;
    } else if (const auto* number = std::get_if<double>(&value)) {
      put(object, key, *number);
    } else {
      put(object, key, Json(), column->missing(quality));
    }
  }
  json["per_row"] = Json::array();
  for (const RowQuality& row : quality.per_row) {
    json["per_row"].push_back({{"row", row.row},
                               {"recall", row.recall()},
                               {"iou", row.iou()},
                               {"missed", row.wanted - row.shared},
                               {"attention_mass", or_null(row.attention_mass)}});
    if (forces) json["per_row"].back()["recall_free"] = row.free > 0 ? Json(row.free_recall()) : Json();
  }
  return json;
}

Json identity_json(std::string_view schema_file, std::string_view schema, std::string_view schema_version,
                   const std::string& tool_version, const std::vector<std::string>& command_line) {
  return {{"$schema", schema_file},
          {"schema", schema},
          {"schema_version", schema_version},
          {"tool", {{"name", "misa-prof"}, {"version", tool_version}}},
          {"command_line", Json(command_line)}};
}

Json warnings_json(const std::vector<Warning>& warnings) {
  return array_of(warnings, [](const Warning& warning) {
    return Json{{"id", warning.id}, {"text", warning.what}, {"where", warning.where}};
  });
}

std::string text_of(const Json& json, int indent) {
  return json.dump(indent, ' ', false, Json::error_handler_t::replace) + '\n';
}

}  // namespace misa
