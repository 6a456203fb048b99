#pragma once

#include "backends/plugin/misa_kernel.h"
#include "core/indexer/backend.hpp"
#include "core/indexer/problem.hpp"

// Tasks as kernels behind misa_kernel.h are given them. They hold the pointers of the task they are made of.

namespace misa::plugin {

/// Whether the header has these elements: INT8 and MXFP4 it has not, and tasks of them stay with the base backend.
bool has_dtype(Dtype dtype);
bool has_values(const Queries& queries, const KeyCache& keys);

misa_score_task task_of(const ScoreTask& task);
misa_select_task task_of(const SelectTask& task);
/// Keys are none where the router reads none.
misa_route_task task_of(const RankTask& task);

/// Numbers are those asked for: there may be fewer heads, blocks or tokens.
misa_index_plan plan_of(const IndexerSpec& spec, const Problem& problem);
misa_index_task task_of(const IndexerSpec& spec, const Problem& problem, const View<i32, 2>& selected);

}  // namespace misa::plugin
