#pragma once

#include <algorithm>

#include "core/base/types.hpp"

namespace misa {

/// What of a row is selected before all scores: its `first` first visible columns and its `last` last ones.
///
/// A selection of k among n visible columns holds all of them where n <= k. Else it holds the first min(first, k), then
/// the last min(last, k - those), and, in the places that are left, the best of the other columns by their scores. So
/// no column is forced twice, the last ones are the first to give way, and a forced column counts whatever it scores,
/// NaN included. Source: ours; {1, 1} are the blocks of HISA (arXiv:2603.28458), and LongCat-2.0 forces tokens
/// (index_init_tokens, index_local_tokens).
struct Forced {
  i64 first = 0, last = 0;

  constexpr bool any() const { return first > 0 || last > 0; }
  constexpr i64 count() const { return first + last; }
  /// What of them is selected among more than k columns.
  constexpr Forced within(i64 k) const {
    const i64 begin = std::min(first, k);
    return {begin, std::min(last, k - begin)};
  }
  friend constexpr bool operator==(const Forced&, const Forced&) = default;
};

}  // namespace misa
