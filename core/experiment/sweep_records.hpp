#pragma once

#include <string>
#include <vector>

#include "core/experiment/sweep_plan.hpp"
#include "core/report/json_parts.hpp"
#include "core/report/report.hpp"

// What a sweep writes: docs/sweep.md and docs/schema/sweep-1.0.schema.json.

namespace misa {

/// {"name", "values"} of each axis; counts are numbers.
Json axes_json(const std::vector<SweepAxis>& axes);
/// The keys of all cases, group by group, by which a reader knows what is missing.
Json planned_json(const SweepPlan& plan);

/// The records of a group that was measured, one for each of its cases that ran. All of a group's records also have its
/// measurement, warnings and the cases that were skipped, so that no other record is needed to go on after it.
std::vector<Json> case_records(const PlannedGroup& group, const Report& report);

/// {"key", "indexer", "backend", "reason"}
Json skip_json(const std::string& key, const std::string& indexer, const std::string& backend,
               const std::string& reason);

/// Skips of a whole group.
std::vector<Json> skip_records(const PlannedGroup& group, const std::string& reason);

/// 16 hexadecimal digits that depend on every byte of a file. Not cryptographic. Source: ours (splitmix64 chain).
std::string file_hash(const std::string& path);

}  // namespace misa
