#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tests/support/primitive_tasks.hpp"

// The one table of cases of the primitives. Conformance tests judge those that are tested on every backend and kernel
// (tests/conformance/kernels_test.cpp), benchmarks time those that are timed, under the same names.

namespace misa::testing {

struct PrimitiveCase {
  Primitive primitive;
  std::string name = {};  ///< family/parameter:value/...
  bool tested = false, timed = false;
  std::function<std::unique_ptr<PlacedTask>(Backend& backend)> place = {};
};

std::vector<PrimitiveCase> primitive_cases();

/// A case of `family` that need not be in the table. Throws std::out_of_range for a family that is none.
PrimitiveCase primitive_case(std::string_view family, const std::vector<i64>& parameters);

}  // namespace misa::testing
