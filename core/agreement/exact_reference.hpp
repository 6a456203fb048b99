#pragma once

#include <map>
#include <span>
#include <vector>

#include "core/agreement/bounds.hpp"
#include "core/selection/run_selection.hpp"
#include "core/workload/placement.hpp"

namespace misa {

/// What a row could choose from, ids ascending, with the exact score of each and how far a backend's may be from it.
struct Field {
  std::vector<i32> ids;
  std::vector<double> scores, bounds;
  std::vector<i32> forced;  ///< ids that come before all others whatever they score, the first of them first
};

/// Returns the forced ones of `ids`, which ascend: every selection of `wanted` ids holds them. The first ids come
/// first, then the last ones, the very last before the others. Returns none where all ids are selected.
std::vector<i32> forced_among(std::span<const i32> ids, const Forced& forced, i64 wanted);

/// The fields of all choices of a row, each made on what the judged side had chosen before it.
struct ExactRow {
  Field heads, blocks, candidates, tokens;
  Field linear;  ///< of each dimension, the exact number before it is rounded, and its bound before it is
  const Field& operator[](Choice choice) const;
};

/// Scores rows exactly: with the formulas, in double, on the workload as it is.
class ExactReference {
 public:
  /// `exact` is the backend of the formulas; it and the workload outlive this object.
  ExactReference(Backend& exact, const Workload& workload);

  const Problem& problem() const { return placement_.problem(); }
  const Workload& workload() const { return workload_; }

  /// Row m as `side` went through it. Its choices must be well formed (core/agreement/agreement.hpp, violations).
  /// `arithmetic`: whose bounds; nothing: zeros.
  ExactRow row(const IndexerSpec& spec, const Selection& side, i64 m, const std::optional<Arithmetic>& arithmetic);

  /// Host memory of this object, and of row() for both sides and of judging what it says, at most.
  static i64 bytes_needed(const Workload& workload);
  static i64 row_bytes(const Backend& exact, const IndexerSpec& spec, const Problem& problem);

  const Bounds& bounds() const { return bounds_; }
  /// The blocks of `block_size` tokens that rows of the problem see.
  const BlockLayout& blocks(i64 block_size, BlockWindow window);

 private:
  void judge_by_samples(const RankTask& task, const HeadRouting& routing, i64 m, std::span<const i32> kept,
                        const std::optional<Arithmetic>& arithmetic, ExactRow& found);

  Backend& exact_;
  const Workload& workload_;
  Placement placement_;
  Bounds bounds_;
  std::map<std::pair<i64, BlockWindow>, BlockLayout> layouts_;
  std::map<i64, BlockLayout> samples_;
};

}  // namespace misa
