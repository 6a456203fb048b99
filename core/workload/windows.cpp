#include "core/workload/windows.hpp"

#include <fmt/format.h>

#include <span>
#include <unordered_map>

#include "core/workload/trace_format.hpp"

namespace misa::trace {
namespace {

void check_same_rows(const std::vector<i32>& given, const std::vector<i32>& derived, std::string_view name,
                     const std::string& where) {
  expect_length(given.size(), static_cast<i64>(derived.size()), name, "[Q]", where);
  const auto [a, b] = std::mismatch(given.begin(), given.end(), derived.begin());
  if (a == given.end()) return;
  reject("MP-E233", fmt::format("{} is {}, seq_lens give {}", name, *a, *b), at_row(where, name, a - given.begin()),
         "leave it out: paged windows follow from seq_lens");
}

void check_contiguous_windows(const Workload& w, const std::string& where) {
  const i64 rows = w.rows(), keys = w.keys(), ratio = w.compress_ratio;
  expect_length(w.q_pos.size(), rows, "q_pos", "[Q]", where);
  expect_length(w.ks.size(), rows, "ks", "[Q]", where);
  expect_length(w.ke.size(), rows, "ke", "[Q]", where);
  expect_length(w.sequence.size(), rows, "sequence", "[Q]", where);
  std::unordered_map<i32, i32> begin_of;
  for (i64 row = 0; row < rows; ++row) {
    const auto m = static_cast<std::size_t>(row);
    const i64 ks = w.ks[m], ke = w.ke[m], position = w.q_pos[m];
    const bool may_see_none = ratio > 1 && ke == ks;  // a row before the end of its first entry
    if (ks < 0 || ks > keys || (ks == keys && !may_see_none)) {
      reject("MP-E230", fmt::format("the window begins at token {}, the keys are 0 to {}", ks, keys - 1),
             at_row(where, "ks", row), kWindowOfBuffer);
    }
    if (ke > keys) {
      reject("MP-E230", fmt::format("the window ends before token {}, there are {} keys", ke, keys),
             at_row(where, "ke", row), kWindowOfBuffer);
    }
    if (ke <= ks && !may_see_none) {
      reject("MP-E231", fmt::format("the window [{}, {}) {}", ks, ke, ke < ks ? "runs backwards" : "is empty"),
             at_row(where, "ke", row), "a row sees at least its own token");
    }
    if (position < 0 || ke != ks + w.keys_after(position + 1)) {
      if (ratio > 1) {
        reject("MP-E232",
               fmt::format("ke is {}, ks + floor((q_pos + 1) / {}) is {}", ke, ratio, ks + w.keys_after(position + 1)),
               at_row(where, "ke", row), "q_pos in tokens where compress_ratio is given, in keys where it is not");
      }
      reject("MP-E232", fmt::format("ke is {}, ks + q_pos + 1 is {}", ke, ks + position + 1), at_row(where, "ke", row),
             "ke = ks + q_pos + 1: the row's own token is visible, q_pos counts from its sequence's start");
    }
    if (begin_of.emplace(w.sequence[m], w.ks[m]).first->second != w.ks[m]) {
      reject("MP-E233",
             fmt::format("ks is {}, another row of sequence {} has {}", ks, w.sequence[m], begin_of[w.sequence[m]]),
             at_row(where, "ks", row), "the same ks for all rows of a sequence");
    }
  }
}

void check_block_table(const Workload& w, const std::string& where) {
  const i64 pages = w.k_pages.shape[0];
  for_used_pages(w, [&](i64 sequence, i64 block, i64 page, i64) {
    if (page < 0 || page >= pages) {
      reject("MP-E234",
             fmt::format("page {} of sequence {} is number {}, there are 0 to {}", block, sequence, page, pages - 1),
             at(where, "block_table"), "the whole cache as k_pages, or page numbers that count in the part recorded");
    }
  });
}

}  // namespace

i64 window_keys(const Workload& workload) {
  return workload.paged() ? workload.block_table.shape[1] * workload.page_size() : workload.keys();
}

RowWindows paged_windows(const Workload& w) {
  const std::span<const i32> seq_lens = w.seq_lens.span<i32>();
  const i64 rows = w.rows(), next_n = rows / static_cast<i64>(seq_lens.size());
  RowWindows windows;
  windows.ks.assign(static_cast<std::size_t>(rows), 0);
  for (i64 row = 0; row < rows; ++row) {
    const i64 sequence = row / next_n;
    const i64 tokens = std::max<i64>(0, seq_lens[sequence] - next_n + row % next_n + 1);
    windows.sequence.push_back(static_cast<i32>(sequence));
    windows.ke.push_back(static_cast<i32>(w.keys_after(tokens)));
    windows.q_pos.push_back(static_cast<i32>(tokens - 1));
  }
  return windows;
}

std::vector<i32> sequences_of(const std::vector<i32>& ks) {
  std::unordered_map<i32, i32> numbers;
  std::vector<i32> sequence;
  for (i32 begin : ks) {
    sequence.push_back(numbers.emplace(begin, static_cast<i32>(numbers.size())).first->second);
  }
  return sequence;
}

void check_seq_lens(const Workload& w, const std::string& where) {
  const std::span<const i32> seq_lens = w.seq_lens.span<i32>();
  const i64 capacity = window_keys(w);
  for (std::size_t s = 0; s < seq_lens.size(); ++s) {
    if (seq_lens[s] < 0 || w.keys_after(seq_lens[s]) > capacity) {
      const std::string entries = w.compress_ratio == 1 ? "" : fmt::format(" entries of {} tokens", w.compress_ratio);
      reject("MP-E235",
             fmt::format("sequence {} has {} tokens, its pages hold 0 to {}{}", s, seq_lens[s], capacity, entries),
             at(where, "seq_lens"), "a block_table with all pages of the sequence");
    }
  }
}

void check_windows(const Workload& w, const std::string& where) {
  if (!w.paged()) return check_contiguous_windows(w, where);
  check_seq_lens(w, where);
  const RowWindows windows = paged_windows(w);
  check_same_rows(w.ks, windows.ks, "ks", where);
  check_same_rows(w.ke, windows.ke, "ke", where);
  check_same_rows(w.q_pos, windows.q_pos, "q_pos", where);
  check_same_rows(w.sequence, windows.sequence, "sequence", where);
  check_block_table(w, where);
}

}  // namespace misa::trace
