#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/agreement/agreement.hpp"
#include "core/agreement/exact_reference.hpp"
#include "core/quality/quality.hpp"
#include "core/selection/id_kind.hpp"

// A selection that came with the workload, recorded (`topk`) or from a file: rated and judged as one that a backend
// made.

namespace misa {

/// A recorded selection in the order that backends give theirs.
struct RecordedTopK {
  i64 k = 0;                             ///< tokens that each row keeps
  std::vector<i32> rows;                 ///< rows of the workload that have one
  HostTensor tokens;                     ///< [M, k] i32 ascending, -1 pads last; only pads where nothing is recorded
  std::optional<Arithmetic> arithmetic;  ///< what `topk_arithmetic` of the metadata names; nothing: it names none
  const HostTensor* given = nullptr;     ///< [R, ...] the ids as they came; they outlive this
  IdKind ids = IdKind::token;            ///< what they count
  /// Ids that are no tokens which their row sees, or are repeated, by row; their side has no name yet.
  std::vector<Violation> violations;
  i64 padded = 0;  ///< rows that see fewer than k tokens, hold all of them, and name others besides
};

/// Why a recorded selection is neither rated nor judged.
constexpr const char* kNoRecordedRow = "no row with a recorded selection sees a token";

/// The workload's `topk`; nothing when it has none. Ids may be in any order, with pads anywhere. A row that sees fewer
/// than k tokens and holds all of them may name others too: torch.topk has to fill its row, and attention masks them.
/// `k`: tokens that each row keeps; nothing: the columns. Error(usage) MP-E061: a row holds more.
std::optional<RecordedTopK> recorded_topk(const Workload& workload, IdKind ids = IdKind::token,
                                          std::optional<i64> k = std::nullopt);

/// Ids [R, ...] that came otherwise, of the rows `rows`, of which each keeps `k`; as above, without an arithmetic.
RecordedTopK topk_of(const Workload& workload, const HostTensor& given, std::vector<i32> rows, IdKind ids, i64 k);

/// How much of a selection of as many tokens, `reference` [M, k] of the indexer `name`, which had to keep the `forced`
/// ones, the recorded one keeps: recall and IoU over the rows that have one. Attention mass and needles are not rated.
Quality rate_recorded(const Workload& workload, const RecordedTopK& recorded, std::span<const i32> reference,
                      std::string_view name = "dsa", const Forced& forced = {});

/// Judges every recorded row against `exact`, what the formulas of `spec` select; `name` is the recorded side's. The
/// choices that come before tokens are those of `exact`. Without an arithmetic a row is exact, tie_swap or, if any
/// token differs in its exact score, unknown. Rows that see nothing are not compared.
Agreement judge_recorded(ExactReference& exact_reference, const RecordedTopK& recorded, const IndexerSpec& spec,
                         const Selection& exact, const std::string& name);

}  // namespace misa
