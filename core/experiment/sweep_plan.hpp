#pragma once

#include <functional>
#include <string>
#include <vector>

#include "core/experiment/sweep_axes.hpp"

namespace misa {

/// An indexer with its parameters on one workload and backend. Axes that do not affect the indexer are left out.
struct PlannedCase {
  std::string key;      ///< its coordinates as text
  std::string name;     ///< told apart from the others of a group: "misa h 8"
  std::string setting;  ///< coordinates of the workload and the backend but the context and what is zipped with it
  std::string series;   ///< the same of the case: equal in cases that differ in their context alone
  Coordinates coordinates;
  IndexerSpec spec;
  i64 points = 0;  ///< of the axes that amount to it; 0: dsa where no axis asks for it
};

/// Cases of one workload and backend, which are measured side by side in the same rounds. The first is dsa.
struct PlannedGroup {
  i64 number = 0;
  std::string key;
  Coordinates coordinates;
  std::vector<PlannedCase> cases;
};

/// A point that is no case: its parameters contradict each other.
struct SkippedPoint {
  std::string key, reason;
};

struct SweepPlan {
  std::vector<SweepAxis> axes;
  std::vector<std::vector<std::string>> zips;
  std::vector<PlannedGroup> groups = {};
  std::vector<SkippedPoint> skipped = {};
  i64 points = 0;  ///< combinations of the axes

  i64 cases() const;
};

/// Makes the cases of all points. `spec_of` gives the indexer that the coordinates of a point name; a point whose
/// numbers contradict each other (MP-E028, MP-E045, MP-E046) is skipped with that reason, or ends the plan where there
/// is no other. Points that differ only in axes which do not affect their indexer are one case.
SweepPlan plan_sweep(std::vector<SweepAxis> axes, std::vector<std::vector<std::string>> zips,
                     const std::function<IndexerSpec(const Coordinates&)>& spec_of);

/// Part `index` of `count`, counted from 1: every group belongs to one part.
struct Shard {
  i64 index = 1, count = 1;
  bool has(const PlannedGroup& group) const { return group.number % count == index - 1; }
};
/// "2/4". Error(usage) MP-E465 for other text.
Shard parse_shard(const std::string& text);

}  // namespace misa
