#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "backends/backends.hpp"

namespace misa::testing {

/// The backends that can run here, without the oracle. A test of none would pass whatever is wrong: cpu must be there.
inline std::vector<std::string> present_backends() {
  std::vector<std::string> names;
  for (const BackendInfo& info : backends()) {
    if (info.name == "oracle") continue;
    const std::optional<std::string> reason = info.why_absent(0);
    REQUIRE_MESSAGE((info.name != "cpu" || !reason), "cpu cannot run here: " << reason.value_or(""));
    if (!reason) names.emplace_back(info.name);
  }
  REQUIRE(std::count(names.begin(), names.end(), "cpu") == 1);
  return names;
}

}  // namespace misa::testing
