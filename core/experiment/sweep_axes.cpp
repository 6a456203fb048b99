#include "core/experiment/sweep_axes.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstddef>

#include "core/base/error.hpp"
#include "core/base/suggest.hpp"
#include "core/indexer/parameters.hpp"

namespace misa {
namespace {

constexpr std::size_t kMostPoints = 100000;

bool any_indexer(const IndexerSpec& /*spec*/) { return true; }

constexpr std::array kAxes{
    AxisInfo{"trace"},
    AxisInfo{"model"},
    AxisInfo{"workload"},
    AxisInfo{"preset"},
    AxisInfo{"phase"},
    AxisInfo{"context", true},
    AxisInfo{"sequences", true},
    AxisInfo{"rows", true},
    AxisInfo{"next-n", true},
    AxisInfo{"page-size", true},
    AxisInfo{"dtype"},
    AxisInfo{"compress-ratio", true},
    AxisInfo{"top-k", true},
    AxisInfo{"backend"},
    AxisInfo{"indexer", false, any_indexer},
    AxisInfo{"router", false, routes_heads},
    AxisInfo{"active-heads", true, routes_heads},
    AxisInfo{"sampled-keys", true, samples_keys},
    AxisInfo{"candidates", true, reranks},
    AxisInfo{"block-size", true, has_blocks},
    AxisInfo{"blocks", true, prunes_blocks},
    AxisInfo{"pooling", false, pools_keys},
};

/// An axis, or several that walk together: the coordinates of each step.
using Walk = std::vector<Coordinates>;

const SweepAxis& zipped_axis(const std::vector<SweepAxis>& axes, const std::string& name) {
  if (const SweepAxis* found = find_row(axes, name)) return *found;
  std::vector<std::string_view> names;
  for (const SweepAxis& axis : axes) names.push_back(axis.name);
  throw Error(ErrorKind::usage, "MP-E462", fmt::format("--zip names '{}', which is no axis of this sweep", name), {},
              suggestion(name, names, "the names of options that have several values"));
}

Walk walk_of(const std::vector<const SweepAxis*>& together) {
  Walk walk(together.front()->values.size());
  for (const SweepAxis* axis : together) {
    if (axis->values.size() != walk.size()) {
      throw Error(ErrorKind::usage, "MP-E463",
                  fmt::format("--zip: {} has {} values and {} has {}", together.front()->name, walk.size(), axis->name,
                              axis->values.size()),
                  {}, "as many values of each, or no --zip for every combination");
    }
    for (std::size_t i = 0; i < walk.size(); ++i) walk[i].emplace_back(axis->name, axis->values[i]);
  }
  return walk;
}

void sort_coordinates(Coordinates& coordinates) {
  const auto place = [](const auto& one) { return &axis_info(one.first) - kAxes.data(); };
  std::sort(coordinates.begin(), coordinates.end(), [&](const auto& a, const auto& b) { return place(a) < place(b); });
}

}  // namespace

std::span<const AxisInfo> axis_infos() { return kAxes; }

const AxisInfo& axis_info(std::string_view name) {
  const AxisInfo* found = find_row(kAxes, name);
  if (found == nullptr) throw Error(ErrorKind::internal, "MP-E904", "no axis '" + std::string(name) + "'");
  return *found;
}

std::string value_at(const Coordinates& coordinates, std::string_view axis) {
  for (const auto& [name, value] : coordinates) {
    if (name == axis) return value;
  }
  return {};
}

std::string coordinates_text(const Coordinates& coordinates) {
  std::string text;
  for (const auto& [name, value] : coordinates) text += (text.empty() ? "" : " ") + name + "=" + value;
  return text;
}

std::vector<Coordinates> sweep_points(const std::vector<SweepAxis>& axes,
                                      const std::vector<std::vector<std::string>>& zips) {
  std::vector<std::vector<const SweepAxis*>> zipped;
  std::vector<const SweepAxis*> used;
  for (const std::vector<std::string>& names : zips) {
    zipped.emplace_back();
    for (const std::string& name : names) {
      const SweepAxis* axis = &zipped_axis(axes, name);
      if (std::find(used.begin(), used.end(), axis) != used.end()) {
        throw Error(ErrorKind::usage, "MP-E462", "--zip names '" + name + "' twice", {}, "each axis once");
      }
      used.push_back(axis);
      zipped.back().push_back(axis);
    }
  }
  std::vector<Coordinates> points{{}};
  std::vector<const SweepAxis*> walked;
  for (const SweepAxis& axis : axes) {
    if (std::find(walked.begin(), walked.end(), &axis) != walked.end()) continue;
    std::vector<const SweepAxis*> together{&axis};
    for (const auto& zip : zipped) {
      if (std::find(zip.begin(), zip.end(), &axis) != zip.end()) together = zip;
    }
    walked.insert(walked.end(), together.begin(), together.end());
    const Walk walk = walk_of(together);
    if (points.size() * walk.size() > kMostPoints) {
      throw Error(ErrorKind::usage, "MP-E464", fmt::format("the axes have more than {} combinations", kMostPoints), {},
                  "fewer values, or --zip");
    }
    std::vector<Coordinates> next;
    for (const Coordinates& point : points) {
      for (const Coordinates& step : walk) {
        next.push_back(point);
        next.back().insert(next.back().end(), step.begin(), step.end());
      }
    }
    points = std::move(next);
  }
  for (Coordinates& point : points) sort_coordinates(point);
  return points;
}

}  // namespace misa
