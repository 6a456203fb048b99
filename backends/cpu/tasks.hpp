#pragma once

#include "core/indexer/backend.hpp"

/// The cpu backend's primitives: one file each. `threads` is the size of the team.
namespace misa::cpu {

void pool(const PoolTask& task, int threads);
void route(const RouteTask& task, int threads);
void score(const ScoreTask& task, int threads);
void select(const SelectTask& task, int threads);

/// The memory whose reading is timed: more than caches hold.
constexpr i64 kRoofBytes = 192 << 20;

/// Peak of the tile GEMM, read bandwidth of memory, cost of an empty parallel region.
Roofs measure_roofs(int threads);

}  // namespace misa::cpu
