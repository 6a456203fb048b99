#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/report/report.hpp"

// What the JSON writers share. Text is repaired UTF-8; a key "x" that is null may be followed by a key "x_reason".
namespace misa {

using Json = nlohmann::ordered_json;

void put(Json& object, const std::string& key, std::string_view text);
void put(Json& object, const std::string& key, const std::string& text);
void put(Json& object, const std::string& key, const std::optional<std::string>& text);
void put(Json& object, const std::string& key, std::optional<i64> value);
/// JSON has no NaN and no infinity: null, and why.
void put(Json& object, const std::string& key, double value);
void put(Json& object, const std::string& key, std::optional<double> value, std::string_view reason);
void put_null(Json& object, const std::string& key, std::string_view reason);
/// Whole nanoseconds.
void put_ns(Json& object, const std::string& key, double seconds);

/// "$schema" to "command_line": what every document begins with.
void put_identity(Json& json, std::string_view schema_file, std::string_view schema, std::string_view schema_version,
                  const std::string& tool_version, const std::vector<std::string>& command_line);
Json environment_json(const ReportEnvironment& environment);
Json workload_json(const ReportWorkload& workload);
Json parameters_json(const ReportParameters& parameters);
Json parameters_json(const IndexerSpec& spec);
Json quality_json(const Quality& quality);
Json warnings_json(const std::vector<Warning>& warnings);

}  // namespace misa
