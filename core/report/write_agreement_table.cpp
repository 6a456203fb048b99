#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <utility>

#include "core/report/text.hpp"
#include "core/report/writers.hpp"

namespace misa {
namespace {

constexpr i64 kShown = 5;            // of misses, and of violations
constexpr i64 kFactWidth = 10;       // of a fact above the table
constexpr i64 kLabelWidth = 4 + 11;  // indent, "reproduce: "

Style style_of(Conclusion verdict) {
  if (verdict == Conclusion::passed) return Style::good;
  return verdict == Conclusion::failed ? Style::bad : Style::caution;
}

/// Worst first: the first that occurs decides how the command ends.
constexpr std::array<Conclusion, 4> kWorstFirst{Conclusion::failed, Conclusion::nothing, Conclusion::inconclusive,
                                                Conclusion::passed};

std::string label(std::string_view name, Style style, bool colour) {
  return "    " + styled(padded(std::string(name) + ":", kLabelWidth - 4, false), style, colour);
}

void add_fact(TextTable& table, const Fact& fact, Style style, bool colour, int width) {
  const std::string text = hanging(label(fact.name, style, colour), kLabelWidth, fact.parts, " · ", width);
  if (!text.empty()) table.add_line(text);
}

std::vector<Cell> choice_cells(const AgreementCase& one, const ChoiceAgreement& choice) {
  std::vector<Cell> cells{{case_name(one), style_of(one.verdict)},
                          {std::string(choice_name(choice.choice)), Style::plain}};
  if (choice.rows == 0) {
    cells.push_back({"–", Style::faint});
    return cells;
  }
  const Style wrong = one.verdict == Conclusion::failed ? Style::bad : Style::caution;
  const auto count = [&](i64 rows, Style style) {
    cells.push_back({std::to_string(rows), rows == 0 ? Style::faint : style});
  };
  const auto rare = [&](i64 rows, Style style) { cells.push_back({rows == 0 ? "" : std::to_string(rows), style}); };
  count(choice.rows, Style::plain);
  rare(choice.trivial, Style::faint);
  count(choice.count(Verdict::exact), choice.count(Verdict::exact) == choice.rows ? Style::good : Style::plain);
  count(choice.count(Verdict::tie_swap), Style::plain);
  count(choice.count(Verdict::within_bound), Style::plain);
  count(choice.count(Verdict::follows), Style::plain);
  rare(choice.count(Verdict::unbounded), Style::caution);
  rare(choice.count(Verdict::unknown), Style::caution);
  count(choice.count(Verdict::miss), wrong);
  count(choice.count(Verdict::violation), wrong);
  rare(choice.count(Verdict::unjudged), Style::caution);
  rare(choice.count(Verdict::empty), Style::caution);
  const double share = choice.largest_share;
  const std::string shown = std::isfinite(share) ? fmt::format("{:.2g}", share) : std::string("n/a");
  cells.push_back({choice.choice == Choice::scores ? shown : "", share <= 1 ? Style::plain : wrong});
  return cells;
}

void add_details(TextTable& table, const AgreementCase& one, bool colour, int width) {
  for (const ChoiceAgreement& choice : one.choices) {
    if (choice.reason.empty()) continue;
    add_fact(table,
             {.name = "skipped", .parts = {std::string(choice_name(choice.choice)) + ": " + printable(choice.reason)}},
             Style::faint, colour, width);
  }
  if (one.quality) add_fact(table, describe_quality(*one.quality, one.minimum_recall), Style::faint, colour, width);
  Fact checks{.name = "checks", .parts = {}};
  for (const ReportCheck& check : one.checks) {
    if (check.passed) checks.parts.push_back(printable(check.name) + ": " + printable(check.detail));
  }
  add_fact(table, checks, Style::faint, colour, width);
  for (const Fact& fact : describe_differences(one.choices, kShown)) add_fact(table, fact, Style::faint, colour, width);
  if (one.verdict == Conclusion::passed) {
    if (!one.explanation.empty()) {
      add_fact(table, {.name = "note", .parts = {printable(one.explanation)}}, Style::faint, colour, width);
    }
    return;
  }
  // Neither this nor the command is cut: the one is what to know, the other what to copy.
  const std::string verdict(conclusion_name(one.verdict));
  table.add_line(label("verdict", style_of(one.verdict), colour) + joined({verdict, printable(one.explanation)}, ": "));
  for (const Fact& fact : describe_findings(one.choices, kShown)) {
    add_fact(table, fact, fact.name == "more" ? Style::faint : Style::bad, colour, width);
  }
  for (const ReportCheck& check : one.checks) {
    if (check.passed) continue;
    add_fact(table, {.name = "check", .parts = {printable(check.name) + ": " + printable(check.detail)}}, Style::bad,
             colour, width);
  }
  if (!one.reproduce.empty()) table.add_line(label("reproduce", Style::accent, colour) + printable(one.reproduce));
}

std::string conclusion(const AgreementReport& report, bool colour) {
  std::vector<std::string> parts;
  if (report.interrupted) parts.push_back("interrupted");
  Style style = report.interrupted ? Style::caution : Style::good;
  int counted = 0;
  for (const Conclusion verdict : kWorstFirst) {
    const auto count = std::count_if(report.cases.begin(), report.cases.end(),
                                     [&](const AgreementCase& one) { return one.verdict == verdict; });
    if (count == 0) continue;
    if (verdict != Conclusion::passed && style != Style::bad) style = style_of(verdict);
    const bool first = counted++ == 0;
    parts.push_back(
        fmt::format("{}: {}", conclusion_name(verdict), count) +
        (first ? fmt::format(" of {} case{}", report.cases.size(), report.cases.size() == 1 ? "" : "s") : ""));
  }
  if (report.cases.empty()) {
    parts.push_back("nothing: no case ran");
    style = Style::caution;
  }
  return styled(joined(parts, "; "), style, colour);
}

}  // namespace

std::string write_agreement_table(const AgreementReport& report, const WriterOptions& options) {
  const bool colour = options.colour;
  const int width = options.width;
  const ReportWorkload& workload = report.workload;
  const std::vector<Fact> facts{
      {"workload",
       {printable(workload.name), workload.seed ? "seed " + printable(*workload.seed) : "",
        counted(workload.rows, "row", "rows"),
        counted(workload.heads, "head", "heads") + fmt::format(" × {}", workload.head_dim), keys_text(workload),
        fmt::format("top-k {}", workload.top_k), "inputs " + printable(report.input_hash)}},
      {"side", {side_name(report.side), printable(report.side.description)}},
      {"against", {side_name(report.against), printable(report.against.description)}}};
  std::string out = text_head(report.tool_version, report.environment, facts, kFactWidth, options);

  std::vector<TableColumn> columns{{"indexer", false}, {"stage", false}, {"rows"}, {"no choice", true, 5}};
  constexpr std::array<int, kVerdictWords.size()> kDrop{0, 3, 1, 2};  // the others stay
  for (std::size_t i = 0; i < kDrop.size(); ++i) columns.push_back({std::string(kVerdictWords[i]), true, kDrop[i]});
  columns.push_back({"gap/bound", true, 4});
  TextTable table(std::move(columns));
  for (const AgreementCase& one : report.cases) {
    for (const ChoiceAgreement& choice : one.choices) table.add(choice_cells(one, choice));
    if (one.choices.empty()) table.add({{case_name(one), style_of(one.verdict)}});
    add_details(table, one, colour, width);
  }
  if (!report.cases.empty()) out += table.text(width, colour) + '\n';
  for (const Warning& warning : report.warnings) out += styled(warning_line(warning), Style::caution, colour) + '\n';
  return out + conclusion(report, colour) + '\n';
}

}  // namespace misa
