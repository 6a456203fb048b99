#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "core/base/error.hpp"
#include "core/report/diff_report.hpp"
#include "core/report/json_parts.hpp"
#include "core/report/text.hpp"
#include "core/report/writers.hpp"
#include "core/report/xml.hpp"

namespace misa {
namespace {

Style style_of(Change change) {
  switch (change) {
    case Change::faster: return Style::good;
    case Change::slower: return Style::bad;
    case Change::same: return Style::plain;
    default: return Style::caution;
  }
}

std::string files_of(const std::vector<DiffFile>& files) {
  std::vector<std::string> parts;
  for (const DiffFile& file : files) {
    const std::string commit = file.commit.empty() ? "" : " (commit " + printable(file.commit) + ")";
    parts.push_back(printable(file.path) + commit);
  }
  return joined(parts, ", ");
}

/// What is compared, and how.
std::vector<Fact> head_of(const DiffReport& report) {
  const bool one = report.a.size() == 1 || report.b.size() == 1;
  std::vector<Fact> facts{
      {"A", {files_of(report.a)}},
      {"B", {files_of(report.b)}},
      {"method",
       {"B / A is the ratio of median times end to end",
        one ? fmt::format("one run per side cannot show how much runs differ: {} is added for that (--noise)",
                          percent(report.noise))
            : "the spread of runs says how much runs differ",
        fmt::format("same: within {}", percent(report.same_within)),
        report.max_slowdown ? "at most " + percent(*report.max_slowdown) + " slower passes" : ""}}};
  for (const Unlike& one_fact : report.allowed) {
    facts.push_back(
        {"allowed", {fmt::format("{}: {} and {}", one_fact.what, printable(one_fact.a), printable(one_fact.b))}});
  }
  return facts;
}

std::string time_of(double seconds) { return std::isfinite(seconds) ? si_number(seconds, "s") : "–"; }

std::string recall_of(const DiffCase& one) {
  const auto recall = std::find_if(one.quality.begin(), one.quality.end(),
                                   [](const DiffQuality& quality) { return quality.name == "recall"; });
  if (recall == one.quality.end()) return {};
  if (recall->a == recall->b && one.rows_better + one.rows_worse == 0) return four_decimals(recall->a);
  return four_decimals(recall->a) + " → " + four_decimals(recall->b);
}

TextTable table_of(const DiffReport& report) {
  TextTable table({{"case", false},
                   {"A", true, 3},
                   {"B", true, 3},
                   {"B / A", true},
                   {"interval", true},
                   {"verdict", false},
                   {"gate", false},
                   {"recall", true, 1},
                   {"selection", false, 2}});
  for (const DiffCase& one : report.cases) {
    const JudgedRatio& time = one.time;
    const Gate gate = one.gate.value_or(Gate::passed);
    table.add(
        {{printable(one.name), Style::strong},
         {time_of(one.a)},
         {time_of(one.b)},
         {std::isfinite(time.ratio) ? fmt::format("{:.3f}", time.ratio) : "–"},
         {time.interval ? fmt::format("{:.3f} to {:.3f}", time.interval->low, time.interval->high) : "–", Style::faint},
         {std::string(change_name(time.change)), style_of(time.change)},
         {one.gate ? std::string(gate_name(gate)) : "", gate == Gate::passed   ? Style::good
                                                        : gate == Gate::failed ? Style::bad
                                                                               : Style::caution},
         {recall_of(one)},
         {!one.same_selection   ? ""
          : *one.same_selection ? "same"
                                : "other tokens",
          one.same_selection.value_or(true) ? Style::faint : Style::caution}});
  }
  return table;
}

/// Sentences below the table: every verdict in words, its reason, stages, quality, what was not compared.
std::vector<Cell> notes_of(const DiffReport& report) {
  std::vector<Cell> notes;
  for (const DiffCase& one : report.cases) {
    std::string text = printable(one.name) + ": B is " + slowdown_text(one.time.ratio);
    if (!std::isfinite(one.time.ratio)) text = printable(one.name) + ": no times to compare";
    if (one.time.interval) {
      text += fmt::format(" ({} to {} at {})", slowdown_text(one.time.interval->low),
                          slowdown_text(one.time.interval->high), percent(one.time.confidence));
    }
    text += ": " + std::string(change_name(one.time.change));
    if (!one.reason.empty()) text += ": " + printable(one.reason);
    std::vector<std::string> parts{text};
    for (const DiffStage& stage : one.stages) {
      if (stage.a > 0) parts.push_back(fmt::format("{} {:.2f}", printable(stage.name), stage.b / stage.a));
    }
    if (one.rows_better + one.rows_worse > 0) {
      parts.push_back(fmt::format("recall rose in {} of {} and fell in {}", one.rows_better,
                                  counted(one.rows, "row", "rows"), one.rows_worse));
    }
    notes.push_back({joined(parts, "; "), style_of(one.time.change)});
  }
  const auto list = [&](const char* where, const std::vector<std::string>& names) {
    for (const std::string& name : names)
      notes.push_back({fmt::format("only in {}: {}", where, printable(name)), Style::caution});
  };
  list("A", report.only_a);
  list("B", report.only_b);
  for (const Warning& warning : report.warnings) notes.push_back({warning_line(warning), Style::caution});
  return notes;
}

std::string summary_of(const DiffReport& report) {
  std::vector<std::string> parts;
  for (const Change change : {Change::slower, Change::faster, Change::same, Change::inconclusive, Change::too_few}) {
    if (const i64 count = report.count(change); count > 0)
      parts.push_back(fmt::format("{} {}", count, change_name(change)));
  }
  std::string text = counted(static_cast<i64>(report.cases.size()), "case", "cases") + ": " + joined(parts, ", ");
  if (const auto gate = report.gate()) text += fmt::format("; gate {}", gate_name(*gate));
  return text;
}

std::string write_diff_table(const DiffReport& report, const WriterOptions& options) {
  std::string out = text_head(report.tool_version, {}, head_of(report), 9, options);
  out += table_of(report).text(options.width, options.colour) + '\n';
  for (const Cell& note : notes_of(report)) {
    for (const std::string& line : wrapped(words_of(note.text), " ", options.width)) {
      out += styled(line, note.style, options.colour) + '\n';
    }
  }
  return out + styled(summary_of(report), Style::strong, options.colour) + '\n';
}

std::string write_diff_markdown(const DiffReport& report, const WriterOptions& /*options*/) {
  std::string out = "## misa-prof diff\n\n";
  for (const Fact& fact : head_of(report)) {
    out += "- **" + fact.name + "**: " + escaped_markdown(joined(fact.parts, " · ")) + '\n';
  }
  out += "\n" + table_of(report).markdown() + "\n";
  for (const Cell& note : notes_of(report)) out += "- " + escaped_markdown(note.text) + '\n';
  return out + "\n**" + escaped_markdown(summary_of(report)) + "**\n";
}

Json side_json(const std::vector<DiffFile>& files) {
  return array_of(files, [](const DiffFile& file) {
    const auto text = [](const std::string& value) { return value.empty() ? Json() : Json(value); };
    return Json{{"path", file.path},
                {"tool_version", text(file.tool_version)},
                {"commit", text(file.commit)},
                {"timestamp_utc", text(file.timestamp_utc)},
                {"fingerprint", text(file.fingerprint)}};
  });
}

Json diff_case_json(const DiffCase& one) {
  const auto text = [](const std::string& value) { return value.empty() ? Json() : Json(value); };
  Json json{{"name", one.name},
            {"model", text(one.model)},
            {"workload", text(one.workload)},
            {"phase", text(one.phase)},
            {"context", or_null(one.context)},
            {"indexer", one.indexer},
            {"router", text(one.router)},
            {"backend", one.backend},
            {"side", text(one.side)},
            {"parameters", one.parameters}};
  json["a"] = {{"runs", one.runs_a}, {"samples", one.samples_a}};
  put_ns(json["a"], "median_ns", one.a);
  json["b"] = {{"runs", one.runs_b}, {"samples", one.samples_b}};
  put_ns(json["b"], "median_ns", one.b);
  put(json, "ratio", one.time.ratio);
  const std::string why = one.reason.empty() ? "there is no interval" : one.reason;
  put(json, "low", one.time.interval ? std::optional(one.time.interval->low) : std::nullopt, why);
  put(json, "high", one.time.interval ? std::optional(one.time.interval->high) : std::nullopt, why);
  json.update({{"confidence", one.time.confidence},
               {"p_value", one.time.p_value},
               {"verdict", change_name(one.time.change)},
               {"reason", text(one.reason)},
               {"gate", one.gate ? Json(gate_name(*one.gate)) : Json()}});
  json["stages"] = array_of(one.stages, [](const DiffStage& stage) {
    Json row{{"name", stage.name}};
    put_ns(row, "a_ns", stage.a);
    put_ns(row, "b_ns", stage.b);
    put(row, "ratio", stage.b / stage.a);
    return row;
  });
  json["quality"] = array_of(one.quality, [](const DiffQuality& quality) {
    Json row{{"name", quality.name}};
    put(row, "a", quality.a);
    put(row, "b", quality.b);
    put(row, "change", quality.b - quality.a);
    return row;
  });
  json["rows"] = {{"compared", one.rows}, {"better", one.rows_better}, {"worse", one.rows_worse}};
  json["same_selection"] = or_null(one.same_selection);
  return json;
}

std::string write_diff_json(const DiffReport& report, const WriterOptions& /*options*/) {
  Json json = identity_json("diff-1.0.schema.json", "misa-prof/diff", kDiffSchemaVersion, report.tool_version,
                            report.command_line);
  json["a"] = side_json(report.a);
  json["b"] = side_json(report.b);
  json.update(
      {{"same_within", report.same_within},
       {"noise", report.noise},
       {"max_slowdown", or_null(report.max_slowdown)},
       {"allowed", array_of(report.allowed,
                            [](const Unlike& one) {
                              return Json{{"what", one.what}, {"a", one.a}, {"b", one.b}, {"option", one.option}};
                            })},
       {"cases", array_of(report.cases, diff_case_json)},
       {"only_a", Json(report.only_a)},
       {"only_b", Json(report.only_b)},
       {"gate", report.gate() ? Json(gate_name(*report.gate())) : Json()},
       {"warnings", warnings_json(report.warnings)},
       {"complete", true}});
  return text_of(json, 2);
}

std::string write_diff_csv(const DiffReport& report, const WriterOptions& /*options*/) {
  std::string out =
      "model,workload,phase,context,indexer,router,backend,side,parameters,a_ns,b_ns,runs_a,runs_b,ratio,low,high,"
      "confidence,verdict,gate,recall_a,recall_b,same_selection\r\n";
  for (const DiffCase& one : report.cases) {
    const auto nanoseconds = [](double seconds) {
      const std::optional<i64> whole = whole_nanoseconds(seconds);
      return whole ? std::to_string(*whole) : std::string();
    };
    const auto recall = std::find_if(one.quality.begin(), one.quality.end(),
                                     [](const DiffQuality& quality) { return quality.name == "recall"; });
    const bool rated = recall != one.quality.end();
    const std::vector<std::string> fields{one.model,
                                          one.workload,
                                          one.phase,
                                          one.context ? std::to_string(*one.context) : "",
                                          one.indexer,
                                          one.router,
                                          one.backend,
                                          one.side,
                                          one.parameters,
                                          nanoseconds(one.a),
                                          nanoseconds(one.b),
                                          std::to_string(one.runs_a),
                                          std::to_string(one.runs_b),
                                          exact_number(one.time.ratio),
                                          one.time.interval ? exact_number(one.time.interval->low) : "",
                                          one.time.interval ? exact_number(one.time.interval->high) : "",
                                          exact_number(one.time.confidence),
                                          std::string(change_name(one.time.change)),
                                          one.gate ? std::string(gate_name(*one.gate)) : "",
                                          rated ? exact_number(recall->a) : "",
                                          rated ? exact_number(recall->b) : "",
                                          !one.same_selection   ? ""
                                          : *one.same_selection ? "true"
                                                                : "false"};
    for (std::size_t i = 0; i < fields.size(); ++i) out += (i > 0 ? "," : "") + csv_field(fields[i]);
    out += "\r\n";
  }
  return out;
}

/// A test per case: slower than the gate is a failure; without a gate, slower. What is inconclusive is an error where a
/// gate was asked for, else skipped.
std::string write_diff_junit(const DiffReport& report, const WriterOptions& /*options*/) {
  i64 failures = 0, errors = 0, skipped = 0;
  std::string body;
  for (const DiffCase& one : report.cases) {
    body += "    <testcase" + xml_attribute("name", one.name) + xml_attribute("classname", "misa-prof.diff") + ">\n";
    std::string message = "B is " + slowdown_text(one.time.ratio) + ": " + std::string(change_name(one.time.change));
    if (!one.reason.empty()) message += ": " + one.reason;
    const auto outcome = [&](const char* element, i64& count) {
      ++count;
      body += fmt::format("      <{}{}{}/>\n", element, xml_attribute("type", change_name(one.time.change)),
                          xml_attribute("message", message));
    };
    const bool known = one.time.change != Change::inconclusive && one.time.change != Change::too_few;
    if (one.gate ? *one.gate == Gate::failed : one.time.change == Change::slower) {
      outcome("failure", failures);
    } else if (one.gate ? *one.gate == Gate::inconclusive : false) {
      outcome("error", errors);
    } else if (!one.gate && !known) {
      ++skipped;
      body += "      <skipped" + xml_attribute("message", message) + "/>\n";
    }
    body += "      <system-out>" + xml_escaped(message, false) + "</system-out>\n    </testcase>\n";
  }
  const std::string counts = xml_attribute("tests", static_cast<i64>(report.cases.size())) +
                             xml_attribute("failures", failures) + xml_attribute("errors", errors);
  return "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites" + xml_attribute("name", "misa-prof diff") + counts +
         ">\n  <testsuite" + xml_attribute("name", "misa-prof diff") + counts + xml_attribute("skipped", skipped) +
         ">\n" + body + "  </testsuite>\n</testsuites>\n";
}

struct DiffFormat {
  std::string_view name;
  std::string (*write)(const DiffReport&, const WriterOptions&);
};
constexpr std::array kDiffFormats{DiffFormat{"table", write_diff_table}, DiffFormat{"json", write_diff_json},
                                  DiffFormat{"csv", write_diff_csv}, DiffFormat{"md", write_diff_markdown},
                                  DiffFormat{"junit", write_diff_junit}};

}  // namespace

i64 DiffReport::count(Change change) const {
  return std::count_if(cases.begin(), cases.end(), [&](const DiffCase& one) { return one.time.change == change; });
}

std::optional<Gate> DiffReport::gate() const {
  std::optional<Gate> worst;
  for (const DiffCase& one : cases) {
    if (!one.gate) continue;
    if (!worst || *one.gate == Gate::failed || (*one.gate == Gate::inconclusive && *worst == Gate::passed))
      worst = one.gate;
  }
  return worst;
}

std::string slowdown_text(double ratio) {
  if (ratio < 0.5) return fmt::format("{}x as fast", short_number(1 / ratio));
  if (ratio > 2) return fmt::format("{}x as slow", short_number(ratio));
  const std::string change = percent(std::abs(ratio - 1));
  return change == percent(0) ? "as fast" : change + (ratio > 1 ? " slower" : " faster");
}

std::vector<std::string_view> diff_format_names() {
  std::vector<std::string_view> names;
  for (const DiffFormat& format : kDiffFormats) names.push_back(format.name);
  return names;
}

std::string write_diff(const DiffReport& report, std::string_view format, const WriterOptions& options) {
  for (const DiffFormat& one : kDiffFormats) {
    if (one.name == format) return one.write(report, options);
  }
  throw Error(ErrorKind::internal, "MP-E904", "no writer for the format '" + std::string(format) + "'");
}

}  // namespace misa
