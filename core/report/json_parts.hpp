#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/report/report.hpp"

// What the JSON writers share. A key "x" that is null may be followed by a key "x_reason".
namespace misa {

using Json = nlohmann::ordered_json;

/// JSON has no NaN and no infinity: null, and why.
void put(Json& object, const std::string& key, double value);
void put(Json& object, const std::string& key, std::optional<double> value, std::string_view reason);
/// A value that may be null.
void put(Json& object, const std::string& key, Json value, std::string_view reason);
/// Whole nanoseconds, or null.
void put_ns(Json& object, const std::string& key, std::optional<double> seconds);

/// Null where nothing is held. Not for numbers that may not be finite.
template <class T>
Json or_null(const std::optional<T>& value) {
  return value ? Json(*value) : Json();
}

/// An array of what `make` makes of each item.
template <class Items, class Make>
Json array_of(const Items& items, const Make& make) {
  Json array = Json::array();
  for (const auto& item : items) array.push_back(make(item));
  return array;
}

/// The document as text, in which invalid UTF-8 is U+FFFD; -1: on one line.
std::string text_of(const Json& json, int indent);

/// "$schema" to "command_line": what every document begins with.
Json identity_json(std::string_view schema_file, std::string_view schema, std::string_view schema_version,
                   const std::string& tool_version, const std::vector<std::string>& command_line);
Json environment_json(const ReportEnvironment& environment);
Json workload_json(const ReportWorkload& workload);
Json case_json(const ReportCase& one);
Json measurement_json(const ReportMeasurement& measurement);
Json parameters_json(const ReportParameters& parameters);
Json quality_json(const Quality& quality);
Json warnings_json(const std::vector<Warning>& warnings);

}  // namespace misa
