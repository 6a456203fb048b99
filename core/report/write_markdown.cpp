#include <algorithm>

#include "core/report/text.hpp"
#include "core/report/whole_model.hpp"
#include "core/report/writers.hpp"

namespace misa {

std::string write_markdown(const Report& report, const WriterOptions& /*options*/) {
  std::string out = "## misa-prof " + escaped_markdown(report.tool_version) + "\n\n";
  if (report.environment.timestamp_utc) {
    out += "- **date**: " + escaped_markdown(*report.environment.timestamp_utc) + '\n';
  }
  for (const Fact& fact : describe_run(report)) {
    const std::string text = joined(fact.parts, " · ");
    if (!text.empty()) out += "- **" + escaped_markdown(fact.name) + "**: " + escaped_markdown(text) + '\n';
  }
  if (!report.cases.empty()) out += "\n### Summary\n\n" + summary_table(report).markdown();
  if (const auto whole = whole_model(report)) out += "\n### Whole model\n\n" + whole_model_table(*whole).markdown();
  const bool timed = std::any_of(report.cases.begin(), report.cases.end(),
                                 [](const ReportCase& one) { return one.end_to_end || !one.stages.empty(); });
  if (timed) {
    out += "\n### Stages\n\n" + stage_table(report, std::nullopt).markdown() + '\n';
    for (const ReportCase& one : report.cases) {
      std::vector<std::string> parts = describe_parameters(report, one);
      for (const Cell& part : describe_timing(one)) parts.push_back(part.text);
      out += "- " + escaped_markdown(case_name(report, one)) + ": " + escaped_markdown(joined(parts, " · ")) + '\n';
    }
  }
  const std::vector<Cell> notes = describe_notes(report);
  if (!notes.empty()) out += "\n### Notes\n\n";
  for (const Cell& note : notes) out += "- " + escaped_markdown(note.text) + '\n';
  return out;
}

}  // namespace misa
