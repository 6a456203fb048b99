#pragma once

#include <memory>

#include "core/indexer/problem.hpp"
#include "core/indexer/spec.hpp"
#include "core/indexer/stage.hpp"

namespace misa {

struct PlanOptions {
  i64 max_bytes = 0;       ///< of problem, workspace and outputs together; 0: no limit
  i64 rows_per_chunk = 0;  ///< 0: as many as fit max_bytes and a 256 MiB workspace
  bool fusion = true;      ///< use fused kernels where the backend has them
};

/// The algorithm: decide cheaply what to score, score it, keep the best, perhaps score the best again.
///
///   pool    block-mean keys
///   route   heads: rank by energy over the block means, gather a compact query batch
///           blocks: score the block means with all heads, keep the best, first and last forced
///   score   routed or all heads x the window or the chosen blocks
///   select  the k (or, before a re-rank, k') best tokens
///   rerank  all heads x the k' candidates, keep the k best
///
/// Every indexer is this file with another IndexerSpec. Allocates in its constructor and nothing afterwards; refuses
/// with Error(runtime) naming the needed bytes before it allocates. Rows go through in chunks.
class Plan {
 public:
  Plan(Backend& backend, IndexerSpec spec, const Problem& problem, PlanOptions options = {});
  ~Plan();
  Plan(Plan&&) noexcept;
  Plan& operator=(Plan&&) = delete;
  Plan(const Plan&) = delete;
  Plan& operator=(const Plan&) = delete;

  /// Runs all rows. Spans are reported to `observer`, which may be null.
  void run(Observer* observer);

  const IndexerSpec& spec() const;
  i64 rows_per_chunk() const;
  i64 workspace_bytes() const;

  /// Backend memory, valid after run(): [M, k] tokens relative to the window's begin, ascending, -1 pads last.
  View<const i32, 2> tokens() const;
  /// [M, h] routed heads, ascending; empty without head routing.
  View<const i32, 2> heads() const;
  /// [M, m] chosen blocks relative to the row's first, ascending, -1 pads last; empty without block pruning.
  View<const i32, 2> blocks() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace misa
