#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>

#include "core/chart/bars.hpp"
#include "core/chart/plot.hpp"
#include "core/measure/pareto.hpp"
#include "core/report/exhibit.hpp"
#include "core/report/result_file.hpp"
#include "core/report/text.hpp"

// What is shown of a profile.
namespace misa {
namespace {

constexpr double kNanosecond = 1e-9;
constexpr i64 kMostBars = 24;           // more are in the table alone
constexpr std::size_t kMostSeries = 8;  // in a legend; more cases are gathered by indexer
constexpr i64 kMostRowCases = 8;        // cases in the drawing of rows
constexpr i64 kMostRowsDrawn = 256;     // more are drawn as groups of consecutive rows

std::string or_dash(std::optional<double> value, std::string (*text)(double)) { return value ? text(*value) : "–"; }
std::string four(double value) { return four_decimals(value); }

/// A number of seconds in a unit that suits the largest of a column.
class Times {
 public:
  explicit Times(double largest_ns) : prefix_(si_prefix(largest_ns * kNanosecond)) {}
  std::string unit() const { return std::string(prefix_.symbol) + "s"; }
  double value(double ns) const { return ns * kNanosecond / prefix_.factor; }
  std::string text(std::optional<double> ns) const { return ns ? short_number(value(*ns)) : "–"; }

 private:
  SiPrefix prefix_;
};

double largest_of(const Json& cases, std::string_view path) {
  double largest = 0;
  for (const Json& one : cases) largest = std::max(largest, number_at(one, path).value_or(0));
  return largest;
}

/// "3.52 (3.19 to 3.91), faster"
std::string speedup_text(const Json& one) {
  const auto median = number_at(one, "speedup.median");
  if (!median) return "–";
  const auto low = number_at(one, "speedup.low"), high = number_at(one, "speedup.high");
  std::string text = short_number(*median);
  if (low && high) text += fmt::format(" ({} to {})", short_number(*low), short_number(*high));
  const std::string verdict = text_at(one, "speedup.verdict").value_or("");
  return verdict.empty() ? text : text + ", " + verdict;
}

PageTable summary(const Json& cases, const std::vector<std::string>& names, const Times& times) {
  PageTable table{.caption = "Time end to end, and what is found of DSA's selection",
                  .columns = {{"indexer"},
                              {"time, " + times.unit(), true},
                              {"p10 to p90", true},
                              {"speed-up over dsa"},
                              {"recall", true},
                              {"worst row", true},
                              {"attention mass", true}}};
  const auto forces = [](const Json& one) { return find_value(one, "quality.recall_free") != nullptr; };
  const bool forced = std::any_of(cases.begin(), cases.end(), forces);
  if (forced) table.columns.push_back({"recall of what was free", true});
  for (std::size_t i = 0; i < names.size(); ++i) {
    const Json& one = cases[i];
    const auto p10 = number_at(one, "end_to_end_ns.p10"), p90 = number_at(one, "end_to_end_ns.p90");
    const auto worst = number_at(one, "quality.recall.worst");
    const auto row = count_at(one, "quality.recall.worst_row");
    table.rows.push_back({names[i], times.text(number_at(one, "end_to_end_ns.median")),
                          p10 && p90 ? times.text(p10) + " to " + times.text(p90) : "–", speedup_text(one),
                          or_dash(number_at(one, "quality.recall.mean"), four),
                          or_dash(worst, four) + (worst && row ? fmt::format(" (row {})", *row) : ""),
                          or_dash(number_at(one, "quality.attention_mass"), four)});
    if (forced) table.rows.back().push_back(or_dash(number_at(one, "quality.recall_free.mean"), four));
  }
  return table;
}

Exhibit cost_exhibit(const Json& cases, const std::vector<std::string>& names) {
  const Times times(largest_of(cases, "end_to_end_ns.median"));
  Exhibit exhibit{.name = "cost", .table = summary(cases, names, times)};
  std::vector<Offer> offers;  // of a case that lacks one of the two: no numbers
  double least = 0, most = 0;
  for (const Json& one : cases) {
    const auto time = number_at(one, "end_to_end_ns.median"), recall = number_at(one, "quality.recall.mean");
    const bool known = time && recall && *time > 0;
    offers.push_back(known ? Offer{times.value(*time), *recall} : Offer{std::nan(""), std::nan("")});
    if (!known) continue;
    least = least == 0 ? offers.back().cost : std::min(least, offers.back().cost);
    most = std::max(most, offers.back().cost);
  }
  if (most == 0) {
    exhibit.remark = "Cost against recall is not drawn: no case has both a time and a recall.";
    return exhibit;
  }
  const std::vector<bool> front = pareto_front(offers);
  chart::Plot plot{.title = "Cost against recall"};
  plot.x = {.title = "time end to end, " + times.unit() + " (median)", .log = most > 8 * least};
  plot.y = {.title = "mean recall of DSA's tokens"};
  chart::Series line{.name = "Pareto front", .style = 6, .markers = false, .line = true, .dashed = true};
  std::vector<std::string> best;
  for (std::size_t i = 0; i < names.size(); ++i) {
    const double time = offers[i].cost, recall = offers[i].quality;
    if (std::isnan(time)) continue;
    const std::string tip =
        fmt::format("{}: recall {}, {} {}", names[i], four_decimals(recall), short_number(time), times.unit());
    if (front[i]) {
      line.points.push_back({.x = time, .y = recall});
      best.push_back(names[i]);
    }
    const std::string group = names.size() <= kMostSeries ? names[i] : text_at(cases[i], "indexer").value_or("unnamed");
    auto series = std::find_if(plot.series.begin(), plot.series.end(),
                               [&](const chart::Series& one) { return one.name == group; });
    if (series == plot.series.end()) {
      series = plot.series.insert(series, {.name = group, .style = static_cast<int>(std::ssize(plot.series))});
    }
    series->points.push_back({.x = time, .y = recall, .tip = tip, .filled = front[i]});
  }
  std::sort(line.points.begin(), line.points.end(), [](const auto& a, const auto& b) { return a.x < b.x; });
  plot.series.insert(plot.series.begin(), std::move(line));
  exhibit.remark = "Up and to the left is better. Filled: on the Pareto front, no other is faster and finds as much.";
  plot.description = "On the Pareto front, from the table beside it: " + joined(best, ", ") + ".";
  exhibit.figure = draw(plot);
  return exhibit;
}

/// The names of all stages, in the order in which cases run them.
std::vector<std::string> stage_names(const Json& cases) {
  constexpr std::array<std::string_view, 5> kOrder{"pool", "route", "score", "select", "rerank"};
  std::vector<std::string> names(kOrder.begin(), kOrder.end());
  for (const Json& one : cases) {
    for (const Json& stage : array_at(one, "stages")) {
      const std::string name = text_at(stage, "name").value_or("unnamed");
      if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
    }
  }
  return names;
}

Exhibit stages_exhibit(const Json& cases, const std::vector<std::string>& names) {
  const Times times(largest_of(cases, "end_to_end_ns.median"));
  Exhibit exhibit{.name = "stages"};
  exhibit.table = {.caption = "Stages",
                   .columns = {{"indexer and stage"},
                               {"time, " + times.unit(), true},
                               {"share", true},
                               {"GFLOP/s", true},
                               {"GB/s", true},
                               {"of its roof", true},
                               {"limit"},
                               {"kernel"}}};
  chart::BarChart bars{.title = "Time of each stage", .axis = "time, " + times.unit() + " (medians)"};
  bars.parts = stage_names(cases);
  std::vector<std::string> longest;
  for (std::size_t i = 0; i < names.size(); ++i) {
    chart::Bar bar{.name = names[i]};
    double sum = 0, most = 0;
    std::string slowest;
    for (const Json& stage : array_at(cases[i], "stages")) {
      const std::string name = text_at(stage, "name").value_or("unnamed");
      const auto time = number_at(stage, "time_ns.median");
      const auto share = number_at(stage, "share"), roof = number_at(stage, "roof_fraction");
      const auto giga = [&](std::string_view path) {
        const auto value = number_at(stage, path);
        return value ? short_number(*value * 1e-9) : std::string("–");
      };
      exhibit.table.rows.push_back({names[i] + ": " + name, times.text(time), or_dash(share, percent),
                                    giga("flops_per_second"), giga("bytes_per_second"), or_dash(roof, percent),
                                    text_at(stage, "bound").value_or("–"), text_at(stage, "kernel").value_or("–")});
      if (!time) continue;
      sum += *time;
      if (*time > most) {
        most = *time;
        slowest = name;
      }
      const auto at = std::find(bars.parts.begin(), bars.parts.end(), name) - bars.parts.begin();
      bar.parts.push_back({static_cast<int>(at), times.value(*time),
                           fmt::format("{}: {} {} {}", names[i], name, times.text(time), times.unit())});
    }
    if (bar.parts.empty()) continue;
    bar.total = times.text(sum) + " " + times.unit();
    if (std::ssize(longest) < kMostBars) longest.push_back(fmt::format("{}: {}", names[i], slowest));
    if (std::ssize(bars.bars) < kMostBars) bars.bars.push_back(std::move(bar));
  }
  if (bars.bars.empty()) {
    exhibit.remark = "Stages are not drawn: none was timed.";
    return exhibit;
  }
  exhibit.remark = "Sums of the stages' medians, from a common zero. They are measured apart from the time end to end.";
  if (std::ssize(names) > kMostBars) exhibit.remark += fmt::format(" The first {} cases are drawn.", kMostBars);
  bars.description = "The longest stage of each: " + joined(longest, "; ") + ".";
  exhibit.figure = draw(bars);
  return exhibit;
}

/// The roofs of one backend, and the stages of its cases as points under them.
Exhibit roofline_exhibit(const Json& cases, const std::vector<std::string>& names, const Json& backend) {
  const std::string name = text_at(backend, "name").value_or("backend");
  const auto peak = number_at(backend, "roofs.flops_per_second"), read = number_at(backend, "roofs.bytes_per_second");
  Exhibit exhibit{.name = "roofline-" + name};
  if (!peak || !read || *peak <= 0 || *read <= 0) return exhibit;
  exhibit.table = {.caption = "Stages under the roofs of " + name,
                   .columns = {{"indexer and stage"}, {"FLOP/byte", true}, {"GFLOP/s", true}, {"of its roof", true}}};
  chart::Plot plot{.title = "Roofline of " + name};
  plot.x = {.title = "FLOP per byte of memory traffic", .log = true};
  plot.y = {.title = "GFLOP/s", .log = true};
  const std::vector<std::string> stages = stage_names(cases);
  std::vector<chart::Series> series(stages.size());
  for (std::size_t i = 0; i < stages.size(); ++i) series[i] = {.name = stages[i], .style = static_cast<int>(i)};
  double low = *peak / *read, high = low;
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (text_at(cases[i], "backend") != name) continue;
    for (const Json& stage : array_at(cases[i], "stages")) {
      const auto flops = number_at(stage, "flops"), bytes = number_at(stage, "bytes");
      const auto rate = number_at(stage, "flops_per_second");
      if (!flops || !bytes || !rate || *flops <= 0 || *bytes <= 0 || *rate <= 0) continue;
      const double intensity = *flops / *bytes;
      const std::string stage_name = text_at(stage, "name").value_or("unnamed");
      const auto at = std::find(stages.begin(), stages.end(), stage_name) - stages.begin();
      const std::string label = names[i] + ": " + stage_name;
      const std::string roof = or_dash(number_at(stage, "roof_fraction"), percent);
      series[static_cast<std::size_t>(at)].points.push_back(
          {.x = intensity,
           .y = *rate * 1e-9,
           .tip = fmt::format("{}: {} GFLOP/s, {} of its roof", label, short_number(*rate * 1e-9), roof)});
      exhibit.table.rows.push_back({label, short_number(intensity), short_number(*rate * 1e-9), roof});
      low = std::min(low, intensity);
      high = std::max(high, intensity);
    }
  }
  if (exhibit.table.rows.empty()) return exhibit;
  const double ridge = *peak / *read;
  plot.series.push_back({.name = "roof",
                         .points = {{.x = low / 2, .y = *read * low / 2 * 1e-9},
                                    {.x = ridge, .y = *peak * 1e-9},
                                    {.x = std::max(high, ridge) * 2, .y = *peak * 1e-9}},
                         .style = 6,
                         .markers = false,
                         .line = true});
  for (chart::Series& one : series) {
    if (!one.points.empty()) plot.series.push_back(std::move(one));
  }
  plot.description = fmt::format("The roofs are {} and {}, which meet at {} FLOP per byte.", si_number(*peak, "FLOP/s"),
                                 si_number(*read, "B/s"), short_number(ridge));
  exhibit.remark = plot.description + " Stages that compute nothing in floating point are not drawn.";
  exhibit.folded = exhibit.table.rows.size() > 12;
  exhibit.figure = draw(plot);
  return exhibit;
}

/// Mean and least recall of consecutive rows, so many that at most kMostRowsDrawn groups remain.
struct RowGroup {
  double row = 0, mean = 0, least = 1;
};
std::vector<RowGroup> row_groups(const Json& rows) {
  const auto size = static_cast<i64>(rows.size());
  const i64 length = std::max<i64>(1, (size + kMostRowsDrawn - 1) / kMostRowsDrawn);
  std::vector<RowGroup> groups;
  for (i64 begin = 0; begin < size; begin += length) {
    RowGroup group;
    const i64 end = std::min(size, begin + length);
    for (i64 i = begin; i < end; ++i) {
      const double recall = number_at(rows[static_cast<std::size_t>(i)], "recall").value_or(0);
      group.mean += recall / static_cast<double>(end - begin);
      group.least = std::min(group.least, recall);
    }
    group.row = number_at(rows[static_cast<std::size_t>(begin)], "row").value_or(static_cast<double>(begin));
    groups.push_back(group);
  }
  return groups;
}

Exhibit rows_exhibit(const Json& cases, const std::vector<std::string>& names) {
  Exhibit exhibit{.name = "rows"};
  exhibit.table = {.caption = "Rows of lowest recall",
                   .columns = {{"indexer"}, {"row", true}, {"recall", true}, {"IoU", true}, {"missed tokens", true}}};
  chart::Plot plot{.title = "Recall of each row"};
  plot.x = {.title = "row"};
  plot.y = {.title = "recall"};
  bool grouped = false;
  std::vector<std::string> worst;
  for (std::size_t i = 0; i < names.size(); ++i) {
    const Json& rows = array_at(cases[i], "quality.per_row");
    if (rows.empty() || text_at(cases[i], "indexer") == text_at(cases[i], "quality.reference")) continue;
    std::vector<std::size_t> order(rows.size());
    for (std::size_t j = 0; j < order.size(); ++j) order[j] = j;
    std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
      return number_at(rows[a], "recall").value_or(2) < number_at(rows[b], "recall").value_or(2);
    });
    for (std::size_t j = 0; j < std::min<std::size_t>(3, order.size()); ++j) {
      const Json& row = rows[order[j]];
      const std::string number =
          or_dash(number_at(row, "row"), [](double value) { return fmt::format("{:.0f}", value); });
      exhibit.table.rows.push_back(
          {names[i], number, or_dash(number_at(row, "recall"), four), or_dash(number_at(row, "iou"), four),
           or_dash(number_at(row, "missed"), [](double value) { return fmt::format("{:.0f}", value); })});
      if (j == 0) worst.push_back(fmt::format("{}: row {}", names[i], number));
    }
    if (std::ssize(plot.series) >= kMostRowCases) continue;
    chart::Series series{.name = names[i], .style = static_cast<int>(i), .line = true};
    for (const RowGroup& group : row_groups(rows)) {
      const bool several = std::ssize(rows) > kMostRowsDrawn;
      grouped = grouped || several;
      chart::Point point{.x = group.row, .y = group.mean};
      if (several) {
        point.low = group.least;
        point.high = group.mean;
      }
      series.points.push_back(point);
    }
    series.markers = series.points.size() <= 80;
    plot.series.push_back(std::move(series));
  }
  if (plot.series.empty()) return exhibit;
  plot.description = "The row of lowest recall: " + joined(worst, "; ") + ".";
  exhibit.remark = grouped ? "Means of consecutive rows, with a line down to the lowest of them."
                           : "Rows as the result numbers them: misa-prof explain --row R says why one is low.";
  if (worst.size() > plot.series.size()) {
    exhibit.remark += fmt::format(" The first {} cases are drawn.", plot.series.size());
  }
  exhibit.figure = draw(plot);
  return exhibit;
}

/// What all layers with an indexer take together.
Exhibit whole_model_exhibit(const Json& document) {
  const Json& cases = array_at(document, "whole_model.cases");
  const auto layers = count_at(document, "whole_model.layers"), own = count_at(document, "whole_model.indexer_layers");
  const std::string per = text_at(document, "whole_model.per").value_or("step");
  if (cases.empty() || !layers || !own) return {};
  const Times times(largest_of(cases, "ns"));
  Exhibit exhibit{.name = "whole-model"};
  exhibit.table = {
      .caption = fmt::format("{} of {} layers have an indexer; a layer without one takes nothing", *own, *layers),
      .columns = {{"indexer"}, {fmt::format("a {}, {}", per, times.unit()), true}},
      .rows = {}};
  for (const Json& one : cases) {
    exhibit.table.rows.push_back({text_at(one, "name").value_or("unnamed"), times.text(number_at(one, "ns"))});
  }
  return exhibit;
}

}  // namespace

std::vector<PageSection> result_sections(const Json& document) {
  const Json& cases = array_at(document, "cases");
  if (cases.empty()) return {{.heading = "Results", .remark = "There is no case in this result."}};
  const std::vector<std::string> names = names_of_cases(cases);
  std::vector<PageSection> sections;
  const auto add = [&](std::string heading, Exhibit exhibit) {
    if (!exhibit.figure && exhibit.table.rows.empty()) return;
    sections.push_back({.heading = std::move(heading), .exhibits = {std::move(exhibit)}});
  };
  add("Cost against recall", cost_exhibit(cases, names));
  add("The whole model", whole_model_exhibit(document));
  add("Stages", stages_exhibit(cases, names));
  for (const Json& backend : array_at(document, "environment.backends")) {
    add("Roofline of " + text_at(backend, "name").value_or("a backend"), roofline_exhibit(cases, names, backend));
  }
  add("Recall of rows", rows_exhibit(cases, names));
  return sections;
}

}  // namespace misa
