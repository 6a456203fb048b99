#pragma once

#include "core/indexer/backend.hpp"

/// The tables of the cpu backend's kernels, a file for each primitive. Kernels take the size of the team.
namespace misa::cpu {

std::span<const Kernel<PoolTask, int>> pool_kernels();
std::span<const Kernel<RankTask, int>> rank_kernels();
std::span<const Kernel<GatherTask, int>> gather_kernels();
std::span<const Kernel<ScoreTask, int>> score_kernels();
std::span<const Kernel<SelectTask, int>> select_kernels();

/// The memory whose reading is timed: more than caches hold.
constexpr i64 kRoofBytes = 192 << 20;

/// Peaks of the matrix product of tiles, in bf16 too where the processor has a unit for it; read bandwidth of memory,
/// cost of an empty parallel region.
Roofs measure_roofs(int threads);

}  // namespace misa::cpu
