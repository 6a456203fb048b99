#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/chart/intervals.hpp"
#include "core/report/diff_report.hpp"
#include "core/report/exhibit.hpp"
#include "core/report/text.hpp"

// What is shown of the difference of two results.
namespace misa {
namespace {

constexpr i64 kMostDrawn = 30;

/// Times of other inputs or another machine say nothing about a change; other builds and options may be the change.
bool times_comparable(const DiffReport& report) {
  return std::none_of(report.allowed.begin(), report.allowed.end(), [](const Unlike& one) {
    return one.option.find("inputs") != std::string::npos || one.option.find("host") != std::string::npos;
  });
}

bool quality_comparable(const DiffReport& report) {
  return std::none_of(report.allowed.begin(), report.allowed.end(),
                      [](const Unlike& one) { return one.option.find("inputs") != std::string::npos; });
}

std::string ratio_cell_text(double ratio) { return std::isfinite(ratio) ? fmt::format("{:.3f}", ratio) : "–"; }
std::string time_text(double seconds) { return std::isfinite(seconds) ? si_number(seconds, "s") : "–"; }

int style_of_change(Change change) {
  if (change == Change::slower) return 1;
  return change == Change::faster ? 2 : change == Change::same ? 0 : 6;
}

Exhibit times_exhibit(const DiffReport& report) {
  Exhibit exhibit{.name = "times"};
  exhibit.table = {
      .caption = "Times end to end",
      .columns = {{"case"}, {"A", true}, {"B", true}, {"B / A", true}, {"interval"}, {"verdict"}, {"why"}}};
  const bool comparable = times_comparable(report);
  chart::IntervalChart drawn{.title = "Time of B over time of A", .axis = "B / A: below 1 B is faster", .log = true};
  drawn.level = 1;
  for (const DiffCase& one : report.cases) {
    const std::string verdict = comparable ? std::string(change_name(one.time.change)) : "not comparable";
    const auto& interval = one.time.interval;
    exhibit.table.rows.push_back(
        {one.name, time_text(one.a), time_text(one.b), comparable ? ratio_cell_text(one.time.ratio) : "–",
         comparable && interval ? fmt::format("{:.3f} to {:.3f}", interval->low, interval->high) : "–", verdict,
         comparable ? one.reason : "inputs or machines differ"});
    if (std::ssize(drawn.rows) >= kMostDrawn) continue;
    chart::IntervalRow row{
        .name = one.name, .text = ratio_cell_text(one.time.ratio) + ", " + verdict, .value = one.time.ratio};
    if (interval) {
      row.low = interval->low;
      row.high = interval->high;
    }
    row.style = style_of_change(one.time.change);
    row.filled = one.time.change == Change::faster || one.time.change == Change::slower;
    drawn.rows.push_back(std::move(row));
  }
  std::vector<std::string> counts;
  for (const Change change : {Change::slower, Change::faster, Change::same, Change::inconclusive, Change::too_few}) {
    if (report.count(change) > 0) counts.push_back(fmt::format("{} {}", report.count(change), change_name(change)));
  }
  if (!comparable) {
    exhibit.remark = "Times are not compared: the inputs or the machines of A and B differ.";
    return exhibit;
  }
  if (drawn.rows.empty()) return exhibit;
  drawn.description =
      fmt::format("Of {}: {}.", counted(std::ssize(report.cases), "case", "cases"), joined(counts, ", "));
  exhibit.remark = drawn.description + " Filled: a difference that noise does not explain.";
  exhibit.figure = draw(drawn);
  return exhibit;
}

Exhibit quality_exhibit(const DiffReport& report) {
  Exhibit exhibit{.name = "quality"};
  exhibit.table = {
      .caption = "Quality",
      .columns = {
          {"case and number"}, {"A", true}, {"B", true}, {"B - A", true}, {"rows better", true}, {"rows worse", true}}};
  chart::IntervalChart drawn{.title = "Recall of B less recall of A", .axis = "recall of B - recall of A"};
  for (const DiffCase& one : report.cases) {
    for (const DiffQuality& quality : one.quality) {
      const bool recall = quality.name == "recall";
      exhibit.table.rows.push_back({one.name + ": " + quality.name, four_decimals(quality.a), four_decimals(quality.b),
                                    fmt::format("{:+.4f}", quality.b - quality.a),
                                    recall ? std::to_string(one.rows_better) : "",
                                    recall ? std::to_string(one.rows_worse) : ""});
      if (!recall || std::ssize(drawn.rows) >= kMostDrawn) continue;
      const double change = quality.b - quality.a;
      drawn.rows.push_back({.name = one.name,
                            .text = fmt::format("{:+.4f}", change),
                            .value = change,
                            .style = change < 0   ? 1
                                     : change > 0 ? 2
                                                  : 0,
                            .filled = change != 0});
    }
  }
  if (drawn.rows.empty()) return exhibit;
  const auto changed = std::count_if(drawn.rows.begin(), drawn.rows.end(), [](const auto& row) { return row.filled; });
  drawn.description = changed == 0 ? "No recall has changed."
                                   : fmt::format("Recall has changed in {} of {}.", changed,
                                                 counted(std::ssize(drawn.rows), "case", "cases"));
  exhibit.remark = drawn.description + (quality_comparable(report) ? "" : " The inputs of A and B differ.");
  exhibit.folded = exhibit.table.rows.size() > 24;
  exhibit.figure = draw(drawn);
  return exhibit;
}

Exhibit stage_differences(const DiffReport& report) {
  Exhibit exhibit{.name = "stage-times"};
  exhibit.table = {.caption = "Stages", .columns = {{"case and stage"}, {"A", true}, {"B", true}, {"B / A", true}}};
  for (const DiffCase& one : report.cases) {
    for (const DiffStage& stage : one.stages) {
      exhibit.table.rows.push_back({one.name + ": " + stage.name, time_text(stage.a), time_text(stage.b),
                                    stage.a > 0 ? ratio_cell_text(stage.b / stage.a) : "–"});
    }
  }
  exhibit.folded = true;
  return exhibit;
}

}  // namespace

std::vector<std::string> difference_warnings(const DiffReport& report) {
  std::vector<std::string> lines;
  for (const Unlike& one : report.allowed) {
    lines.push_back(fmt::format("A and B are not alike: {} is {} in A, and {} in B.", one.what, one.a, one.b));
  }
  for (const auto& [side, names] : {std::pair{"A", &report.only_a}, {"B", &report.only_b}}) {
    if (!names->empty()) lines.push_back(fmt::format("Only in {}: {}.", side, joined(*names, "; ")));
  }
  return lines;
}

std::vector<PageSection> difference_sections(const DiffReport& report) {
  std::vector<PageSection> sections;
  const auto add = [&](std::string heading, std::vector<Exhibit> exhibits) {
    std::erase_if(exhibits, [](const Exhibit& one) { return one.table.rows.empty(); });
    if (!exhibits.empty()) sections.push_back({.heading = std::move(heading), .exhibits = std::move(exhibits)});
  };
  add("Time", {times_exhibit(report), times_comparable(report) ? stage_differences(report) : Exhibit{}});
  add("Quality", {quality_exhibit(report)});
  return sections;
}

}  // namespace misa
