#pragma once

#include <span>

#include "core/workload/workload.hpp"

namespace misa {

/// Part of a workload: the rows and heads named, in that order, each row's window cut to its first `window` tokens, and
/// only the keys that are then seen. Paged rows go by sequence: all of a sequence's rows are named, or none. What
/// belongs to whole rows or windows (attention mass, needles, recorded selections) is left behind.
Workload take(const Workload& workload, std::span<const i64> rows, std::span<const i64> heads, i64 window);

/// A copy of everything.
Workload copy_of(const Workload& workload);

}  // namespace misa
