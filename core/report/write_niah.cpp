#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "core/chart/heat_map.hpp"
#include "core/report/niah_report.hpp"
#include "core/report/text.hpp"
#include "core/report/writers.hpp"

namespace misa {
namespace {

constexpr i64 kFactNameWidth = 9;  // "needles"
constexpr i64 kDepthWidth = 6;     // "100 % "
constexpr i64 kShareWidth = 5;     // " 100 "
constexpr i64 kMapGap = 3;         // between maps side by side

/// Whole per cent, rounded down: only all of them are 100.
std::string per_cent(double share) { return fmt::format("{:.0f}", std::floor(100 * share + 1e-9)); }

std::string depth_text(double depth) { return fmt::format("{:g} %", std::round(1000 * depth) / 10); }

/// "128k" where that is exact.
std::string context_text(i64 tokens) {
  return tokens % 1024 == 0 ? fmt::format("{}k", tokens / 1024) : fmt::format("{}", tokens);
}

/// `text` on the colour of a share: the nearest in the 6 x 6 x 6 cube of 256 colours, which terminals agree on.
std::string on_heat(const std::string& text, double share) {
  const chart::HeatColour colour = chart::heat_colour(share);
  const auto sixth = [](int part) { return (part * 5 + 127) / 255; };
  return fmt::format("\x1b[{};48;5;{}m{}\x1b[0m", colour.pale_text ? "97" : "30",
                     16 + 36 * sixth(colour.red) + 6 * sixth(colour.green) + sixth(colour.blue), text);
}

std::string map_cell(const std::optional<NiahCell>& cell, bool colour) {
  if (!cell) return padded("– ", kShareWidth, true);
  const std::string text = padded(per_cent(cell->mean) + " ", kShareWidth, true);
  return colour ? on_heat(text, cell->mean) : text;
}

/// Lines of a map for the contexts [first, first + count), all of the same width.
std::vector<std::string> map_lines(const NiahReport& report, const NiahMap& map, std::size_t first, std::size_t count,
                                   bool colour) {
  const i64 width = kDepthWidth + kShareWidth * static_cast<i64>(count);
  std::vector<std::string> lines;
  lines.push_back(styled(padded(shortened(printable(map.name), width), width, false), Style::strong, colour));
  std::string head = padded("", kDepthWidth, false);
  for (std::size_t c = first; c < first + count; ++c) {
    head += padded(shortened(context_text(report.contexts[c]), kShareWidth - 1) + " ", kShareWidth, true);
  }
  lines.push_back(styled(head, Style::faint, colour));
  for (std::size_t d = 0; d < report.depths.size(); ++d) {
    std::string line = styled(padded(depth_text(report.depths[d]) + " ", kDepthWidth, true), Style::faint, colour);
    for (std::size_t c = first; c < first + count; ++c) line += map_cell(map.cells[c][d], colour);
    lines.push_back(std::move(line));
  }
  return lines;
}

/// The maps side by side, as many as fit; one that is too wide in parts.
std::string maps_text(const NiahReport& report, int width, bool colour) {
  const std::size_t all = report.contexts.size();
  const auto fitting = static_cast<std::size_t>(std::max<i64>(1, (width - kDepthWidth) / kShareWidth));
  const std::size_t columns = std::min(all, fitting);
  const i64 map_width = kDepthWidth + kShareWidth * static_cast<i64>(columns);
  const auto abreast = columns < all
                           ? std::size_t{1}
                           : static_cast<std::size_t>(std::max<i64>(1, (width + kMapGap) / (map_width + kMapGap)));
  std::string out;
  for (std::size_t m = 0; m < report.maps.size(); m += abreast) {
    for (std::size_t first = 0; first < all; first += columns) {
      std::vector<std::string> lines;
      for (std::size_t i = m; i < std::min(m + abreast, report.maps.size()); ++i) {
        const auto one = map_lines(report, report.maps[i], first, std::min(columns, all - first), colour);
        if (i == m) {
          lines = one;
          continue;
        }
        for (std::size_t l = 0; l < lines.size(); ++l) lines[l] += std::string(kMapGap, ' ') + one[l];
      }
      for (std::string& line : lines) {
        while (!line.empty() && line.back() == ' ') line.pop_back();
        out += line + "\n";
      }
      out += "\n";
    }
  }
  return out;
}

TextTable niah_summary(const NiahReport& report) {
  TextTable table({{"indexer", false}, {"mean"}, {"worst needle"}, {"at context", true, 1}, {"depth", true, 1}});
  for (const NiahMap& map : report.maps) {
    const std::optional<double> mean = map.mean();
    const std::optional<NiahWorst> worst = map.worst(report.contexts, report.depths);
    std::vector<Cell> cells{{printable(map.name), Style::strong}, {mean ? percent(*mean) : "–"}};
    if (worst) {
      cells.push_back({percent(worst->share)});
      const bool lost = worst->share < 1;
      cells.push_back({lost ? context_text(worst->context) : ""});
      cells.push_back({lost ? depth_text(worst->depth) : ""});
    }
    table.add(std::move(cells));
  }
  return table;
}

std::vector<Fact> describe_niah(const NiahReport& report) {
  const NiahInputs& inputs = report.inputs;
  std::vector<std::string> seeds;
  for (const u64 seed : report.seeds) seeds.push_back(fmt::format("{}", seed));
  std::string mode = "asked for by the 4 heads of largest positive weight";
  if (inputs.mode == "all") mode = "asked for by every head of positive weight";
  if (inputs.mode == "silent") mode += ", which fire for nothing else";
  std::vector<Fact> facts{
      {"inputs",
       {printable(inputs.model), "preset " + printable(inputs.preset),
        counted(inputs.heads, "head", "heads") + fmt::format(" × {}", inputs.head_dim),
        inputs.compress_ratio > 1 ? fmt::format("entries of {} tokens", inputs.compress_ratio) : "",
        std::string(dtype_name(inputs.dtype)), fmt::format("top-k {}", inputs.top_k)}},
      {"needles",
       {counted(inputs.needle_tokens, "token", "tokens") + " each", mode,
        counted(inputs.needles * static_cast<i64>(report.seeds.size()), "needle", "needles") + " a cell",
        (report.seeds.size() == 1 ? "seed " : "seeds ") + joined(seeds, ", ")}}};
  for (const ReportBackend& backend : report.environment.backends) {
    facts.push_back({printable(backend.name), {printable(backend.description)}});
  }
  return facts;
}

std::vector<Cell> niah_notes(const NiahReport& report) {
  std::vector<Cell> notes;
  for (const Refusal& skip : report.skipped) {
    notes.push_back({fmt::format("skipped {}: {}", printable(skip.indexer), printable(skip.reason)), Style::caution});
  }
  for (const Warning& warning : report.warnings) notes.push_back({warning_line(warning), Style::caution});
  if (report.interrupted) notes.push_back({"interrupted: this map is not complete", Style::bad});
  return notes;
}

constexpr std::string_view kReadingIt =
    "Share of a needle's tokens that are selected, in per cent. Across: context; down: depth of the needle.";

}  // namespace

std::string write_niah_table(const NiahReport& report, const WriterOptions& options) {
  const bool colour = options.colour;
  std::string out = text_head(report.tool_version, report.environment, describe_niah(report), kFactNameWidth, options);
  out += hanging("", 0, words_of(std::string(kReadingIt)), " ", options.width) + "\n\n";
  out += maps_text(report, options.width, colour);
  out += niah_summary(report).text(options.width, colour);
  const std::vector<Cell> notes = niah_notes(report);
  if (!notes.empty()) out += "\n";
  for (const Cell& note : notes) {
    for (const std::string& line : wrapped(words_of(note.text), " ", options.width)) {
      out += styled(line, note.style, colour) + "\n";
    }
  }
  return out;
}

std::string write_niah_markdown(const NiahReport& report, const WriterOptions& /*options*/) {
  std::string out = "## misa-prof " + escaped_markdown(report.tool_version) + ": needles\n\n";
  for (const Fact& fact : describe_niah(report)) {
    out += "- **" + escaped_markdown(fact.name) + "**: " + escaped_markdown(joined(fact.parts, " · ")) + "\n";
  }
  out += fmt::format("\n{}\n\n", kReadingIt) + niah_summary(report).markdown();
  for (const NiahMap& map : report.maps) {
    std::vector<TableColumn> columns{{"depth"}};
    for (const i64 context : report.contexts) columns.push_back({context_text(context)});
    TextTable table(std::move(columns));
    for (std::size_t d = 0; d < report.depths.size(); ++d) {
      std::vector<Cell> cells{{depth_text(report.depths[d])}};
      for (const auto& column : map.cells) cells.push_back({column[d] ? per_cent(column[d]->mean) : "–"});
      table.add(std::move(cells));
    }
    out += "\n### " + escaped_markdown(map.name) + "\n\n" + table.markdown();
  }
  const std::vector<Cell> notes = niah_notes(report);
  if (!notes.empty()) out += "\n### Notes\n\n";
  for (const Cell& note : notes) out += "- " + escaped_markdown(note.text) + "\n";
  return out;
}

}  // namespace misa
