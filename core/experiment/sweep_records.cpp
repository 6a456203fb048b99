#include "core/experiment/sweep_records.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>

#include "core/base/decimal.hpp"
#include "core/base/mix.hpp"
#include "core/platform/file.hpp"
#include "core/report/labels.hpp"

namespace misa {
namespace {

Json value_json(const std::string& axis, const std::string& value) {
  if (!axis_info(axis).counts) return value;
  const std::optional<u64> count = whole_number_of(value);
  return count ? Json(*count) : Json(value);
}

/// The coordinates, and where no axis says the context, the longest that a row sees.
Json coordinates_json(const Coordinates& coordinates, const Report& report) {
  Json json = Json::object();
  for (const auto& [axis, value] : coordinates) json[axis] = value_json(axis, value);
  if (!json.contains("context")) json["context"] = report.workload.context.maximum;
  if (!json.contains("model")) json["model"] = report.workload.model;
  if (!json.contains("workload")) json["workload"] = report.workload.name;
  return json;
}

}  // namespace

Json axes_json(const std::vector<SweepAxis>& axes) {
  return array_of(axes, [](const SweepAxis& axis) {
    return Json{
        {"name", axis.name},
        {"values", array_of(axis.values, [&](const std::string& value) { return value_json(axis.name, value); })}};
  });
}

Json planned_json(const SweepPlan& plan) {
  return array_of(plan.groups, [](const PlannedGroup& group) {
    return array_of(group.cases, [](const PlannedCase& one) { return Json(one.key); });
  });
}

Json skip_json(const std::string& key, const std::string& indexer, const std::string& backend,
               const std::string& reason) {
  return {{"key", key}, {"indexer", indexer}, {"backend", backend}, {"reason", reason}};
}

std::vector<Json> skip_records(const PlannedGroup& group, const std::string& reason) {
  std::vector<Json> skipped;
  for (const PlannedCase& one : group.cases) {
    skipped.push_back(skip_json(one.key, one.spec.name, value_at(group.coordinates, "backend"), reason));
  }
  return skipped;
}

std::vector<Json> case_records(const PlannedGroup& group, const Report& report) {
  std::vector<Json> records;
  Json skipped = Json::array();
  std::size_t ran = 0, refused = 0;  // both in the order of the group's cases
  for (const PlannedCase& one : group.cases) {
    if (ran < report.cases.size() && spec_text(report.cases[ran].spec) == spec_text(one.spec)) {
      const ReportCase& measured = report.cases[ran++];
      records.push_back({{"key", one.key},
                         {"name", one.name},
                         {"axes", coordinates_json(one.coordinates, report)},
                         {"group", group.number},
                         {"setting", one.setting},
                         {"series", one.series},
                         {"points", one.points},
                         {"workload", workload_json(report.workload)},
                         {"case", case_json(measured)}});
      continue;
    }
    const bool told = refused < report.skipped.size() && report.skipped[refused].indexer == one.spec.name;
    skipped.push_back(skip_json(one.key, one.spec.name, value_at(group.coordinates, "backend"),
                                told ? report.skipped[refused].reason : "it was not measured"));
    refused += told ? 1 : 0;
  }
  for (Json& record : records) {
    record["measurement"] = measurement_json(report.measurement);
    record["warnings"] = warnings_json(report.warnings);
    record["skipped"] = skipped;
  }
  return records;
}

std::string file_hash(const std::string& path) {
  constexpr i64 kPiece = 1 << 20;
  const InputFile file(path);
  std::vector<u64> piece(kPiece / 8);
  u64 hash = mix64(static_cast<u64>(file.size()));
  for (i64 at = 0; at < file.size(); at += kPiece) {
    std::fill(piece.begin(), piece.end(), 0);
    file.read(reinterpret_cast<std::byte*>(piece.data()), at, std::min(kPiece, file.size() - at));
    for (const u64 word : piece) hash = mix64(hash ^ (word + kGolden));
  }
  return fmt::format("{:016x}", hash);
}

}  // namespace misa
