#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "core/agreement/agreement.hpp"
#include "core/agreement/exact_reference.hpp"

namespace misa {

/// Mistakes that indexers make, to be made on purpose: a comparison that does not see them is worth nothing.
enum class Mistake : u8 {
  swapped_token,      ///< the best token of a row left out for its worst
  duplicate_token,    ///< a token twice
  truncated_row,      ///< a token too few
  dropped_candidate,  ///< the best candidate lost before the re-rank
  dropped_block,      ///< the last block, which is always kept, left out for another
  wrong_head,         ///< the strongest head routed away for the weakest
  stale_linear,       ///< a linear head is another row's
  off_by_one_page,    ///< a sequence's block table read one entry further on
  stale_scale,        ///< a token's scale is another's
  nan_score,          ///< a score is NaN
  off_by_one_scale,   ///< the scale of an MXFP4 block is a power of two too large
  token_window,       ///< a window counts tokens where a key is an entry of several
  dropped_forced,     ///< a forced token left out for the best of the others that is not selected
};

struct MistakeInfo {
  Mistake mistake;
  std::string_view name, what;
  std::string_view indexer;  ///< that can make it; empty: every one
  bool paged = false;        ///< needs pages
  Choice shows_in = Choice::tokens;
  Verdict verdict = Verdict::miss;
  std::optional<Fault> fault = {};  ///< with verdict violation
  bool mxfp4 = false;               ///< needs MXFP4 keys
  bool entries = false;             ///< needs keys that are entries of several tokens
};
std::span<const MistakeInfo> mistakes();
std::optional<MistakeInfo> find_mistake(std::string_view name);

/// Runs `spec` and makes one mistake in the row that sees most. Nothing when this workload or indexer gives no occasion
/// for it.
std::optional<Selection> run_with_mistake(Mistake mistake, Backend& backend, const IndexerSpec& spec,
                                          ExactReference& reference, const PlanOptions& options = {});

/// What gives `spec` an occasion for a mistake that it found none for on `workload`.
std::string occasion_for(const MistakeInfo& info, const IndexerSpec& spec, const Workload& workload);

}  // namespace misa
