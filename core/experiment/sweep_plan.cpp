#include "core/experiment/sweep_plan.hpp"

#include <algorithm>
#include <cstddef>
#include <map>
#include <optional>
#include <set>

#include "core/base/decimal.hpp"
#include "core/base/error.hpp"
#include "core/report/labels.hpp"

namespace misa {
namespace {

/// The coordinates whose axis passes `keeps`.
template <class Keeps>
Coordinates kept(const Coordinates& coordinates, const Keeps& keeps) {
  Coordinates left;
  std::copy_if(coordinates.begin(), coordinates.end(), std::back_inserter(left),
               [&](const auto& one) { return keeps(one.first); });
  return left;
}

/// The numbers of an indexer contradict each other: too few candidates, too few heads or another router for a linear
/// head. Among all combinations of axes there may be such.
bool contradicts(const Error& error) {
  return error.id() == "MP-E028" || error.id() == "MP-E045" || error.id() == "MP-E046";
}

bool is_of_group(const std::string& axis) { return axis_info(axis).affects == nullptr; }

class Planner {
 public:
  Planner(SweepPlan& plan, const std::function<IndexerSpec(const Coordinates&)>& spec_of)
      : plan_(plan), spec_of_(spec_of), walks_{"context"} {
    for (const std::vector<std::string>& zip : plan.zips) {
      if (std::find(zip.begin(), zip.end(), "context") != zip.end()) walks_.insert(zip.begin(), zip.end());
    }
  }

  void add(const Coordinates& point) {
    const Coordinates of_group = kept(point, is_of_group);
    PlannedGroup& group = group_of(of_group);
    if (group.cases.empty()) add_case(group, reference_of(point), 0);
    try {
      add_case(group, point, 1);
    } catch (const Error& error) {
      if (!contradicts(error)) throw;
      refusal_ = error;
      plan_.skipped.push_back({coordinates_text(point), error.what()});
    }
  }

  void finish() {
    if (refusal_ && static_cast<i64>(plan_.skipped.size()) == plan_.points) throw Error(*refusal_);
    name_cases();
  }

 private:
  PlannedGroup& group_of(const Coordinates& coordinates) {
    const std::string key = coordinates_text(coordinates);
    const auto [found, is_new] = groups_.emplace(key, plan_.groups.size());
    if (is_new) {
      plan_.groups.push_back({static_cast<i64>(plan_.groups.size()), key, coordinates, {}});
    }
    return plan_.groups[found->second];
  }

  /// The point of dsa beside another point. No axis of parameters affects it.
  static Coordinates reference_of(Coordinates point) {
    for (auto& [axis, value] : point) {
      if (axis == "indexer") value = "dsa";
    }
    return point;
  }

  void add_case(PlannedGroup& group, const Coordinates& point, i64 points) {
    IndexerSpec spec = spec_of_(point);
    Coordinates coordinates = kept(point, [&](const std::string& axis) {
      const AxisInfo& info = axis_info(axis);
      return info.affects == nullptr || info.affects(spec);
    });
    const std::string key = coordinates_text(coordinates);
    for (PlannedCase& one : group.cases) {
      if (one.key != key) continue;
      one.points += points;
      return;
    }
    const auto stands = [&](const std::string& axis) { return walks_.find(axis) == walks_.end(); };
    const Coordinates series = kept(coordinates, stands);
    group.cases.push_back({.key = key,
                           .name = {},
                           .setting = coordinates_text(kept(series, is_of_group)),
                           .series = coordinates_text(series),
                           .coordinates = std::move(coordinates),
                           .spec = std::move(spec),
                           .points = points});
  }

  /// A series has one name, in which the numbers that the context brings along have no part.
  void name_cases() {
    std::map<std::string, std::string> names;
    for (PlannedGroup& group : plan_.groups) {
      std::vector<IndexerSpec> specs;
      for (const PlannedCase& one : group.cases) specs.push_back(one.spec);
      const std::vector<std::string> labels = spec_labels(specs);
      for (std::size_t i = 0; i < labels.size(); ++i) {
        PlannedCase& one = group.cases[i];
        one.name = names.emplace(one.series, labels[i]).first->second;
      }
    }
  }

  SweepPlan& plan_;
  const std::function<IndexerSpec(const Coordinates&)>& spec_of_;
  std::set<std::string, std::less<>> walks_;  ///< the context, and the axes that are zipped with it
  std::map<std::string, std::size_t> groups_;
  std::optional<Error> refusal_;
};

}  // namespace

i64 SweepPlan::cases() const {
  i64 count = 0;
  for (const PlannedGroup& group : groups) count += static_cast<i64>(group.cases.size());
  return count;
}

SweepPlan plan_sweep(std::vector<SweepAxis> axes, std::vector<std::vector<std::string>> zips,
                     const std::function<IndexerSpec(const Coordinates&)>& spec_of) {
  SweepPlan plan{.axes = std::move(axes), .zips = std::move(zips)};
  const std::vector<Coordinates> points = sweep_points(plan.axes, plan.zips);
  plan.points = static_cast<i64>(points.size());
  Planner planner(plan, spec_of);
  for (const Coordinates& point : points) planner.add(point);
  planner.finish();
  return plan;
}

Shard parse_shard(const std::string& text) {
  const std::size_t slash = std::min(text.find('/'), text.size());
  const std::optional<u64> index = whole_number_of(std::string_view(text).substr(0, slash));
  const std::optional<u64> count =
      slash < text.size() ? whole_number_of(std::string_view(text).substr(slash + 1)) : std::nullopt;
  if (!index || !count || *index < 1 || *index > *count || *count > 1000000) {
    throw Error(ErrorKind::usage, "MP-E465", "--shard is '" + text + "'", {}, "1/4, the first of four parts");
  }
  return {static_cast<i64>(*index), static_cast<i64>(*count)};
}

}  // namespace misa
