#include "core/workload/take.hpp"

#include <algorithm>
#include <cstring>

namespace misa {
namespace {

/// [rows, heads, ...] of a tensor [M, H, ...]; an empty one stays empty.
HostTensor take_heads(const HostTensor& from, std::span<const i64> rows, std::span<const i64> heads) {
  if (from.empty()) return {};
  std::vector<i64> shape = from.shape;
  shape[0] = static_cast<i64>(rows.size());
  shape[1] = static_cast<i64>(heads.size());
  HostTensor to(from.dtype, shape);
  const i64 each = from.bytes() / (from.shape[0] * from.shape[1]);
  std::byte* out = to.storage.data();
  for (const i64 row : rows) {
    for (const i64 head : heads) {
      std::memcpy(out, from.storage.data() + (row * from.shape[1] + head) * each, static_cast<std::size_t>(each));
      out += each;
    }
  }
  return to;
}

/// Entries `kept` of a tensor's first axis.
HostTensor take_entries(const HostTensor& from, std::span<const i64> kept) {
  if (from.empty()) return {};
  std::vector<i64> shape = from.shape;
  shape[0] = static_cast<i64>(kept.size());
  HostTensor to(from.dtype, shape);
  const i64 each = from.bytes() / from.shape[0];
  for (std::size_t i = 0; i < kept.size(); ++i) {
    std::memcpy(to.storage.data() + static_cast<i64>(i) * each, from.storage.data() + kept[i] * each,
                static_cast<std::size_t>(each));
  }
  return to;
}

void take_contiguous_keys(const Workload& from, Workload& to) {
  std::vector<bool> seen(static_cast<std::size_t>(from.keys()), false);
  for (std::size_t m = 0; m < to.ks.size(); ++m) std::fill(seen.begin() + to.ks[m], seen.begin() + to.ke[m], true);
  std::vector<i64> kept;
  std::vector<i32> moved(seen.size() + 1, 0);
  for (std::size_t t = 0; t < seen.size(); ++t) {
    moved[t] = static_cast<i32>(kept.size());
    if (seen[t]) kept.push_back(static_cast<i64>(t));
  }
  if (kept.empty()) kept.push_back(0);
  for (std::size_t m = 0; m < to.ks.size(); ++m) {
    const i32 length = to.ke[m] - to.ks[m];
    to.ks[m] = moved[static_cast<std::size_t>(to.ks[m])];
    to.ke[m] = to.ks[m] + length;
  }
  to.k = take_entries(from.k, kept);
  to.k_scale = take_entries(from.k_scale, kept);
}

void take_pages(const Workload& from, std::span<const i64> sequences, i64 window, Workload& to) {
  const i64 size = from.page_size(), columns = from.block_table.shape[1];
  std::vector<i64> kept;
  to.block_table = take_entries(from.block_table, sequences);
  to.seq_lens = take_entries(from.seq_lens, sequences);
  for (std::size_t s = 0; s < sequences.size(); ++s) {
    i32& length = to.seq_lens.span<i32>()[s];
    length = static_cast<i32>(std::min<i64>(length, window));
    const auto table =
        to.block_table.span<i32>().subspan(s * static_cast<std::size_t>(columns), static_cast<std::size_t>(columns));
    for (i64 column = 0; column < columns; ++column) {
      i32& page = table[static_cast<std::size_t>(column)];
      if (column >= ceil_div(length, size)) {
        page = -1;
        continue;
      }
      const auto found = std::find(kept.begin(), kept.end(), page);
      if (found == kept.end()) {
        kept.push_back(page);
        page = static_cast<i32>(kept.size() - 1);
      } else {
        page = static_cast<i32>(found - kept.begin());
      }
    }
  }
  if (kept.empty()) kept.push_back(0);
  to.k_pages = take_entries(from.k_pages, kept);
}

}  // namespace

Workload take(const Workload& from, std::span<const i64> rows, std::span<const i64> heads, i64 window) {
  Workload to;
  to.name = from.name;
  to.metadata = from.metadata;
  keep_top_k(from, to.metadata);
  if (const auto recorded = to.metadata.find("index_n_heads"); recorded != to.metadata.end()) {
    recorded->second = std::to_string(heads.size());
  }
  to.next_n = from.next_n;
  const i64 ratio = compress_ratio(from);
  to.q = take_heads(from.q, rows, heads);
  to.weights = take_heads(from.weights, rows, heads);
  to.q_scale = take_heads(from.q_scale, rows, heads);
  to.q_norm = take_heads(from.q_norm, rows, heads);

  std::vector<i64> sequences;
  for (const i64 row : rows) {
    const std::size_t m = static_cast<std::size_t>(row);
    if (sequences.empty() || sequences.back() != from.sequence[m]) sequences.push_back(from.sequence[m]);
    // Of a paged sequence that is cut, the last rows end where it does.
    const i64 behind =
        from.paged() ? from.seq_lens.span<const i32>()[static_cast<std::size_t>(from.sequence[m])] - from.ke[m] : 0;
    const i64 whole = from.ke[m] - from.ks[m] + behind;
    const i64 length = std::max<i64>(0, std::min(whole, window) - behind);
    to.sequence.push_back(from.paged() ? static_cast<i32>(sequences.size() - 1) : from.sequence[m]);
    to.ks.push_back(from.ks[m]);
    to.ke.push_back(static_cast<i32>(from.ks[m] + length));
    to.q_pos.push_back(whole <= window ? from.q_pos[m] : static_cast<i32>(length * ratio - 1));
  }
  if (from.paged()) {
    take_pages(from, sequences, window, to);
  } else {
    take_contiguous_keys(from, to);
  }
  return to;
}

Workload copy_of(const Workload& from) {
  Workload to;
  to.name = from.name;
  to.metadata = from.metadata;
  to.q = from.q.copy();
  to.weights = from.weights.copy();
  to.q_scale = from.q_scale.copy();
  to.q_norm = from.q_norm.copy();
  to.k = from.k.copy();
  to.k_scale = from.k_scale.copy();
  to.k_pages = from.k_pages.copy();
  to.block_table = from.block_table.copy();
  to.seq_lens = from.seq_lens.copy();
  to.next_n = from.next_n;
  to.q_pos = from.q_pos;
  to.sequence = from.sequence;
  to.ks = from.ks;
  to.ke = from.ke;
  to.attention_mass = from.attention_mass.copy();
  to.attention_mass_row = from.attention_mass_row;
  to.needles = from.needles;
  to.topk = from.topk.copy();
  to.topk_row = from.topk_row;
  return to;
}

}  // namespace misa
