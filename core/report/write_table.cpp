#include <algorithm>
#include <cstddef>
#include <sstream>

#include "core/report/describe.hpp"
#include "core/report/text.hpp"
#include "core/report/writers.hpp"

namespace misa {
namespace {

constexpr i64 kNameWidth = 11;  // of a fact: "workload", "baselines", a backend

std::string fact_lines(const Fact& fact, i64 width, bool colour) {
  std::string out;
  std::string name = styled(padded(fact.name, kNameWidth, false), Style::faint, colour);
  for (const std::string& line : wrapped(fact.parts, " · ", width - kNameWidth)) {
    out += name + line + '\n';
    name.assign(static_cast<std::size_t>(kNameWidth), ' ');
  }
  return out;
}

std::string note_lines(const Cell& note, i64 width, bool colour) {
  std::vector<std::string> words;
  std::istringstream text(note.text);
  for (std::string word; text >> word;) words.push_back(word);
  std::string out;
  for (const std::string& line : wrapped(words, " ", width)) out += styled(line, note.style, colour) + '\n';
  return out;
}

}  // namespace

std::string write_table(const Report& report, const WriterOptions& options) {
  const bool colour = options.colour;
  std::string out = styled("misa-prof " + printable(report.tool_version), Style::strong, colour);
  if (report.environment.timestamp_utc) {
    out += "  " + styled(printable(*report.environment.timestamp_utc), Style::faint, colour);
  }
  out += '\n';
  for (const Fact& fact : describe_run(report)) out += fact_lines(fact, options.width, colour);
  out += '\n';
  const bool timed = std::any_of(report.cases.begin(), report.cases.end(),
                                 [](const ReportCase& one) { return one.end_to_end || !one.stages.empty(); });
  if (timed) out += stage_table(report, options).text(options.width, colour);
  if (!report.cases.empty()) out += summary_table(report).text(options.width, colour);
  const std::vector<Cell> notes = describe_notes(report);
  if (!notes.empty() && !report.cases.empty()) out += '\n';
  for (const Cell& note : notes) out += note_lines(note, options.width, colour);
  return out;
}

}  // namespace misa
