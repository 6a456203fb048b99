#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "core/chart/bars.hpp"
#include "core/report/exhibit.hpp"
#include "core/report/result_file.hpp"
#include "core/report/text.hpp"

// What is shown of a comparison.
namespace misa {
namespace {

/// The verdicts of rows, gathered to what a reader decides by.
constexpr std::array<std::pair<std::string_view, std::array<std::string_view, 4>>, 4> kVerdictGroups{{
    {"exact", {"exact", "empty"}},
    {"within rounding", {"tie_swap", "within_bound", "follows"}},
    {"not judged", {"unbounded", "unknown", "unjudged"}},
    {"wrong", {"miss", "violation"}},
}};
constexpr std::array<int, 4> kVerdictStyles{2, 0, 6, 1};

double rows_of(const Json& choice, std::size_t group) {
  double sum = 0;
  for (const std::string_view name : kVerdictGroups[group].second) {
    if (!name.empty()) sum += number_at(choice, "verdicts." + std::string(name)).value_or(0);
  }
  return sum;
}

Exhibit verdicts_exhibit(const Json& cases, const std::vector<std::string>& names) {
  Exhibit exhibit{.name = "verdicts"};
  exhibit.table = {.caption = "Rows by verdict", .columns = {{"indexer and choice"}}};
  chart::BarChart bars{.title = "Rows by verdict", .axis = "rows"};
  bars.parts.resize(chart::kStyles);
  for (std::size_t group = 0; group < kVerdictGroups.size(); ++group) {
    bars.parts[static_cast<std::size_t>(kVerdictStyles[group])] = kVerdictGroups[group].first;
    exhibit.table.columns.push_back({std::string(kVerdictGroups[group].first), true});
  }
  double wrong = 0;
  for (std::size_t i = 0; i < names.size(); ++i) {
    for (const Json& choice : array_at(cases[i], "choices")) {
      const std::string label = names[i] + ": " + text_at(choice, "name").value_or("unnamed");
      chart::Bar bar{.name = label, .total = fmt::format("{:.0f} rows", number_at(choice, "rows").value_or(0))};
      std::vector<std::string> row{label};
      for (std::size_t group = 0; group < kVerdictGroups.size(); ++group) {
        const double count = rows_of(choice, group);
        row.push_back(fmt::format("{:.0f}", count));
        bar.parts.push_back(
            {kVerdictStyles[group], count, fmt::format("{}: {:.0f} {}", label, count, kVerdictGroups[group].first)});
      }
      wrong += rows_of(choice, 3);
      exhibit.table.rows.push_back(std::move(row));
      if (bars.bars.size() < 24) bars.bars.push_back(std::move(bar));
    }
  }
  if (bars.bars.empty()) return exhibit;
  bars.description = wrong > 0 ? fmt::format("{:.0f} rows are wrong.", wrong) : "No row is wrong.";
  exhibit.figure = draw(bars);
  return exhibit;
}

}  // namespace

std::vector<PageSection> agreement_sections(const Json& document) {
  const Json& cases = array_at(document, "cases");
  const std::vector<std::string> names = names_of_cases(cases);
  Exhibit verdicts;
  verdicts.table = {.caption = "Verdicts", .columns = {{"indexer"}, {"verdict"}, {"why"}, {"to reproduce it"}}};
  std::vector<std::string> failed;
  for (std::size_t i = 0; i < names.size(); ++i) {
    const std::string verdict = text_at(cases[i], "verdict").value_or("unknown");
    if (verdict != "passed") failed.push_back(names[i]);
    verdicts.table.rows.push_back({names[i], verdict, text_at(cases[i], "explanation").value_or(""),
                                   text_at(cases[i], "reproduce").value_or("")});
  }
  const std::string sides =
      fmt::format("{} ({}) against {} ({}).", text_at(document, "side.name").value_or("?"),
                  text_at(document, "side.arithmetic").value_or("?"), text_at(document, "against.name").value_or("?"),
                  text_at(document, "against.arithmetic").value_or("?"));
  const std::string outcome = names.empty() ? " Nothing was compared."
                              : failed.empty()
                                  ? fmt::format(" All {} passed.", counted(std::ssize(names), "case", "cases"))
                                  : " Not passed: " + joined(failed, ", ") + ".";
  std::vector<PageSection> sections{
      {.heading = "Verdict", .remark = sides + outcome, .exhibits = {std::move(verdicts)}}};
  Exhibit rows = verdicts_exhibit(cases, names);
  if (rows.figure) sections.push_back({.heading = "Rows", .exhibits = {std::move(rows)}});
  return sections;
}

}  // namespace misa
