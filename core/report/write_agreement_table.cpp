#include <fmt/format.h>

#include <algorithm>

#include "core/report/agreement_writers.hpp"
#include "core/report/text.hpp"
#include "core/report/text_table.hpp"

namespace misa {
namespace {

constexpr std::size_t kShown = 5;  // misses, and violations, of a choice

std::string side_text(const ReportSide& side) {
  return joined(
      {printable(side.name), printable(side.description),
       side.arithmetic.empty() ? std::string("arithmetic not stated") : "arithmetic " + printable(side.arithmetic)},
      " · ");
}

Cell number(i64 value, Style style = Style::plain) {
  return value == 0 ? Cell{"0", Style::faint} : Cell{std::to_string(value), style};
}

/// Empty where it is 0, so that a column without any goes.
Cell rare(i64 value, Style style) { return value == 0 ? Cell{} : Cell{std::to_string(value), style}; }

TextTable choice_table(const AgreementReport& report) {
  TextTable table({{"indexer", false},
                   {"stage", false},
                   {"rows"},
                   {"no choice"},
                   {"exact"},
                   {"tie-swap"},
                   {"within bound"},
                   {"follows"},
                   {"unknown"},
                   {"miss"},
                   {"violation"},
                   {"unjudged"},
                   {"gap/bound", true, 1}});
  for (const AgreementCase& one : report.cases) {
    std::string name = printable(one.indexer);
    for (const ReportChoice& choice : one.choices) {
      if (!choice.reason.empty()) {
        table.add_line(padded(name, 13, false) + printable(choice.name) + ": not compared, " +
                       printable(choice.reason));
        continue;
      }
      const ReportVerdicts& verdicts = choice.verdicts;
      table.add({{name, Style::strong},
                 {printable(choice.name)},
                 {std::to_string(choice.rows)},
                 rare(choice.trivial, Style::faint),
                 number(verdicts.exact, Style::good),
                 number(verdicts.tie_swap),
                 number(verdicts.within_bound),
                 number(verdicts.follows),
                 rare(verdicts.unknown, Style::caution),
                 number(verdicts.miss, Style::bad),
                 number(verdicts.violation, Style::bad),
                 rare(verdicts.unjudged, Style::caution),
                 {choice.largest_bound_share > 0 ? short_number(choice.largest_bound_share) : std::string()}});
      name.clear();
    }
  }
  return table;
}

std::string quality_line(const AgreementCase& one) {
  const ReportQuality& quality = *one.quality;
  std::vector<std::string> parts{
      fmt::format("recall of {} mean {:.4f}, median {:.4f}, p1 {:.4f}, worst {:.4f} (row {})",
                  printable(quality.reference), quality.recall.mean, quality.recall.median, quality.recall.p1,
                  quality.recall.worst, quality.recall.worst_row),
      fmt::format("IoU {:.4f}", quality.iou)};
  if (quality.attention_mass) parts.push_back(fmt::format("attention mass {:.4f}", *quality.attention_mass));
  if (quality.needle_hit_rate) {
    parts.push_back(fmt::format("needles {:.4f} of {}", *quality.needle_hit_rate, quality.needle_cells));
  }
  if (one.minimum_recall) parts.push_back(fmt::format("at least {:.4f} asked for", *one.minimum_recall));
  return joined(parts, " · ");
}

/// What went wrong in a case, a line each.
std::vector<std::string> details(const AgreementCase& one) {
  std::vector<std::string> lines;
  for (const ReportChoice& choice : one.choices) {
    for (std::size_t i = 0; i < std::min(kShown, choice.misses.size()); ++i) {
      lines.push_back(printable(choice.name) + ": " + miss_text(choice.name, choice.misses[i]));
    }
    for (std::size_t i = 0; i < std::min(kShown, choice.violations.size()); ++i) {
      lines.push_back(printable(choice.name) + ": " + violation_text(choice.violations[i]));
    }
    const i64 all = choice.missed + choice.violated;
    const i64 shown =
        static_cast<i64>(std::min(kShown, choice.misses.size()) + std::min(kShown, choice.violations.size()));
    if (all > shown) lines.push_back(fmt::format("{}: {} more", printable(choice.name), all - shown));
  }
  for (const ReportCheck& check : one.checks) {
    if (!check.passed) lines.push_back(printable(check.name) + ": " + printable(check.detail));
  }
  return lines;
}

}  // namespace

std::string write_agreement_table(const AgreementReport& report, bool colour, int width) {
  std::string out = styled("misa-prof " + printable(report.tool_version), Style::strong, colour);
  if (report.environment.timestamp_utc) {
    out += "  " + styled(printable(*report.environment.timestamp_utc), Style::faint, colour);
  }
  out += '\n';
  const auto fact = [&](const char* name, const std::string& text) {
    out += styled(padded(name, 10, false), Style::faint, colour) + shortened(text, width - 10) + '\n';
  };
  fact("workload", fmt::format("{} · {} rows · {} heads of {} · {} keys · inputs {}", printable(report.workload.name),
                               report.workload.rows, report.workload.heads, report.workload.head_dim,
                               report.workload.keys, printable(report.input_hash)));
  fact("side", side_text(report.side));
  fact("against", side_text(report.against));
  out += '\n';

  const bool compared = std::any_of(report.cases.begin(), report.cases.end(),
                                    [](const AgreementCase& one) { return !one.choices.empty(); });
  if (compared) out += choice_table(report).text(width, colour) + '\n';
  i64 passed = 0;
  for (const AgreementCase& one : report.cases) {
    const bool good = one.verdict == CaseVerdict::passed;
    passed += good ? 1 : 0;
    std::vector<std::string> checks;
    for (const ReportCheck& check : one.checks) {
      if (check.passed) checks.push_back(printable(check.name) + ": " + printable(check.detail));
    }
    out += styled(padded(printable(one.indexer), 13, false), Style::strong, colour) +
           styled(case_verdict_name(one.verdict), good ? Style::good : Style::bad, colour) +
           (one.explanation.empty() ? "" : ": " + printable(one.explanation)) + '\n';
    if (one.quality) out += "  " + quality_line(one) + '\n';
    for (const std::string& line : wrapped(checks, " · ", width - 2)) {
      out += "  " + styled(line, Style::faint, colour) + '\n';
    }
    for (const std::string& line : details(one)) out += "  " + line + '\n';
    if (!one.reproduce.empty()) out += "  reproduce: " + printable(one.reproduce) + '\n';
  }
  for (const ReportWarning& warning : report.warnings) {
    out += styled("warning: " + printable(warning.text), Style::caution, colour) + '\n';
  }
  if (report.interrupted) out += styled("interrupted: not all cases ran", Style::caution, colour) + '\n';
  const bool all = passed == static_cast<i64>(report.cases.size()) && passed > 0;
  out += styled(fmt::format("{}: {} of {} cases passed", all ? "passed" : "failed", passed, report.cases.size()),
                all ? Style::good : Style::bad, colour) +
         '\n';
  return out;
}

}  // namespace misa
