#include <fmt/format.h>

#include <cstddef>

#include "core/report/json_parts.hpp"
#include "core/report/niah_report.hpp"
#include "core/report/text.hpp"
#include "core/report/writers.hpp"

namespace misa {
namespace {

constexpr std::string_view kUnknownCell = "the run did not come to it, or the needles do not fit";

template <class Number>
Json cells_json(const NiahMap& map, Number number) {
  return array_of(map.cells, [&](const std::vector<std::optional<NiahCell>>& column) {
    return array_of(column, [&](const std::optional<NiahCell>& cell) { return cell ? Json(number(*cell)) : Json(); });
  });
}

Json niah_map_json(const NiahReport& report, const NiahMap& map) {
  Json json{{"name", map.name},
            {"indexer", map.spec.name},
            {"router", or_null(router_of(map.spec))},
            {"parameters", parameters_json(parameters_of(map.spec))},
            {"backend", map.backend},
            {"shares", cells_json(map, [](const NiahCell& cell) { return cell.mean; })},
            {"worst_shares", cells_json(map, [](const NiahCell& cell) { return cell.worst; })},
            {"needles", cells_json(map, [](const NiahCell& cell) { return cell.needles; })}};
  put(json, "mean", map.mean(), kUnknownCell);
  const std::optional<NiahWorst> worst = map.worst(report.contexts, report.depths);
  put(json, "worst",
      worst ? Json{{"share", worst->share}, {"context", worst->context}, {"depth", worst->depth}} : Json(),
      kUnknownCell);
  return json;
}

Json niah_inputs_json(const NiahInputs& inputs) {
  return {{"model", inputs.model},
          {"preset", inputs.preset},
          {"heads", inputs.heads},
          {"head_dim", inputs.head_dim},
          {"dtype", dtype_name(inputs.dtype)},
          {"top_k", inputs.top_k},
          {"compress_ratio", inputs.compress_ratio},
          {"needle_mode", inputs.mode},
          {"needle_tokens", inputs.needle_tokens},
          {"needle_gain", inputs.gain},
          {"needles_per_cell_and_seed", inputs.needles}};
}

}  // namespace

std::string write_niah_json(const NiahReport& report, const WriterOptions& /*options*/) {
  Json json = identity_json("niah-1.0.schema.json", "misa-prof/niah", kNiahSchemaVersion, report.tool_version,
                            report.command_line);
  json["environment"] = environment_json(report.environment);
  json["inputs"] = niah_inputs_json(report.inputs);
  json["contexts"] = report.contexts;
  json["depths"] = report.depths;
  json["seeds"] = array_of(report.seeds, [](u64 seed) { return Json(std::to_string(seed)); });
  json["maps"] = array_of(report.maps, [&](const NiahMap& map) { return niah_map_json(report, map); });
  json["skipped"] = array_of(report.skipped, [](const Refusal& skip) {
    return Json{{"name", skip.indexer}, {"backend", skip.backend}, {"reason", skip.reason}};
  });
  json["warnings"] = warnings_json(report.warnings);
  json["complete"] = !report.interrupted;
  return text_of(json, 2);
}

std::string write_niah_csv(const NiahReport& report, const WriterOptions& /*options*/) {
  std::string text =
      "map,indexer,router,backend,model,preset,top_k,active_heads,candidates,blocks,context,depth,needles,share_mean,"
      "share_worst\r\n";
  const auto number = [](const std::optional<i64>& value) { return value ? fmt::format("{}", *value) : std::string(); };
  for (const NiahMap& map : report.maps) {
    const ReportParameters parameters = parameters_of(map.spec);
    const std::string head =
        fmt::format("{},{},{},{},{},{},{},{},{},{}", csv_field(map.name), csv_field(map.spec.name),
                    router_of(map.spec).value_or(""), csv_field(map.backend), csv_field(report.inputs.model),
                    csv_field(report.inputs.preset), parameters.top_k, number(parameters.active_heads),
                    number(parameters.candidates), number(parameters.blocks));
    for (std::size_t c = 0; c < report.contexts.size(); ++c) {
      for (std::size_t d = 0; d < report.depths.size(); ++d) {
        const std::optional<NiahCell>& cell = map.cells[c][d];
        text += fmt::format("{},{},{},", head, report.contexts[c], exact_number(report.depths[d]));
        text += cell ? fmt::format("{},{},{}\r\n", cell->needles, exact_number(cell->mean), exact_number(cell->worst))
                     : std::string("0,,\r\n");
      }
    }
  }
  return text;
}

}  // namespace misa
