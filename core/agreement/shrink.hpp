#pragma once

#include <functional>

#include "core/workload/workload.hpp"

namespace misa {

/// The smallest part of `workload` found for which `fails` still holds: fewer rows (paged: sequences), shorter windows,
/// fewer heads, each halved while that keeps the failure, then one by one. `fails` must hold for `workload`; asked at
/// most `tries` times. A part for which `fails` throws Error does not count as failing.
Workload shrink(const Workload& workload, const std::function<bool(const Workload&)>& fails, i64 tries = 300);

}  // namespace misa
