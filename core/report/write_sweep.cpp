#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "core/report/html.hpp"
#include "core/report/sweep_report.hpp"
#include "core/report/text.hpp"
#include "core/report/text_table.hpp"
#include "core/report/writers.hpp"

namespace misa {
namespace {

std::string lines_of(const std::string& text, i64 width) { return hanging("", 0, words_of(text), " ", width) + '\n'; }

std::vector<std::string> settings_of(const SweepReport& report) {
  std::vector<std::string> settings;
  for (const SweepCase& one : report.cases) {
    if (std::find(settings.begin(), settings.end(), one.setting) == settings.end()) settings.push_back(one.setting);
  }
  return settings;
}

Cell sweep_ratio_cell(const SweepCase& one) {
  if (one.reference || !one.speedup) return {one.reference ? "1.00×" : ""};
  const SpeedupVerdict verdict = speedup_verdict(*one.speedup);
  const std::string text = short_number(one.speedup->median) + "×";
  if (verdict == SpeedupVerdict::inconclusive) return {"~" + text};
  if (verdict == SpeedupVerdict::too_few || one.loaded) return {text};
  return {text, verdict == SpeedupVerdict::faster ? Style::good : Style::bad};
}

Cell sweep_interval_cell(const SweepCase& one) {
  if (!one.speedup) return {};
  if (!one.speedup->low || !one.speedup->high) return {"too few", Style::caution};
  return {fmt::format("{}–{}", short_number(*one.speedup->low), short_number(*one.speedup->high)), Style::faint};
}

/// The cases of a setting, a block for each length.
TextTable case_table(const SweepReport& report, const std::string& setting, bool blocks) {
  TextTable table({{"context"},
                   {"indexer", false},
                   {"end to end"},
                   {"p10–p90", true, 3},
                   {"vs dsa"},
                   {"95 %", true, 1},
                   {"recall"},
                   {"worst", true, 2},
                   {"in row", true, 4},
                   {"mass"}});
  i64 last = -1;
  std::vector<const SweepCase*> cases;
  for (const SweepCase& one : report.cases) {
    if (one.setting == setting) cases.push_back(&one);
  }
  std::stable_sort(cases.begin(), cases.end(),
                   [](const SweepCase* a, const SweepCase* b) { return a->context < b->context; });
  for (const SweepCase* one : cases) {
    if (blocks && last >= 0 && one->context != last) table.add_line("");
    const bool repeats = blocks && one->context == last;
    last = one->context;
    table.add({{repeats ? "" : std::to_string(one->context)},
               {printable(one->name), Style::strong},
               {one->median ? si_number(*one->median, "s") : "not timed"},
               {one->p10 && one->p90 ? si_range(*one->p10, *one->p90, "s") : "", Style::faint},
               sweep_ratio_cell(*one),
               sweep_interval_cell(*one),
               {four_decimals(one->recall)},
               {four_decimals(one->worst_recall)},
               {one->worst_row ? std::to_string(*one->worst_row) : ""},
               {one->attention_mass ? four_decimals(one->attention_mass) : ""}});
  }
  return table;
}

/// Each indexer against dsa; pairs of others are in JSON.
TextTable crossover_table(const SweepReport& report, const std::string& setting) {
  TextTable table({{"indexer", false}, {"against dsa", false}});
  for (const SweepCrossover& one : report.crossovers) {
    if (one.setting != setting || one.over != "dsa") continue;
    const bool decided = one.crossover.verdict != CrossoverVerdict::inconclusive;
    table.add({{printable(one.of), Style::strong}, {crossover_text(one), decided ? Style::plain : Style::caution}});
  }
  return table;
}

/// Who is on the front of recall, and of attention mass where it is known, against time and against flops.
TextTable front_table(const SweepReport& report, const std::string& setting) {
  TextTable table({{"context"}, {"front of", false}, {"best for their cost, the cheapest first", false}});
  for (const SweepFront& front : report.fronts) {
    if (front.setting != setting || front.cost == "bytes") continue;
    std::vector<FrontPoint> points = front.points;
    std::sort(points.begin(), points.end(), [](const FrontPoint& a, const FrontPoint& b) { return a.cost < b.cost; });
    std::vector<std::string> names;
    for (const FrontPoint& point : points) {
      if (point.on_front) names.push_back(fmt::format("{} {:.3f}", printable(point.name), point.quality));
    }
    const std::string quality = front.quality == "recall" ? "recall" : "mass";
    table.add({{std::to_string(front.context)}, {quality + ", " + front.cost}, {joined(names, " · ")}});
  }
  return table;
}

std::vector<std::string> sweep_notes(const SweepReport& report) {
  std::vector<std::string> notes;
  for (const Json& skip : report.document["skipped"]) {
    notes.push_back(fmt::format("skipped {}: {}", printable(text_at(skip, "key").value_or("")),
                                printable(text_at(skip, "reason").value_or(""))));
  }
  std::vector<Warning> warnings;  // the first of each id; JSON has all
  std::vector<i64> times;
  for (const Json& one : report.document["warnings"]) {
    const Warning warning{text_at(one, "id").value_or(""), text_at(one, "text").value_or(""),
                          text_at(one, "where").value_or("")};
    const auto same =
        std::find_if(warnings.begin(), warnings.end(), [&](const Warning& other) { return other.id == warning.id; });
    if (same == warnings.end()) {
      warnings.push_back(warning);
      times.push_back(1);
    } else {
      ++times[static_cast<std::size_t>(same - warnings.begin())];
    }
  }
  for (std::size_t i = 0; i < warnings.size(); ++i) {
    const std::string more = times[i] > 1 ? fmt::format(" (and {} more of this kind)", times[i] - 1) : "";
    notes.push_back(warning_line(warnings[i]) + more);
  }
  if (!truth_at(report.document, "complete").value_or(false)) notes.emplace_back("this sweep is not complete");
  return notes;
}

std::string number_field(const std::optional<double>& number) { return number ? exact_number(*number) : ""; }

constexpr std::array<std::string_view, 6> kOfEnd{"crossovers", "fronts", "skipped", "warnings", "complete", "timing"};

}  // namespace

std::string write_sweep_table(const SweepReport& report, const WriterOptions& options) {
  const i64 width = options.width;
  std::string out =
      fmt::format("misa-prof {}  sweep of {}\n", printable(text_at(report.document, "tool.version").value_or("")),
                  counted(static_cast<i64>(report.cases.size()), "case", "cases"));
  out += lines_of(printable(text_at(report.document, "environment.cpu").value_or("")), width) + "\n";
  for (const std::string& setting : settings_of(report)) {
    out += styled(printable(setting), Style::strong, options.colour) + "\n";
    out += case_table(report, setting, true).text(options.width, options.colour) + "\n";
    out += crossover_table(report, setting).text(options.width, options.colour) + "\n";
    out += front_table(report, setting).text(options.width, options.colour) + "\n";
  }
  for (const std::string& answer : answers(report)) out += lines_of(answer, width);
  const std::vector<std::string> notes = sweep_notes(report);
  if (!notes.empty()) out += '\n';
  for (const std::string& note : notes) out += styled(lines_of(note, width), Style::caution, options.colour);
  return out;
}

std::string write_sweep_markdown(const SweepReport& report, const WriterOptions& /*options*/) {
  std::string out =
      "## misa-prof sweep " + escaped_markdown(text_at(report.document, "tool.version").value_or("")) + "\n\n";
  for (const std::string& answer : answers(report)) out += "- " + escaped_markdown(answer) + '\n';
  for (const std::string& setting : settings_of(report)) {
    out += "\n### " + escaped_markdown(printable(setting)) + "\n\n" + case_table(report, setting, false).markdown();
    out += "\n" + crossover_table(report, setting).markdown();
    out += "\n" + front_table(report, setting).markdown();
  }
  const std::vector<std::string> notes = sweep_notes(report);
  if (!notes.empty()) out += "\n### Notes\n\n";
  for (const std::string& note : notes) out += "- " + escaped_markdown(note) + '\n';
  return out;
}

std::string write_sweep_csv(const SweepReport& report, const WriterOptions& /*options*/) {
  std::string out =
      "setting,model,backend,context,group,indexer,median_ns,p10_ns,p90_ns,samples,speedup_median,speedup_low,"
      "speedup_high,speedup_verdict,recall_mean,recall_worst,worst_row,attention_mass,flops,bytes,loaded,key\r\n";
  const auto nanoseconds = [](const std::optional<double>& seconds) {
    return seconds ? fmt::format("{}", whole_nanoseconds(*seconds).value_or(0)) : "";
  };
  for (const SweepCase& one : report.cases) {
    const std::optional<PairedRatio>& ratio = one.speedup;
    const std::array<std::string, 22> fields{one.setting,
                                             one.model,
                                             one.backend,
                                             std::to_string(one.context),
                                             std::to_string(one.group),
                                             one.name,
                                             nanoseconds(one.median),
                                             nanoseconds(one.p10),
                                             nanoseconds(one.p90),
                                             std::to_string(one.seconds.size()),
                                             ratio ? exact_number(ratio->median) : "",
                                             ratio ? number_field(ratio->low) : "",
                                             ratio ? number_field(ratio->high) : "",
                                             ratio ? std::string(speedup_verdict_name(speedup_verdict(*ratio))) : "",
                                             number_field(one.recall),
                                             number_field(one.worst_recall),
                                             one.worst_row ? std::to_string(*one.worst_row) : "",
                                             number_field(one.attention_mass),
                                             number_field(one.flops),
                                             number_field(one.bytes),
                                             one.loaded ? "true" : "false",
                                             one.key};
    for (std::size_t i = 0; i < fields.size(); ++i) out += (i == 0 ? "" : ",") + csv_field(fields[i]);
    out += "\r\n";
  }
  return out;
}

std::string write_sweep_json(const SweepReport& report, const WriterOptions& /*options*/) {
  return text_of(report.document, 2);
}

std::string write_sweep_html(const SweepReport& report, const WriterOptions& /*options*/) {
  return html_page({.document = report.document});
}

std::string write_sweep_lines(const SweepReport& report, const WriterOptions& /*options*/) {
  Json header{{"record", "header"}};
  for (const auto& [key, value] : report.document.items()) {
    if (key != "cases" && std::find(kOfEnd.begin(), kOfEnd.end(), key) == kOfEnd.end()) header[key] = value;
  }
  std::string out = text_of(header, -1);
  for (const Json& one : report.document["cases"]) {
    Json record{{"record", "case"}};
    record.update(one);
    out += text_of(record, -1);
  }
  return out + sweep_footer(report);
}

std::string sweep_footer(const SweepReport& report) {
  Json footer{{"record", "footer"}, {"cases", report.cases.size()}};
  for (const std::string_view key : kOfEnd) {
    if (const Json* value = find_value(report.document, key); value != nullptr && key != "complete") {
      footer[std::string(key)] = *value;
    }
  }
  footer["complete"] = report.document["complete"];
  return text_of(footer, -1);
}

}  // namespace misa
