#include <fmt/format.h>

#include <algorithm>

#include "core/report/doctor_report.hpp"
#include "core/report/json_parts.hpp"
#include "core/report/text.hpp"
#include "core/report/text_table.hpp"

namespace misa {
namespace {

Style health_style(Health health) {
  switch (health) {
    case Health::ok: return Style::good;
    case Health::warning: return Style::caution;
    case Health::problem: return Style::bad;
    default: return Style::faint;
  }
}

std::string doctor_table(const DoctorReport& report, const WriterOptions& options) {
  constexpr i64 kState = 11;  // "  not known"
  i64 longest = 0;
  for (const DoctorCheck& check : report.checks) longest = std::max(longest, display_width(printable(check.name)));
  const i64 indent = kState + 2 + longest + 2;
  const std::string blank = padded("", indent, false);
  std::string text, group;
  i64 warnings = 0, problems = 0;
  for (const DoctorCheck& check : report.checks) {
    warnings += check.health == Health::warning;
    problems += check.health == Health::problem;
    if (check.group != group)
      text += (text.empty() ? "" : "\n") + styled(check.group, Style::strong, options.colour) + "\n";
    group = check.group;
    const std::string state = padded("  " + std::string(health_name(check.health)), kState, false);
    const std::string lead = styled(state, health_style(check.health), options.colour) + "  " +
                             padded(printable(check.name), longest, false) + "  ";
    // That it is not known is said by the state already.
    const std::string found = check.health == Health::unknown ? "" : check.found.empty() ? "none" : check.found;
    const std::string said = printable(found + (found.empty() || check.why.empty() ? "" : ": ") + check.why);
    text += hanging(lead, indent, words_of(said), " ", options.width) + "\n";
    if (check.fix.empty()) continue;
    text += hanging(blank, indent, words_of("try: " + printable(check.fix)), " ", options.width) + "\n";
  }
  text += "\n" + counted(problems, "problem", "problems") + ", " + counted(warnings, "warning", "warnings") + "\n";
  for (const auto& [backend, fingerprint] : report.fingerprints) {
    text += fmt::format("fingerprint of results on {:<8} {}\n", printable(backend), fingerprint);
  }
  return text;
}

std::string doctor_json(const DoctorReport& report) {
  const auto or_none = [](const std::string& text) { return text.empty() ? Json() : Json(text); };
  Json json =
      identity_json("doctor-1.0.schema.json", "misa-prof/doctor", "1.0.0", report.tool_version, report.command_line);
  json["fingerprints"] = array_of(report.fingerprints, [](const auto& one) {
    return Json{{"backend", one.first}, {"fingerprint", one.second}};
  });
  json["checks"] = array_of(report.checks, [&](const DoctorCheck& check) {
    return Json{{"group", check.group}, {"name", check.name},        {"state", health_name(check.health)},
                {"found", check.found}, {"why", or_none(check.why)}, {"fix", or_none(check.fix)}};
  });
  json["complete"] = true;
  return text_of(json, 2);
}

}  // namespace

std::string write_report(const DoctorReport& report, std::string_view format, const WriterOptions& options) {
  return format == "json" ? doctor_json(report) : doctor_table(report, options);
}

}  // namespace misa
