#include "core/workload/subset.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <numeric>
#include <optional>
#include <string>
#include <utility>

#include "core/base/decimal.hpp"
#include "core/base/error.hpp"
#include "core/workload/workload_fields.hpp"

namespace misa {
namespace {

constexpr u64 kMostRowNumber = 0x7fffffff;

HostTensor same(const HostTensor& from) { return from.copy(); }
std::vector<i32> same(const std::vector<i32>& from) { return from; }

/// Entries `kept` of the first axis, and `inner` of the second where it names some. An empty tensor stays empty.
HostTensor gather(const HostTensor& from, std::span<const i64> kept, std::span<const i64> inner = {}) {
  if (from.empty()) return {};
  std::vector<i64> shape = from.shape;
  const i64 entry_bytes = from.bytes() / shape[0], inner_bytes = inner.empty() ? 0 : entry_bytes / shape[1];
  shape[0] = static_cast<i64>(kept.size());
  if (!inner.empty()) shape[1] = static_cast<i64>(inner.size());
  HostTensor to(from.dtype, std::move(shape));
  std::byte* out = to.storage.data();
  const auto append = [&](i64 offset, i64 bytes) {
    std::memcpy(out, from.storage.data() + offset, static_cast<std::size_t>(bytes));
    out += bytes;
  };
  for (const i64 entry : kept) {
    if (inner.empty()) append(entry * entry_bytes, entry_bytes);
    for (const i64 i : inner) append(entry * entry_bytes + i * inner_bytes, inner_bytes);
  }
  return to;
}

std::vector<i32> gather(const std::vector<i32>& from, std::span<const i64> kept, std::span<const i64> /*inner*/ = {}) {
  std::vector<i32> to;
  for (const i64 entry : kept) to.push_back(from[static_cast<std::size_t>(entry)]);
  return to;
}

/// Rows `kept` and, where some are named, heads `heads` of every field that has an entry for each row. `to` may be
/// `from`: then only one field at a time is in memory twice.
void take_rows(const Workload& from, std::span<const i64> kept, std::span<const i64> heads, Workload& to) {
  visit_fields([&](const WorkloadField& field, auto member) {
    const std::string_view shape = field.tensor.shape;
    if (shape[0] != 'Q') return;
    const bool of_heads = shape.size() > 1 && shape[1] == 'H';
    to.*member = gather(from.*member, kept, of_heads ? heads : std::span<const i64>());
  });
}

/// Rows `kept` of a field that has an entry for some rows, which `rows` names and which are renumbered.
void keep_listed(HostTensor& tensor, std::vector<i32>& rows, const std::vector<i64>& kept) {
  if (tensor.empty()) return;
  std::vector<i64> positions;
  std::vector<i32> renumbered;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const auto found = std::find(kept.begin(), kept.end(), rows[i]);
    if (found == kept.end()) continue;
    positions.push_back(static_cast<i64>(i));
    renumbered.push_back(static_cast<i32>(found - kept.begin()));
  }
  tensor = positions.empty() ? HostTensor() : gather(tensor, positions);
  rows = std::move(renumbered);
}

/// Rows `kept` of everything that has an entry for a row; keys stay.
void keep(Workload& workload, const std::vector<i64>& kept) {
  take_rows(workload, kept, {}, workload);
  keep_listed(workload.attention_mass, workload.attention_mass_row, kept);
  keep_top_k(workload, workload.metadata);  // the rows kept may be none of those with a recorded selection
  keep_listed(workload.topk, workload.topk_row, kept);
}

/// Leaves out the candidates of which no key lies in the row's window. They ascend, so that these come last.
void cut_candidates(Workload& workload) {
  if (workload.candidates.empty()) return;
  const i64 columns = workload.candidates.shape[1];
  const std::span<i32> ids = workload.candidates.span<i32>();
  for (std::size_t m = 0; m < workload.ks.size(); ++m) {
    const auto row = ids.subspan(m * static_cast<std::size_t>(columns), static_cast<std::size_t>(columns));
    const i64 window = workload.ke[m] - workload.ks[m];
    std::replace_if(
        row.begin(), row.end(), [&](i32 id) { return id * workload.candidate_length >= window; }, -1);
  }
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
  to.k = gather(from.k, kept);
  to.k_scale = gather(from.k_scale, kept);
  to.k_block_scale = gather(from.k_block_scale, kept);
}

void take_pages(const Workload& from, std::span<const i64> sequences, i64 window, Workload& to) {
  const i64 size = from.page_size(), columns = from.block_table.shape[1];
  std::vector<i64> kept;
  to.block_table = gather(from.block_table, sequences);
  to.seq_lens = gather(from.seq_lens, sequences);
  for (std::size_t s = 0; s < sequences.size(); ++s) {
    i32& tokens = to.seq_lens.span<i32>()[s];
    const i64 keys = std::min(from.keys_after(tokens), window);
    tokens -= static_cast<i32>((from.keys_after(tokens) - keys) * from.compress_ratio);
    const auto table =
        to.block_table.span<i32>().subspan(s * static_cast<std::size_t>(columns), static_cast<std::size_t>(columns));
    for (i64 column = 0; column < columns; ++column) {
      i32& page = table[static_cast<std::size_t>(column)];
      if (column >= ceil_div(keys, size)) {
        page = -1;
        continue;
      }
      const auto found = std::find(kept.begin(), kept.end(), page);
      const auto number = static_cast<i32>(found - kept.begin());
      if (found == kept.end()) kept.push_back(page);
      page = number;
    }
  }
  if (kept.empty()) kept.push_back(0);
  to.k_pages = gather(from.k_pages, kept);
}

}  // namespace

Workload copy_of(const Workload& from) {
  Workload to;
  to.name = from.name;
  to.metadata = from.metadata;
  to.next_n = from.next_n;
  to.compress_ratio = from.compress_ratio;
  to.candidate_length = from.candidate_length;
  to.needles = from.needles;
  visit_fields([&](const WorkloadField&, auto member) { to.*member = same(from.*member); });
  return to;
}

Workload take(const Workload& from, std::span<const i64> rows, std::span<const i64> heads, i64 window) {
  Workload to;
  to.name = from.name;
  to.metadata = from.metadata;
  keep_top_k(from, to.metadata);
  if (const auto recorded = to.metadata.find("index_n_heads"); recorded != to.metadata.end()) {
    recorded->second = std::to_string(heads.size());
  }
  to.next_n = from.next_n;
  to.compress_ratio = from.compress_ratio;
  to.candidate_length = from.candidate_length;
  take_rows(from, rows, heads, to);

  std::vector<i64> sequences;
  for (std::size_t m = 0; m < rows.size(); ++m) {
    const i32 sequence = to.sequence[m];
    if (sequences.empty() || sequences.back() != sequence) sequences.push_back(sequence);
    // The last rows of a paged sequence that is cut end where it does: `after` keys of it follow the row.
    const auto lengths = from.seq_lens.span<const i32>();
    const i64 after = from.paged() ? from.keys_after(lengths[static_cast<std::size_t>(sequence)]) - to.ke[m] : 0;
    const i64 whole = to.ke[m] - to.ks[m] + after, cut = std::max<i64>(0, whole - window);
    const i64 length = std::max<i64>(0, whole - cut - after);
    if (from.paged()) to.sequence[m] = static_cast<i32>(sequences.size() - 1);
    to.ke[m] = static_cast<i32>(to.ks[m] + length);
    to.q_pos[m] = static_cast<i32>(std::max<i64>(0, to.q_pos[m] + 1 - cut * from.compress_ratio) - 1);
  }
  cut_candidates(to);
  if (from.paged()) {
    take_pages(from, sequences, window, to);
  } else {
    take_contiguous_keys(from, to);
  }
  return to;
}

i64 thinning_bytes(const Workload& workload, i64 count) {
  i64 largest = 0;
  visit_fields([&](const WorkloadField& field, auto member) {
    const char axis = field.tensor.shape[0];
    if (axis == 'Q' || axis == 'R') largest = std::max(largest, bytes_of(workload.*member));
  });
  return count < workload.rows() ? largest / workload.rows() * count : largest;
}

Workload keep_rows(Workload workload, i64 count) {
  const i64 rows = workload.rows();
  if (workload.paged()) {
    throw Error(ErrorKind::usage, "MP-E013", "rows of a paged workload belong to its sequences and stay together",
                workload.name, "the workload without --rows");
  }
  if (count < 1 || count > rows) {
    throw Error(ErrorKind::usage, "MP-E014",
                "--rows is " + std::to_string(count) + ", and there are " + std::to_string(rows) + " rows",
                workload.name, "1 to " + std::to_string(rows));
  }
  std::vector<i64> kept;
  for (i64 i = 1; i <= count; ++i) kept.push_back(i * rows / count - 1);
  keep(workload, kept);
  return workload;
}

Workload keep_row(Workload workload, i64 row) {
  const i64 rows = workload.rows();
  if (row < 0 || row >= rows) {
    throw Error(ErrorKind::usage, "MP-E450",
                rows == 0 ? std::string("there are no rows")
                          : fmt::format("there is no row {}: rows are 0 to {}", row, rows - 1),
                workload.name, rows == 0 ? "another workload" : fmt::format("--row {}", rows - 1));
  }
  std::vector<i64> kept{row};
  if (workload.paged()) {
    const std::array<i64, 1> sequence{workload.sequence[static_cast<std::size_t>(row)]};
    kept.resize(static_cast<std::size_t>(workload.next_n));
    std::iota(kept.begin(), kept.end(), row / workload.next_n * workload.next_n);
    workload.block_table = gather(workload.block_table, sequence);
    workload.seq_lens = gather(workload.seq_lens, sequence);
  }
  const i64 number = first_row(workload) + kept.front();
  keep(workload, kept);
  if (workload.paged()) std::fill(workload.sequence.begin(), workload.sequence.end(), 0);
  workload.metadata["first_row"] = std::to_string(number);
  return workload;
}

i64 first_row(const Workload& workload) {
  const auto found = workload.metadata.find("first_row");
  const std::optional<u64> number = found == workload.metadata.end() ? std::nullopt : whole_number_of(found->second);
  return number && *number <= kMostRowNumber ? static_cast<i64>(*number) : 0;
}

}  // namespace misa
