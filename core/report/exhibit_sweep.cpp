#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "core/chart/plot.hpp"
#include "core/chart/scale.hpp"
#include "core/report/exhibit.hpp"
#include "core/report/result_file.hpp"
#include "core/report/text.hpp"

// What is shown of a sweep: how speed depends on the context length, fronts at each length, and all cases.
namespace misa {
namespace {

constexpr i64 kMostFronts = 12;  // drawn; all are in tables

std::string number_cell(std::optional<double> value) { return value ? short_number(*value) : "–"; }

/// Texts in the order of their first appearance, and a style for each.
class Styles {
 public:
  int of(const std::string& name) { return styles_.emplace(name, static_cast<int>(styles_.size())).first->second; }

 private:
  std::map<std::string, int> styles_;
};

/// The values of a key of all elements, in the order of their first appearance.
std::vector<std::string> distinct(const Json& elements, std::string_view path) {
  std::vector<std::string> values;
  for (const Json& one : elements) {
    const std::string value = text_at(one, path).value_or("");
    if (std::find(values.begin(), values.end(), value) == values.end()) values.push_back(value);
  }
  return values;
}

std::vector<double> contexts_of(const Json& cases) {
  std::set<double> contexts;
  for (const Json& one : cases) {
    if (const auto context = number_at(one, "axes.context"); context && *context > 0) contexts.insert(*context);
  }
  return {contexts.begin(), contexts.end()};
}

chart::Axis context_axis(const std::vector<double>& contexts) {
  return {.title = "context, tokens", .log = true, .text = chart::token_text, .ticks = contexts};
}

std::string verdict_text(const Json& crossover) {
  std::string verdict = text_at(crossover, "verdict").value_or("unknown");
  const auto context = number_at(crossover, "context");
  const auto low = number_at(crossover, "low"), high = number_at(crossover, "high");
  if (!context) return verdict;
  const std::string faster = text_at(crossover, "faster").value_or("above");
  return fmt::format(
      "faster {} about {} tokens{}", faster, chart::token_text(*context),
      low && high ? fmt::format(" (between {} and {})", chart::token_text(*low), chart::token_text(*high)) : "");
}

Exhibit speed_exhibit(const Json& document, const std::string& setting, Styles& styles) {
  Exhibit exhibit{.name = "speed"};
  exhibit.table = {.caption = "Faster than dsa, by context",
                   .columns = {{"indexer"}, {"context", true}, {"speed-up", true}, {"interval"}, {"verdict"}}};
  chart::Plot plot{.title = "Speed-up over dsa against context"};
  plot.x = context_axis(contexts_of(array_at(document, "cases")));
  plot.y = {.title = "time of dsa / time", .log = true};
  plot.level = 1;
  std::vector<std::string> verdicts;
  for (const Json& crossover : array_at(document, "crossovers")) {
    if (text_at(crossover, "setting").value_or("") != setting || text_at(crossover, "over") != "dsa") continue;
    const std::string name = text_at(crossover, "of").value_or("unnamed");
    chart::Series series{.name = name, .style = styles.of(name), .line = true};
    for (const Json& ratio : array_at(crossover, "ratios")) {
      const auto context = number_at(ratio, "context"), value = number_at(ratio, "ratio");
      const auto low = number_at(ratio, "low"), high = number_at(ratio, "high");
      if (!context || !value) continue;
      const std::string interval =
          low && high ? fmt::format("{} to {}", short_number(*low), short_number(*high)) : "none";
      const std::string verdict = text_at(ratio, "verdict").value_or("");
      chart::Point point{.x = *context, .y = *value};
      if (low && high) {
        point.low = *low;
        point.high = *high;
      }
      point.tip = fmt::format("{} at {}: {} ({}), {}", name, chart::token_text(*context), short_number(*value),
                              interval, verdict);
      point.filled = verdict == "faster" || verdict == "slower";
      series.points.push_back(std::move(point));
      exhibit.table.rows.push_back({name, chart::token_text(*context), short_number(*value), interval, verdict});
    }
    const auto context = number_at(crossover, "context");
    if (context) {
      plot.marks.push_back({.at = *context,
                            .low = number_at(crossover, "low").value_or(*context),
                            .high = number_at(crossover, "high").value_or(*context),
                            .name = name + ": " + chart::token_text(*context),
                            .style = series.style});
    }
    verdicts.push_back(name + ": " + verdict_text(crossover));
    plot.series.push_back(std::move(series));
  }
  if (plot.series.empty()) return exhibit;
  plot.description = joined(verdicts, "; ") + ".";
  exhibit.remark = plot.description +
                   " Above the dashed line is faster than dsa. A hollow point is undecided: its interval holds 1. A "
                   "band is where a crossover lies.";
  exhibit.figure = draw(plot);
  return exhibit;
}

Exhibit time_exhibit(const Json& document, const std::string& setting, Styles& styles) {
  Exhibit exhibit{.name = "time"};
  double largest = 0;
  const auto of_setting = [&](const Json& one) { return text_at(one, "setting").value_or("") == setting; };
  for (const Json& one : array_at(document, "cases")) {
    if (of_setting(one)) largest = std::max(largest, number_at(one, "case.end_to_end_ns.median").value_or(0));
  }
  if (largest <= 0) return exhibit;
  const SiPrefix prefix = si_prefix(largest * 1e-9);
  const std::string unit = std::string(prefix.symbol) + "s";
  const auto in_unit = [&](std::optional<double> ns) {
    return ns ? std::optional(*ns * 1e-9 / prefix.factor) : std::nullopt;
  };
  exhibit.table = {.caption = "Cases",
                   .columns = {{"indexer"},
                               {"context", true},
                               {"time, " + unit, true},
                               {"p10 to p90", true},
                               {"recall", true},
                               {"worst row", true},
                               {"attention mass", true}}};
  chart::Plot plot{.title = "Time against context"};
  plot.x = context_axis(contexts_of(array_at(document, "cases")));
  plot.y = {.title = "time end to end, " + unit, .log = true};
  for (const Json& one : array_at(document, "cases")) {
    if (!of_setting(one)) continue;
    const std::string name = text_at(one, "name").value_or(text_at(one, "case.indexer").value_or("unnamed"));
    const auto context = number_at(one, "axes.context");
    const auto time = in_unit(number_at(one, "case.end_to_end_ns.median"));
    const auto p10 = in_unit(number_at(one, "case.end_to_end_ns.p10"));
    const auto p90 = in_unit(number_at(one, "case.end_to_end_ns.p90"));
    exhibit.table.rows.push_back({name, context ? chart::token_text(*context) : "–", number_cell(time),
                                  p10 && p90 ? short_number(*p10) + " to " + short_number(*p90) : "–",
                                  four_decimals(number_at(one, "case.quality.recall.mean")),
                                  four_decimals(number_at(one, "case.quality.recall.worst")),
                                  four_decimals(number_at(one, "case.quality.attention_mass"))});
    if (!context || !time) continue;
    const int style = styles.of(name);
    auto series = std::find_if(plot.series.begin(), plot.series.end(),
                               [&](const chart::Series& drawn) { return drawn.style == style; });
    if (series == plot.series.end()) {
      series = plot.series.insert(series, {.name = name, .style = style, .line = true});
    }
    chart::Point point{.x = *context, .y = *time};
    if (p10 && p90) {
      point.low = *p10;
      point.high = *p90;
    }
    point.tip = fmt::format("{} at {}: {} {}", name, chart::token_text(*context), short_number(*time), unit);
    series->points.push_back(std::move(point));
  }
  if (plot.series.empty()) return exhibit;
  if (plot.series.size() > 12) {
    for (chart::Series& series : plot.series) series.name.clear();  // names are in the tips and in the table
  }
  plot.description = "Medians, with bars from the 10th to the 90th percentile; the numbers are in the table.";
  exhibit.remark = plot.description;
  exhibit.folded = exhibit.table.rows.size() > 24;
  exhibit.figure = draw(plot);
  return exhibit;
}

/// Quality against cost of one group.
Exhibit front_exhibit(const Json& front, Styles& styles) {
  const std::string quality = text_at(front, "quality") == "attention_mass" ? "attention mass" : "recall";
  const std::string cost = text_at(front, "cost").value_or("cost");
  const double context = number_at(front, "context").value_or(0);
  double largest = 0;
  for (const Json& point : array_at(front, "points")) largest = std::max(largest, number_at(point, "cost").value_or(0));
  const double scale = cost == "time" ? 1e-9 : 1;
  const SiPrefix prefix = si_prefix(largest * scale);
  const std::string unit = std::string(prefix.symbol) + (cost == "time"    ? "s"
                                                         : cost == "flops" ? "FLOP"
                                                         : cost == "bytes" ? "B"
                                                                           : "");
  chart::Plot plot{.title = fmt::format("{} against {} at {} tokens", quality == "recall" ? "Recall" : "Attention mass",
                                        cost, chart::token_text(context))};
  plot.x = {.title = cost + ", " + unit};
  plot.y = {.title = quality};
  Exhibit exhibit{.name = fmt::format("{}-{}", quality == "recall" ? "cost" : "cost-mass", chart::token_text(context))};
  exhibit.table = {.caption = plot.title,
                   .columns = {{"case"}, {cost + ", " + unit, true}, {quality, true}, {"on the front"}}};
  std::vector<std::string> best;
  chart::Series line{.name = "front", .style = 6, .markers = false, .line = true, .dashed = true};
  for (const Json& point : array_at(front, "points")) {
    const auto x = number_at(point, "cost"), y = number_at(point, "quality");
    if (!x || !y) continue;
    const std::string name = text_at(point, "name").value_or("unnamed");
    const bool on = truth_at(point, "on_front").value_or(false);
    const double value = *x * scale / prefix.factor;
    exhibit.table.rows.push_back({name, short_number(value), four_decimals(*y), on ? "yes" : "no"});
    if (on) {
      best.push_back(name);
      line.points.push_back({.x = value, .y = *y});
    }
    plot.series.push_back({.name = name,
                           .points = {{.x = value,
                                       .y = *y,
                                       .tip = fmt::format("{}: {} {}, {} {}", name, quality, four_decimals(*y),
                                                          short_number(value), unit),
                                       .filled = on}},
                           .style = styles.of(name)});
  }
  if (plot.series.empty()) return exhibit;
  if (plot.series.size() > 12) {
    for (chart::Series& series : plot.series) series.name.clear();
  }
  std::sort(line.points.begin(), line.points.end(), [](const auto& a, const auto& b) { return a.x < b.x; });
  plot.series.insert(plot.series.begin(), std::move(line));
  plot.description = "On the front: " + joined(best, ", ") + ".";
  exhibit.folded = true;
  exhibit.figure = draw(plot);
  return exhibit;
}

/// Stages, roofline and rows of the group of the longest context, as of a profile of it.
std::vector<PageSection> longest_sections(const Json& document) {
  const Json& cases = array_at(document, "cases");
  double longest = 0, group = -1;
  for (const Json& one : cases) {
    const double context = number_at(one, "axes.context").value_or(0);
    if (context <= longest) continue;
    longest = context;
    group = number_at(one, "group").value_or(0);
  }
  Json profile = Json::object();
  profile["cases"] = Json::array();
  if (const Json* environment = find_value(document, "environment")) profile["environment"] = *environment;
  for (const Json& one : cases) {
    const Json* inner = find_value(one, "case");
    if (inner != nullptr && number_at(one, "group").value_or(0) == group) profile["cases"].push_back(*inner);
  }
  if (group < 0 || profile["cases"].empty()) return {};
  std::vector<PageSection> sections = result_sections(profile);
  std::erase_if(sections,
                [](const PageSection& one) { return one.exhibits.empty() || one.exhibits[0].name == "cost"; });
  for (PageSection& section : sections) section.heading += fmt::format(", at {} tokens", chart::token_text(longest));
  return sections;
}

}  // namespace

std::vector<PageSection> sweep_sections(const Json& document) {
  std::vector<PageSection> sections;
  Styles styles;
  styles.of("dsa");
  const std::vector<std::string> settings = distinct(array_at(document, "cases"), "setting");
  for (std::size_t i = 0; i < settings.size(); ++i) {
    PageSection section{.heading = settings.size() == 1 ? "Speed against context"
                                                        : fmt::format("Speed against context, setting {}", i + 1),
                        .remark = settings[i]};
    for (Exhibit exhibit :
         {speed_exhibit(document, settings[i], styles), time_exhibit(document, settings[i], styles)}) {
      if (exhibit.figure || !exhibit.table.rows.empty()) section.exhibits.push_back(std::move(exhibit));
    }
    sections.push_back(std::move(section));
  }
  PageSection fronts{.heading = "Cost against quality",
                     .remark =
                         "Filled: on the Pareto front, nothing else is as "
                         "cheap and keeps as much.",
                     .side_by_side = true};
  for (const Json& front : array_at(document, "fronts")) {
    if (text_at(front, "cost") != "time") continue;  // costs by formula are in the JSON
    Exhibit exhibit = front_exhibit(front, styles);
    if (std::ssize(fronts.exhibits) >= kMostFronts) {
      exhibit.figure.reset();
      exhibit.remark.clear();
    }
    if (!exhibit.table.rows.empty()) fronts.exhibits.push_back(std::move(exhibit));
  }
  if (!fronts.exhibits.empty()) sections.push_back(std::move(fronts));
  for (PageSection& section : longest_sections(document)) sections.push_back(std::move(section));
  if (sections.empty()) sections.push_back({.heading = "Results", .remark = "There is no case in this sweep."});
  return sections;
}

}  // namespace misa
