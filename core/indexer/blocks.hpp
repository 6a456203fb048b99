#pragma once

#include <vector>

#include "core/base/mix.hpp"
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

/// The pooled keys that a step changes whose own tokens are those of the rows: those whose range holds a token end - 1
/// of a row, and that a row reads. With `tails` no row reads the last one that it sees, which a mean of its own
/// replaces. All others were pooled when their last token came. [U], ascending. (ours)
std::vector<i32> changed_keys(const BlockLayout& layout, const Problem& problem, bool tails);

/// How large a layout is, without laying it out.
struct BlockCount {
  i64 pooled = 0;   ///< pooled keys
  i64 longest = 0;  ///< most pooled keys that a row sees
  i64 stretch = 0;  ///< most tokens that are divided into blocks together
  i64 reach = 0;    ///< most tokens from a row's `origin` to its end; 0 of samples, whose tokens nobody scores in runs
};
BlockCount count_blocks(const Problem& problem, i64 block_size, BlockWindow window);
BlockCount count_samples(const Problem& problem, i64 samples);

/// Tokens that stand for all of a window, each a pooled key of its own: of n = end - begin visible tokens
///
///   begin + offset + i * stride,   i = 0, 1, ... as far as the window goes
///   stride   the least power of two with ceil(n / stride) <= 2 * samples
///   offset   sample_offset(stride)
///
/// So `samples` to 2 * `samples` tokens, or all of fewer: a function of the window and `samples` alone that depends on
/// no other row, chunk or layout of keys. Rows of one begin and stride share pooled keys, and a shorter one sees a
/// prefix. `origin` is the window's begin; there are no tails. (ours)
BlockLayout layout_samples(const Problem& problem, i64 samples);

/// Where in [0, stride) samples begin: any would do, and the same of all windows would meet what repeats with a stride.
constexpr i64 sample_offset(i64 stride) {
  return static_cast<i64>(mix64(kGolden * static_cast<u64>(stride)) & static_cast<u64>(stride - 1));
}

}  // namespace misa
