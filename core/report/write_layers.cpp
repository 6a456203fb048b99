#include <fmt/format.h>

#include <array>

#include "core/report/json_parts.hpp"
#include "core/report/layers_report.hpp"
#include "core/report/text.hpp"
#include "core/report/writers.hpp"

namespace misa {
namespace {

constexpr i64 kLayersNameWidth = 11;

Cell layer_share(std::optional<double> value) { return {value ? four_decimals(value) : ""}; }
Cell layer_ratio(std::optional<double> ratio) { return {ratio ? short_number(*ratio) + "×" : ""}; }

TextTable layers_table(const LayersReport& report) {
  TextTable table({{"layers", false},
                   {"indexer", false},
                   {"end to end"},
                   {"vs dsa"},
                   {"recall"},
                   {"mass", true, 2},
                   {"reused: recall"},
                   {"mass", true, 1}});
  for (const Layer& layer : report.layers) {
    std::optional<double> dsa;
    for (const LayerCase& one : layer.cases) {
      if (one.indexer == "dsa") dsa = one.seconds;
    }
    for (const LayerCase& one : layer.cases) {
      const bool is_first = &one == &layer.cases.front();
      const Kept reused = one.reused.value_or(Kept{});
      const bool timed = one.seconds && *one.seconds > 0;
      table.add({{is_first ? printable(layer.name) : "", Style::strong},
                 {one.indexer},
                 {timed ? si_number(*one.seconds, "s") : "–"},
                 layer_ratio(timed && dsa && one.indexer != "dsa" ? std::optional(*dsa / *one.seconds) : std::nullopt),
                 layer_share(one.kept.recall),
                 layer_share(one.kept.attention_mass),
                 layer_share(reused.recall),
                 layer_share(reused.attention_mass)});
    }
  }
  i64 period = 0;
  for (const LayersSum& sum : sums_of(report)) {
    const bool is_first = sum.period != period;
    period = sum.period;
    const std::string what =
        period == 1 ? fmt::format("all {} layers", report.layers.size()) : "every 2nd layer reuses";
    table.add({{is_first ? what : "", Style::strong},
               {sum.indexer},
               {si_number(sum.seconds, "s")},
               layer_ratio(sum.speedup_over_dsa),
               layer_share(sum.kept.recall),
               layer_share(sum.kept.attention_mass),
               {},
               {}});
  }
  return table;
}

std::vector<Fact> facts_of_layers(const LayersReport& report) {
  std::vector<Fact> facts;
  if (!report.layers.empty()) {
    const Layer& first = report.layers.front();
    facts.push_back(
        {"layers",
         {counted(static_cast<i64>(report.layers.size()), "layer", "layers"), counted(first.rows, "row", "rows"),
          counted(first.heads, "head", "heads"), fmt::format("top-k {}", first.top_k)}});
  }
  facts.push_back(
      {"machine",
       {printable(report.environment.machine.cpu), counted(report.environment.threads, "thread", "threads")}});
  facts.push_back({"build", {build_text(report.environment.build)}});
  for (const ReportBackend& backend : report.environment.backends) {
    facts.push_back({printable(backend.name), {printable(backend.description)}});
  }
  return facts;
}

std::vector<std::string> notes_of_layers(const LayersReport& report) {
  std::vector<std::string> notes;
  notes.emplace_back(
      "reused: what an indexer selected in the layer before, against dsa in this one; a layer that reuses takes no "
      "time");
  for (const std::string& one : report.skipped) notes.push_back("skipped: " + printable(one));
  for (const Warning& warning : report.warnings) notes.push_back(warning_line(warning));
  if (report.interrupted) notes.emplace_back("interrupted: layers are missing");
  return notes;
}

std::string write_layers_table(const LayersReport& report, const WriterOptions& options) {
  std::string out =
      text_head(report.tool_version, report.environment, facts_of_layers(report), kLayersNameWidth, options);
  out += layers_table(report).text(options.width, options.colour) + '\n';
  for (const std::string& note : notes_of_layers(report)) {
    for (const std::string& line : wrapped(words_of(note), " ", options.width)) out += line + '\n';
  }
  return out;
}

std::string write_layers_markdown(const LayersReport& report, const WriterOptions& /*options*/) {
  std::string out = "## misa-prof " + escaped_markdown(report.tool_version) + "\n\n";
  for (const Fact& fact : facts_of_layers(report)) {
    out += "- **" + escaped_markdown(fact.name) + "**: " + escaped_markdown(joined(fact.parts, " · ")) + '\n';
  }
  out += "\n### Layers\n\n" + layers_table(report).markdown() + "\n### Notes\n\n";
  for (const std::string& note : notes_of_layers(report)) out += "- " + escaped_markdown(note) + '\n';
  return out;
}

Json kept_json(const Kept& kept) {
  return {{"recall", or_null(kept.recall)}, {"attention_mass", or_null(kept.attention_mass)}};
}

Json layer_json(const Layer& layer) {
  return {{"name", layer.name},
          {"rows", layer.rows},
          {"heads", layer.heads},
          {"top_k", layer.top_k},
          {"cases", array_of(layer.cases, [](const LayerCase& one) {
             return Json{{"indexer", one.indexer},
                         {"ns", one.seconds ? or_null(whole_nanoseconds(*one.seconds)) : Json()},
                         {"kept", kept_json(one.kept)},
                         {"reused", one.reused ? kept_json(*one.reused) : Json()}};
           })}};
}

std::string write_layers_json(const LayersReport& report, const WriterOptions& /*options*/) {
  Json json = identity_json("layers-1.0.schema.json", "misa-prof/layers", kLayersSchemaVersion, report.tool_version,
                            report.command_line);
  json["environment"] = environment_json(report.environment);
  json["layers"] = array_of(report.layers, layer_json);
  json["sums"] = array_of(sums_of(report), [](const LayersSum& sum) {
    return Json{{"indexer", sum.indexer},
                {"period", sum.period},
                {"ns", or_null(whole_nanoseconds(sum.seconds))},
                {"speedup_over_dsa", or_null(sum.speedup_over_dsa)},
                {"kept", kept_json(sum.kept)}};
  });
  json["skipped"] = report.skipped;
  json["warnings"] = warnings_json(report.warnings);
  json["complete"] = !report.interrupted;
  return text_of(json, 2);
}

struct LayersFormat {
  std::string_view name;
  std::string (*write)(const LayersReport&, const WriterOptions&);
};
constexpr std::array kLayersFormats{LayersFormat{"table", write_layers_table}, LayersFormat{"json", write_layers_json},
                                    LayersFormat{"md", write_layers_markdown}};

}  // namespace

std::vector<std::string_view> layers_format_names() {
  std::vector<std::string_view> names;
  for (const LayersFormat& format : kLayersFormats) names.push_back(format.name);
  return names;
}

std::string write_report(const LayersReport& report, std::string_view format, const WriterOptions& options) {
  for (const LayersFormat& one : kLayersFormats) {
    if (one.name == format) return one.write(report, options);
  }
  return write_layers_table(report, options);
}

}  // namespace misa
