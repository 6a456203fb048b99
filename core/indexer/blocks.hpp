#pragma once

#include <vector>

#include "core/indexer/problem.hpp"

namespace misa {

/// Which tokens each pooled key averages, and which pooled keys each row sees.
///
/// visible:  blocks of B tokens from the begin of the row's window on, one set of blocks per (sequence, begin);
///           a row's last block ends where the row does, so its mean is the row's own (`tail_begin`).   (ours)
/// upstream: blocks of the flat key buffer (paged: of the sequence); row m sees floor(begin/B) .. ceil(end/B), whole
///           blocks, whose means may hold tokens after the row and of other sequences.
///           Source: MISA's vLLM patch, block router.
struct BlockLayout {
  std::vector<i32> sequence, begin, end;  ///< [P] tokens that pooled key p averages
  std::vector<i32> first, last;           ///< [M] row m sees the pooled keys [first, last)
  std::vector<i32> origin;                ///< [M] token where pooled key first[m] begins
  std::vector<i32> tail_begin;            ///< [M] token where the row's last block begins; empty: whole blocks

  i64 pooled() const { return static_cast<i64>(begin.size()); }
};

BlockLayout layout_blocks(const Problem& problem, i64 block_size, BlockWindow window);

}  // namespace misa
