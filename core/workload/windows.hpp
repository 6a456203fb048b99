#pragma once

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "core/workload/workload.hpp"

// Which keys the rows of a workload see: derived, checked and visited. Everything that refuses throws Error(input).

namespace misa::trace {

/// Keys that a row's window may name: N, or those of a sequence's pages. The columns of attention_mass.
i64 window_keys(const Workload& workload);

struct RowWindows {
  std::vector<i32> q_pos, sequence, ks, ke;
};

/// Windows of a paged workload: row j of a sequence's next_n rows sees what is whole of the first
/// seq_len - next_n + j + 1 tokens.
RowWindows paged_windows(const Workload& workload);

/// Sequences of contiguous keys: rows of equal ks belong together; numbered as they first appear.
std::vector<i32> sequences_of(const std::vector<i32>& ks);

/// Refuses lengths that the pages of a sequence cannot hold.
void check_seq_lens(const Workload& workload, const std::string& where);

/// Refuses q_pos, sequence, ks and ke that contradict the keys or each other, lengths, and pages in use that are not
/// there. The shapes are right already.
void check_windows(const Workload& workload, const std::string& where);

/// Calls visit(sequence, block, page, keys of it in use) for every page that a sequence uses, in table order.
template <class Visit>
void for_used_pages(const Workload& w, Visit visit) {
  const std::span<const i32> table = w.block_table.span<i32>(), seq_lens = w.seq_lens.span<i32>();
  const i64 columns = w.block_table.shape[1], size = w.page_size();
  for (i64 s = 0; s < static_cast<i64>(seq_lens.size()); ++s) {
    const i64 keys = w.keys_after(seq_lens[s]);
    for (i64 b = 0; b * size < keys; ++b) {
      visit(s, b, static_cast<i64>(table[s * columns + b]), std::min(size, keys - b * size));
    }
  }
}

/// Calls visit(first, last) for the keys [first, last) that some row sees, ascending and disjoint. Contiguous keys; the
/// windows are right already.
template <class Visit>
void for_seen_keys(const Workload& w, Visit visit) {
  std::vector<std::pair<i64, i64>> windows;
  for (std::size_t m = 0; m < w.ks.size(); ++m) windows.emplace_back(w.ks[m], w.ke[m]);
  std::sort(windows.begin(), windows.end());
  for (std::size_t m = 0; m < windows.size();) {
    auto [first, last] = windows[m];
    for (; m < windows.size() && windows[m].first <= last; ++m) last = std::max(last, windows[m].second);
    visit(first, last);
  }
}

/// Calls visit(slot) for every key that rows see, one that sequences share more than once. A slot counts keys in `k`,
/// or entries of all pages.
template <class Visit>
void for_used_slots(const Workload& w, Visit visit) {
  if (w.paged()) {
    for_used_pages(w, [&](i64, i64, i64 page, i64 used) {
      for (i64 t = 0; t < used; ++t) visit(page * w.page_size() + t);
    });
  } else {
    for_seen_keys(w, [&](i64 first, i64 last) {
      for (i64 key = first; key < last; ++key) visit(key);
    });
  }
}

}  // namespace misa::trace
