#pragma once

#include "core/workload/workload.hpp"

namespace misa {

/// `count` of the workload's rows, evenly spaced, the last one always among them; keys stay. Moves what it keeps.
/// Throws Error(usage) for paged workloads, whose rows belong to sequences by their number, and when there are fewer
/// rows than `count`.
Workload keep_rows(Workload workload, i64 count);

/// Memory that keep_rows takes beside the workload, at most.
i64 thinning_bytes(const Workload& workload, i64 count);

}  // namespace misa
