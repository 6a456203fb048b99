#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/report/write.hpp"

namespace misa {

/// How one fact of a machine bears on measurements.
enum class Health { ok, warning, problem, unknown };
constexpr std::string_view health_name(Health health) {
  constexpr std::string_view kNames[] = {"ok", "warning", "problem", "not known"};
  return kNames[static_cast<int>(health)];
}

struct DoctorCheck {
  std::string group, name, found;
  Health health = Health::ok;
  std::string why = {};  ///< what it does to measurements; may be empty
  std::string fix = {};  ///< a command or a setting; may be empty
};

struct DoctorReport {
  std::string tool_version;
  std::vector<std::string> command_line;
  std::vector<std::pair<std::string, std::string>> fingerprints;  ///< backend, fingerprint of results on it
  std::vector<DoctorCheck> checks;
};

/// "table" or "json".
std::string write_report(const DoctorReport& report, std::string_view format, const WriterOptions& options = {});

}  // namespace misa
