#include <algorithm>

#include "core/report/text.hpp"
#include "core/report/whole_model.hpp"
#include "core/report/writers.hpp"

namespace misa {
namespace {

constexpr i64 kNameWidth = 11;  // of a fact: "workload", "baselines", a backend

std::string note_lines(const Cell& note, i64 width, bool colour) {
  std::string out;
  for (const std::string& line : wrapped(words_of(note.text), " ", width))
    out += styled(line, note.style, colour) + '\n';
  return out;
}

}  // namespace

std::string write_table(const Report& report, const WriterOptions& options) {
  const bool colour = options.colour;
  std::string out = text_head(report.tool_version, report.environment, describe_run(report), kNameWidth, options);
  const bool timed = std::any_of(report.cases.begin(), report.cases.end(),
                                 [](const ReportCase& one) { return one.end_to_end || !one.stages.empty(); });
  if (timed) out += stage_table(report, options).text(options.width, colour);
  if (!report.cases.empty()) out += summary_table(report).text(options.width, colour);
  if (const auto whole = whole_model(report)) out += '\n' + whole_model_table(*whole).text(options.width, colour);
  const std::vector<Cell> notes = describe_notes(report);
  if (!notes.empty() && !report.cases.empty()) out += '\n';
  for (const Cell& note : notes) out += note_lines(note, options.width, colour);
  return out;
}

}  // namespace misa
