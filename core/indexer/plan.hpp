#pragma once

#include <functional>
#include <memory>
#include <optional>

#include "core/indexer/problem.hpp"
#include "core/indexer/spec.hpp"
#include "core/indexer/stage.hpp"

namespace misa {

/// What the choices of one chunk of rows were made from. Backend memory, valid until the callback returns.
struct ChunkScores {
  i64 first = 0, rows = 0;              ///< rows [first, first + rows) of the problem
  std::optional<RankGatherTask> route;  ///< how heads were routed, its outputs written; nothing: they were not
  std::optional<Logits> blocks;         ///< [rows, columns] of the block means; column 0 is the row's first block
  std::optional<Logits> tokens;         ///< [rows, columns] of the first pass; nothing where a fused kernel kept them
  std::optional<Candidates> within;     ///< the tokens of those columns; nothing: the row's window
  std::optional<Logits> candidates;     ///< [rows, k'] of the second pass
  std::optional<Candidates> listed;     ///< the tokens of those columns
};

/// Choices to go on from in place of the plan's own, which are made and kept all the same. Backend memory, as wide as
/// the plan's; empty: its own, and always so where the backend does the whole indexer by itself. So one stage can be
/// judged on what another run had chosen before it.
struct Follow {
  View<const i32, 2> heads = {}, blocks = {}, candidates = {};
  View<const float, 2> linear = {};  ///< [M, D + 1] a linear head's query and weight (GatherTask::linear)
};

struct PlanOptions {
  i64 max_bytes = 0;       ///< of problem and plan together, on the backend; 0: no limit
  i64 rows_per_chunk = 0;  ///< 0: as many as fit max_bytes and the backend's workspace, evenly
  bool fusion = true;      ///< use fused kernels, and those of whole indexers, where the backend has them
  i64 first_row = 0;       ///< number of the problem's first row: the random router counts rows
  std::function<void(const ChunkScores&)> after_chunk = {};  ///< may be empty
  bool keeps_tokens = true;  ///< false: each run is told where its tokens go, and the plan has no memory for them
};

/// The memory that a plan takes, and its primitives with it: `fixed` and, for each row of a chunk, `per_row` bytes on
/// the backend, `host` bytes beside them. Where the backend uses the host's memory, all is in the first two.
struct PlanBytes {
  i64 fixed = 0, per_row = 0, host = 0;
  i64 columns = 0;  ///< of the widest row of scores of tokens
  /// The least that will do: one row at a time.
  i64 least() const { return fixed + per_row; }
};

/// The algorithm: decide cheaply what to score, score it, keep the best, perhaps score the best again.
///
///   pool    block-mean keys
///   route   heads: rank by energy over the block means or sampled tokens, gather a compact query batch
///           blocks: score the block means with all heads, keep the best, first and last and those of forced tokens
///   score   routed or all heads x the window, the chosen blocks or what the workload brings (IndexerSpec::given)
///   select  the k (or, before a re-rank, k') best tokens, forced ones before all others
///   rerank  all heads x the k' candidates, keep the k best
///
/// Every indexer is this file with another IndexerSpec. Where the backend does a whole indexer by itself
/// (Primitives::plan_index) and fusion is on, one span covers all its stages, and heads, blocks and candidates are
/// empty. Allocates in its constructor and nothing afterwards; refuses with Error(runtime) naming the needed bytes
/// before it allocates. Rows go through in chunks.
class Plan {
 public:
  Plan(Backend& backend, const IndexerSpec& spec, const Problem& problem, PlanOptions options = {});
  ~Plan();
  Plan(Plan&&) noexcept;
  Plan& operator=(Plan&&) = delete;
  Plan(const Plan&) = delete;
  Plan& operator=(const Plan&) = delete;

  /// What a plan of `spec` takes, without making one; `after_chunk`: with PlanOptions::after_chunk.
  static PlanBytes bytes_needed(const Backend& backend, const IndexerSpec& spec, const Problem& problem,
                                bool after_chunk = false);

  /// Runs all rows. Spans are reported to `observer`, which may be null.
  void run(Observer* observer, const Follow& follow = {});
  /// Runs all rows and writes what tokens() would hold to `tokens`, [M, k] on the backend, whose rows may have a
  /// stride.
  void run_into(const View<i32, 2>& tokens);

  const IndexerSpec& spec() const;
  i64 rows_per_chunk() const;
  i64 workspace_bytes() const;

  /// Backend memory, valid after run(): [M, k] tokens relative to the window's begin, ascending, -1 pads last.
  View<const i32, 2> tokens() const;
  /// [M, h] routed heads, ascending; empty without head routing. Those of a linear head are not counted.
  View<const i32, 2> heads() const;
  /// [M, m] chosen blocks relative to the row's first, ascending, -1 pads last; empty without block pruning.
  View<const i32, 2> blocks() const;
  /// [M, k'] tokens of the first pass, as `tokens`; empty without a re-rank.
  View<const i32, 2> candidates() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace misa
