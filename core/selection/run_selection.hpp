#pragma once

#include <optional>
#include <vector>

#include "core/indexer/plan.hpp"
#include "core/selection/selection.hpp"

namespace misa {

/// Bytes of host memory for each column of a row while its scores are fetched: its score twice, and its token.
constexpr i64 kFetchedColumnBytes = 8 + 8 + 4;

/// Bytes of a selection of `spec` with scores in double, at most.
i64 selection_bytes(const IndexerSpec& spec, const Shape& shape);

/// Runs `spec` and fetches what it chose and, where no fused kernel hides them, the scores that it chose by. Choices of
/// `follow`, which replace the plan's own, are fetched as chosen.
Selection run_selection(Backend& backend, const IndexerSpec& spec, const Problem& problem, PlanOptions options = {},
                        const Follow& follow = {});

/// Tokens of row m by the columns of its scores, -1 where there is none: host memory, whatever the backend's is.
std::vector<i32> column_tokens(Backend& backend, const Problem& problem, i64 m, i64 row_of_chunk, i64 columns,
                               const std::optional<Candidates>& candidates);

/// A row of scores in host memory, as double.
std::vector<double> fetch_row(Backend& backend, const Logits& logits, i64 row);

/// What a plan has selected: [M, k] i32 in host memory, ascending, -1 pads last.
HostTensor fetch_tokens(Backend& backend, const Plan& plan);

/// [rows, columns] i32 in host memory.
HostTensor fetch_ids(Backend& backend, const View<const i32, 2>& view);

}  // namespace misa
