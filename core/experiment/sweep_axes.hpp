#pragma once

#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/indexer/spec.hpp"

namespace misa {

/// What may be varied in a sweep: an option of `profile`.
struct AxisInfo {
  std::string_view name;                          ///< of the option, without "--"
  bool counts = false;                            ///< values are counts, written as ranges too; else names
  bool (*affects)(const IndexerSpec&) = nullptr;  ///< null: the workload or the backend, and so every indexer
};

/// Every axis, in the order of coordinates: workload, backend, indexer, the indexer's parameters.
std::span<const AxisInfo> axis_infos();
const AxisInfo& axis_info(std::string_view name);

/// An axis with its values, each once. Counts are in digits: "4096".
struct SweepAxis {
  std::string name;
  std::vector<std::string> values;
};

/// A point of a sweep: name and value of each axis, in the order of axis_infos().
using Coordinates = std::vector<std::pair<std::string, std::string>>;
/// The value at an axis; empty: there is none.
std::string value_at(const Coordinates& coordinates, std::string_view axis);
/// "context=4096 indexer=misa"
std::string coordinates_text(const Coordinates& coordinates);

/// Every combination of the axes' values, the first axis slowest. Axes of one zip, names with commas between them, walk
/// together as one axis in the place of the first. Error(usage) MP-E462: a zip names no axis, or one twice; MP-E463:
/// its axes have other numbers of values; MP-E464: more than 100000 points.
std::vector<Coordinates> sweep_points(const std::vector<SweepAxis>& axes,
                                      const std::vector<std::vector<std::string>>& zips);

}  // namespace misa
