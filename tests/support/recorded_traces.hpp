#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>

#include "tests/support/skip.hpp"

namespace misa::testing {

/// The folder of recorded traces that are too large for the project: what MISA_TRACES names, else empty.
inline std::filesystem::path recorded_traces() {
  const char* folder = std::getenv("MISA_TRACES");
  return folder == nullptr ? "" : folder;
}

/// For doctest::skip. Nobody has to have these traces, so MISA_NO_SKIPS does not ask for them.
inline bool lacks_recorded_traces() {
  if (!recorded_traces().empty()) return false;
  std::cerr << "a test is skipped: MISA_TRACES names no folder of recorded traces\n";
  return true;
}

}  // namespace misa::testing
