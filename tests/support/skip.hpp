#pragma once

#include <cstdlib>
#include <iostream>

namespace misa::testing {

/// For TEST_CASE("..." * doctest::skip(lacks(...))): true, and said on standard error, where `there` is false. With
/// MISA_NO_SKIPS set, as .ci/run does, nothing is left out: the test runs and fails for want of it.
inline bool lacks(bool there, const char* what) {
  if (there || std::getenv("MISA_NO_SKIPS") != nullptr) return false;
  std::cerr << "a test is skipped: there is no " << what << '\n';
  return true;
}

}  // namespace misa::testing
