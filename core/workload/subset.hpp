#pragma once

#include <span>

#include "core/workload/workload.hpp"

namespace misa {

/// A copy of everything.
Workload copy_of(const Workload& workload);

/// Part of a workload: the rows and heads named, in that order, each row's window cut to its first `window` tokens, and
/// only the keys that are then seen. Paged rows go by sequence: all of a sequence's rows are named, or none. Drops what
/// belongs to whole rows or windows (attention mass, needles, recorded selections).
Workload take(const Workload& workload, std::span<const i64> rows, std::span<const i64> heads, i64 window);

/// `count` of the workload's rows, evenly spaced, the last one always among them; keys stay. Moves what it keeps.
/// Throws Error(usage) for paged workloads, whose rows belong to sequences by their number, and when there are fewer
/// rows than `count`.
Workload keep_rows(Workload workload, i64 count);

/// Row `row` of the workload alone, with its sequence, its window and its number (first_row); keys stay. Paged rows of
/// a sequence stay together: all of row `row`'s sequence are kept. Moves what it keeps. Error(usage) MP-E450: there is
/// no such row.
Workload keep_row(Workload workload, i64 row);

/// The number of the workload's first row: `first_row` of the metadata, which keep_row writes, else 0. Reports count
/// rows from it, and so does the random router.
i64 first_row(const Workload& workload);

/// Memory that keep_rows takes beside the workload, at most.
i64 thinning_bytes(const Workload& workload, i64 count);

}  // namespace misa
