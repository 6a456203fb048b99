#include "core/report/sweep_report.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <set>

#include "core/measure/pareto.hpp"
#include "core/measure/statistics.hpp"

namespace misa {
namespace {

/// The sum over stages; empty where one of them has none.
std::optional<double> sum_of_stages(const Json& one, const char* amount) {
  double sum = 0;
  for (const Json& stage : array_at(one, "stages")) {
    const std::optional<double> number = number_at(stage, amount);
    if (!number) return std::nullopt;
    sum += *number;
  }
  return sum;
}

std::optional<double> seconds_at(const Json& json, std::string_view path) {
  const std::optional<double> nanoseconds = number_at(json, path);
  return nanoseconds ? std::optional(*nanoseconds * 1e-9) : std::nullopt;
}

SweepCase read_case(const ResultFile& file, const Json& record, const std::string& where) {
  SweepCase read;
  read.key = need_text(file, record, "key", where);
  read.name = need_text(file, record, "name", where);
  read.setting = need_text(file, record, "setting", where);
  read.series = need_text(file, record, "series", where);
  read.model = text_at(record, "axes.model").value_or("");
  read.backend = text_at(record, "axes.backend").value_or("");
  read.context = static_cast<i64>(need_number(file, record, "axes.context", where));
  read.group = static_cast<i64>(need_number(file, record, "group", where));
  read.reference = text_at(record, "case.indexer") == "dsa";
  for (const double nanoseconds : numbers_at(record, "case.end_to_end_ns.raw")) {
    read.seconds.push_back(nanoseconds * 1e-9);
  }
  read.median = seconds_at(record, "case.end_to_end_ns.median");
  read.p10 = seconds_at(record, "case.end_to_end_ns.p10");
  read.p90 = seconds_at(record, "case.end_to_end_ns.p90");
  if (const std::optional<double> ratio = number_at(record, "case.speedup.median")) {
    read.speedup = PairedRatio{.median = *ratio,
                               .rounds = count_at(record, "case.speedup.rounds").value_or(0),
                               .low = number_at(record, "case.speedup.low"),
                               .high = number_at(record, "case.speedup.high")};
  }
  read.recall = number_at(record, "case.quality.recall.mean");
  read.worst_recall = number_at(record, "case.quality.recall.worst");
  read.worst_row = count_at(record, "case.quality.recall.worst_row");
  read.attention_mass = number_at(record, "case.quality.attention_mass");
  if (const Json* one = find_value(record, "case")) {
    read.flops = sum_of_stages(*one, "flops");
    read.bytes = sum_of_stages(*one, "bytes");
  }
  read.loaded = truth_at(record, "measurement.contention.loaded").value_or(false);
  return read;
}

/// Texts in the order in which they first occur.
template <class Text>
std::vector<std::string> distinct_texts(const std::vector<const SweepCase*>& cases, const Text& text) {
  std::vector<std::string> texts;
  for (const SweepCase* one : cases) {
    if (std::find(texts.begin(), texts.end(), text(*one)) == texts.end()) texts.push_back(text(*one));
  }
  return texts;
}

using Series = std::vector<const SweepCase*>;

/// Two series, at the lengths where both were measured in the same rounds.
SweepCrossover compare_series(const Series& of, const Series& over) {
  SweepCrossover found{.setting = of.front()->setting,
                       .model = of.front()->model,
                       .backend = of.front()->backend,
                       .of = of.front()->name,
                       .over = over.front()->name,
                       .crossover = {}};
  std::vector<LengthTimes> times;
  for (const SweepCase* a : of) {
    for (const SweepCase* b : over) {
      if (a->group != b->group || a->seconds.empty() || b->seconds.empty()) continue;
      times.push_back({a->context, a->seconds, b->seconds});
      found.loaded = found.loaded || a->loaded;
    }
  }
  found.crossover = find_crossover(times);
  return found;
}

void add_crossovers(SweepReport& report) {
  std::vector<const SweepCase*> all;
  for (const SweepCase& one : report.cases) all.push_back(&one);
  for (const std::string& setting : distinct_texts(all, [](const SweepCase& one) { return one.setting; })) {
    Series in_setting;
    std::copy_if(all.begin(), all.end(), std::back_inserter(in_setting),
                 [&](const SweepCase* one) { return one->setting == setting; });
    std::vector<Series> others, references;
    for (const std::string& name : distinct_texts(in_setting, [](const SweepCase& one) { return one.series; })) {
      Series series;
      std::copy_if(in_setting.begin(), in_setting.end(), std::back_inserter(series),
                   [&](const SweepCase* one) { return one->series == name; });
      (series.front()->reference ? references : others).push_back(std::move(series));
    }
    for (const Series& of : others) {
      for (const Series& over : references) report.crossovers.push_back(compare_series(of, over));
    }
    for (std::size_t i = 0; i < others.size(); ++i) {
      for (std::size_t j = 0; j < i; ++j) report.crossovers.push_back(compare_series(others[i], others[j]));
    }
  }
}

struct Cost {
  std::string_view name;
  double (*of)(const SweepCase&);
};
constexpr std::array kCosts{
    Cost{"time", [](const SweepCase& one) { return one.median ? std::round(*one.median * 1e9) : kNan; }},
    Cost{"flops", [](const SweepCase& one) { return one.flops.value_or(kNan); }},
    Cost{"bytes", [](const SweepCase& one) { return one.bytes.value_or(kNan); }},
};
constexpr std::array kQualities{
    Cost{"recall", [](const SweepCase& one) { return one.recall.value_or(kNan); }},
    Cost{"attention_mass", [](const SweepCase& one) { return one.attention_mass.value_or(kNan); }},
};

void add_fronts(SweepReport& report) {
  std::map<i64, std::vector<const SweepCase*>> groups;
  for (const SweepCase& one : report.cases) groups[one.group].push_back(&one);
  for (const auto& [number, cases] : groups) {
    for (const Cost& quality : kQualities) {
      for (const Cost& cost : kCosts) {
        SweepFront front{.setting = cases.front()->setting,
                         .model = cases.front()->model,
                         .backend = cases.front()->backend,
                         .context = cases.front()->context,
                         .quality = std::string(quality.name),
                         .cost = std::string(cost.name),
                         .points = {}};
        std::vector<Offer> offers;
        for (const SweepCase* one : cases) {
          const Offer offer{cost.of(*one), quality.of(*one)};
          if (!std::isfinite(offer.cost) || !std::isfinite(offer.quality)) continue;
          offers.push_back(offer);
          front.points.push_back({one->key, one->name, offer.cost, offer.quality, false});
        }
        const std::vector<bool> best = pareto_front(offers);
        for (std::size_t i = 0; i < best.size(); ++i) front.points[i].on_front = best[i];
        if (!front.points.empty()) report.fronts.push_back(std::move(front));
      }
    }
  }
}

std::string_view verdict_of(const PairedRatio& ratio) { return speedup_verdict_name(speedup_verdict(ratio)); }

Json crossover_json(const SweepCrossover& one) {
  const Crossover& found = one.crossover;
  Json json{{"setting", one.setting},
            {"model", one.model},
            {"backend", one.backend},
            {"of", one.of},
            {"over", one.over},
            {"verdict", crossover_verdict_name(found.verdict)},
            {"context", found.context ? Json(static_cast<i64>(std::llround(*found.context))) : Json()},
            {"low", or_null(found.low)},
            {"high", or_null(found.high)}};
  if (found.verdict == CrossoverVerdict::crossover) json["faster"] = found.rising ? "above" : "below";
  if (!found.reason.empty()) json["reason"] = found.reason;
  json["confidence"] = found.confidence;
  json["loaded"] = one.loaded;
  json["ratios"] = array_of(found.ratios, [](const LengthRatio& at) {
    Json ratio{{"context", at.context}};
    put(ratio, "ratio", at.ratio.median);
    put(ratio, "low", at.ratio.low, "too few rounds");
    put(ratio, "high", at.ratio.high, "too few rounds");
    ratio["rounds"] = at.ratio.rounds;
    ratio["verdict"] = verdict_of(at.ratio);
    return ratio;
  });
  return json;
}

Json front_json(const SweepFront& front) {
  return {{"setting", front.setting},
          {"model", front.model},
          {"backend", front.backend},
          {"context", front.context},
          {"quality", front.quality},
          {"cost", front.cost},
          {"points", array_of(front.points, [](const FrontPoint& point) {
             return Json{{"key", point.key},
                         {"name", point.name},
                         {"cost", point.cost},
                         {"quality", point.quality},
                         {"on_front", point.on_front}};
           })}};
}

}  // namespace

Json sweep_document(const Json& header, const std::vector<Json>& cases, const std::vector<Json>& skipped,
                    const Json& warnings, bool complete) {
  Json document = header;
  document["cases"] = Json(cases);
  document["skipped"] = Json(skipped);
  document["warnings"] = warnings;
  document["complete"] = complete;
  return document;
}

SweepReport make_sweep_report(const Json& document, const std::string& path) {
  SweepReport report;
  // What this process made is read as what a file holds: counts are of one type, text is well formed.
  const ResultFile file{.path = path, .kind = ResultKind::sweep, .document = Json::parse(text_of(document, -1))};
  std::vector<Json> records = need_array(file, file.document, "cases").get<std::vector<Json>>();
  std::stable_sort(records.begin(), records.end(), [](const Json& a, const Json& b) {
    return count_at(a, "group").value_or(0) < count_at(b, "group").value_or(0);
  });
  for (std::size_t i = 0; i < records.size(); ++i) {
    report.cases.push_back(read_case(file, records[i], "cases[" + std::to_string(i) + "]"));
  }
  // A part has too few lengths to say anything about those between.
  if (count_at(file.document, "shard.count").value_or(1) == 1) add_crossovers(report);
  add_fronts(report);
  constexpr std::array<std::string_view, 6> kOfEnd{"cases", "crossovers", "fronts", "skipped", "warnings", "complete"};
  for (const auto& [key, value] : file.document.items()) {
    if (std::find(kOfEnd.begin(), kOfEnd.end(), key) == kOfEnd.end()) report.document[key] = value;
  }
  report.document["cases"] = Json(std::move(records));
  report.document["crossovers"] = array_of(report.crossovers, crossover_json);
  report.document["fronts"] = array_of(report.fronts, front_json);
  report.document["skipped"] = array_at(file.document, "skipped");
  report.document["warnings"] = array_at(file.document, "warnings");
  report.document["complete"] = truth_at(file.document, "complete").value_or(false);
  return report;
}

}  // namespace misa
