#pragma once

#include <optional>
#include <string>

#include "core/indexer/plan.hpp"
#include "core/tensor/host_tensor.hpp"

namespace misa {

/// What one side of a comparison chose, in host memory. Tensors that it does not have are empty.
struct Outcome {
  std::string name, description;
  std::optional<Arithmetic> arithmetic;  ///< nothing: unknown, and no difference can be explained by it
  bool exact = false;                    ///< its arithmetic is the reference: its choices need no proof

  HostTensor tokens;      ///< [M, k] i32, relative to the row's begin, ascending, -1 pads last
  HostTensor heads;       ///< [M, h] i32, ascending; those kept as they are
  HostTensor blocks;      ///< [M, m] i32, relative to the row's first block, ascending, -1 pads last
  HostTensor candidates;  ///< [M, k'] i32, as tokens
  HostTensor linear;      ///< [M, D + 1] f32: the numbers of a linear head's query as it was scored, and its weight
  HostTensor scores;      ///< [M, k] f32 or f64: the score of each token, 0 at pads
};

/// Host memory of an outcome of `spec` with scores in double, at most; and while it is taken down, of each column of a
/// row: its score twice, and its token.
constexpr i64 kFetchedColumnBytes = 8 + 8 + 4;
i64 outcome_bytes(const IndexerSpec& spec, const Shape& shape);

/// Runs `spec` and takes down what it chose and, where no fused kernel hides them, the scores it chose by.
/// What is followed in place of the plan's own choices is taken down as chosen.
Outcome run_outcome(Backend& backend, const IndexerSpec& spec, const Problem& problem, PlanOptions options = {},
                    const Follow& follow = {});

/// Row m of [M, n] values, empty of an empty tensor.
template <class T>
std::span<const T> row_of(const HostTensor& values, i64 m) {
  if (values.empty()) return {};
  const std::size_t width = static_cast<std::size_t>(values.shape[1]);
  return values.span<const T>().subspan(static_cast<std::size_t>(m) * width, width);
}

/// Entry `at` of f32 or f64 scores.
double score_at(const HostTensor& scores, i64 at);

/// Tokens of row m by the columns of its scores, -1 where there is none: host memory, whatever the backend's is.
std::vector<i32> column_tokens(Backend& backend, const Problem& problem, i64 m, i64 row_of_chunk, i64 columns,
                               const std::optional<Candidates>& candidates);

/// A row of scores in host memory, as double.
std::vector<double> fetch_row(Backend& backend, const Logits& logits, i64 row);

/// [rows, columns] i32 in host memory.
HostTensor fetch_ids(Backend& backend, const View<const i32, 2>& view);

}  // namespace misa
