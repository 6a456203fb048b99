#pragma once

#include <algorithm>
#include <span>
#include <vector>

#include "core/agreement/agreement.hpp"
#include "core/agreement/exact_reference.hpp"

namespace misa {

/// What one row of one side could choose from.
struct Offer {
  i64 limit = 0;              ///< ids lie in [0, limit)
  i64 count = 0;              ///< how many of them are on offer
  i64 wanted = 0;             ///< how many must be chosen
  i64 run = 1;                ///< ids of `from` name this many ids each
  i64 shift = 0;              ///< the first id of run 0
  std::span<const i32> from;  ///< ascending; empty: all are on offer
  bool limited = false;       ///< only what `from` names is on offer
  std::vector<i32> forced;    ///< tokens that must be chosen whatever they score

  bool holds(i64 id) const {
    if (!limited) return true;
    const i64 at = id - shift;
    return at >= 0 && std::binary_search(from.begin(), from.end(), static_cast<i32>(at / run));
  }
};

/// What row m of `side` could choose from at `choice`, which is not `linear`, on what it had chosen before.
Offer offer_of(ExactReference& reference, const IndexerSpec& spec, const Selection& side, Choice choice, i64 m);

/// What of Offer::forced is not among `chosen`, ascending.
std::vector<i32> missing_forced(const Offer& offered, std::span<const i32> chosen);

/// The ways in which row m of `side` is no selection of what was on offer, by column. Empty: it is one.
std::vector<Violation> violations_of(const Problem& problem, const Selection& side, Choice choice, i64 m,
                                     const Offer& offered);

}  // namespace misa
