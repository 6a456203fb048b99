#pragma once

#include <optional>
#include <vector>

#include "core/agreement/agreement.hpp"
#include "core/agreement/exact_reference.hpp"
#include "core/quality/quality.hpp"

// The selection that a trace recorded (`topk`), rated and judged as one that a backend made.

namespace misa {

/// A recorded selection in the order that backends give theirs.
struct RecordedTopK {
  i64 k = 0;                             ///< columns: tokens that each row keeps
  std::vector<i32> rows;                 ///< rows of the workload that have one
  HostTensor tokens;                     ///< [M, k] i32 ascending, -1 pads last; only pads where nothing is recorded
  std::optional<Arithmetic> arithmetic;  ///< what `topk_arithmetic` of the metadata names; nothing: it names none
};

/// Why a recorded selection is neither rated nor judged.
constexpr const char* kNoRecordedRow = "no row with a recorded selection sees a token";

/// Nothing when the workload records none.
std::optional<RecordedTopK> recorded_topk(const Workload& workload);

/// How much of dsa's selection of as many tokens, `reference` [M, k], the recorded one keeps: recall and IoU over the
/// rows that have one. Attention mass and needles are not rated.
Quality rate_recorded(const Workload& workload, const RecordedTopK& recorded, std::span<const i32> reference);

/// The recorded selection against the formulas.
struct RecordedAgreement {
  Agreement agreement;   ///< of the one choice `tokens`
  Arithmetic judged_by;  ///< whose bounds: the stated arithmetic, or `bf16-result`
  bool assumed = false;  ///< nothing is stated
};

/// Judges every recorded row against `exact`, dsa's selection of k tokens by the formulas. A trace that does not state
/// its arithmetic is judged by the loosest that is known, `bf16-result`: a difference beyond its bounds is a miss, for
/// no stack rounds so much. Rows that see nothing are not compared.
RecordedAgreement judge_recorded(ExactReference& exact_reference, const RecordedTopK& recorded, const IndexerSpec& dsa,
                                 const Selection& exact);

}  // namespace misa
