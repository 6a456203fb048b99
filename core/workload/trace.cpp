#include "core/workload/trace.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <limits>
#include <optional>
#include <span>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "core/base/interrupt.hpp"
#include "core/indexer/arithmetic.hpp"
#include "core/workload/trace_format.hpp"

namespace misa {
namespace {

using trace::at;
using trace::at_row;
using trace::check_ids;
using trace::expect_count;
using trace::expect_dtype;
using trace::expect_length;
using trace::expect_shape;
using trace::kReshape;
using trace::kWindowOfBuffer;
using trace::metadata_number;
using trace::missing;
using trace::reject;
using trace::shape_text;

constexpr i64 kMaxHeads = 128;
constexpr std::array<i64, 4> kHeadDims{32, 64, 128, 256};
constexpr i64 kScaleBytes = 4;  // of one token's scale in a page
constexpr std::array<std::string_view, 4> kProvenances{"real-checkpoint", "small-trained", "random-init", "synthetic"};

constexpr const char* kRecordAgain = "leave the row out, or record it again before the kernel's memory is used anew";

constexpr const char* kNeedleColumns =
    "tokens and positions from 0: start, length; start, length of the question; start, length of the answer";

// ---------------------------------------------------------------------------------------------------------------
// Values. A word of eight bytes is tested at once: in each lane, (bits & keep) + add carries into the lane's highest
// bit exactly when the element is bad, and never into the next lane.

struct LaneTest {
  u64 keep, add, high;
  int bits;  // of a lane
};
constexpr LaneTest kNanE4m3{0x7F7F7F7F7F7F7F7Fu, 0x0101010101010101u, 0x8080808080808080u, 8};
constexpr LaneTest kNonFiniteBf16{0x7FFF7FFF7FFF7FFFu, 0x0080008000800080u, 0x8000800080008000u, 16};
constexpr LaneTest kNonFiniteF16{0x7FFF7FFF7FFF7FFFu, 0x0400040004000400u, 0x8000800080008000u, 16};
constexpr LaneTest kNonFiniteF32{0x7FFFFFFF7FFFFFFFu, 0x0080000000800000u, 0x8000000080000000u, 32};
constexpr LaneTest kSignF16{0x8000800080008000u, 0, 0x8000800080008000u, 16};

/// Index of the first bad element, or -1. Elements are little endian, as the file has them.
i64 find_bad(const LaneTest& test, const std::byte* data, i64 bytes) {
  constexpr i64 kRun = 1 << 14;    // bytes between looks at the result
  constexpr i64 kPiece = 1 << 26;  // and at whether to go on
  for (i64 begin = 0; begin < bytes; begin += kRun) {
    if (begin > 0 && begin % kPiece == 0) stop_if_interrupted();
    const i64 end = std::min(bytes, begin + kRun);
    u64 seen = 0, word = 0;
    i64 i = begin;
    for (; i + 8 <= end; i += 8) {
      std::memcpy(&word, data + i, 8);
      seen |= (word & test.keep) + test.add;
    }
    if (i < end) {
      word = 0;
      std::memcpy(&word, data + i, static_cast<std::size_t>(end - i));
      seen |= (word & test.keep) + test.add;
    }
    if ((seen & test.high) == 0) continue;
    const i64 lane = test.bits / 8;
    for (i = begin; i < end; i += lane) {
      word = 0;
      std::memcpy(&word, data + i, static_cast<std::size_t>(lane));
      if ((((word & test.keep) + test.add) & test.high & (~u64{0} >> (64 - test.bits))) != 0) return i / lane;
    }
  }
  return -1;
}

const LaneTest& non_finite(Dtype dtype) {
  return dtype == Dtype::e4m3 ? kNanE4m3 : dtype == Dtype::bf16 ? kNonFiniteBf16 : kNonFiniteF32;
}

// Beyond these no quantiser's scale lies: amax / 448 of what a network computes, and the floors that stacks give amax.
constexpr float kLeastScale = 0x1p-64f, kLargestScale = 0x1p32f;

bool good_scale(float scale) { return std::isfinite(scale) && scale > 0; }

/// A scale that some quantiser may have made: amax / 448 of numbers that a network computes.
bool plausible_scale(float scale) { return good_scale(scale) && scale > 0x1p-40f && scale < 0x1p20f; }

/// Throws for the first number in rows [first, last) of `tensor` ([rows, ...]) that is not finite.
void check_finite(const HostTensor& tensor, i64 first, i64 last, const std::string& id, std::string_view name,
                  const std::string& where) {
  const i64 width = tensor.size() / tensor.shape[0], row_bytes = tensor.bytes() / tensor.shape[0];
  const i64 found =
      find_bad(non_finite(tensor.dtype), tensor.storage.data() + first * row_bytes, (last - first) * row_bytes);
  if (found < 0) return;
  const i64 bad = first * width + found;
  if (tensor.dtype == Dtype::e4m3) {
    reject(id, fmt::format("element {} is the FP8 code 0x{:02X}, a NaN", bad % width, tensor.span<E4m3>()[bad].bits),
           at_row(where, name, bad / width), "is it F8_E4M3 as OCP defines it (e4m3fn)?");
  }
  reject(id, fmt::format("element {} is not finite", bad % width), at_row(where, name, bad / width), kRecordAgain);
}
void check_finite(const HostTensor& tensor, const std::string& id, std::string_view name, const std::string& where) {
  check_finite(tensor, 0, tensor.shape[0], id, name, where);
}

// ---------------------------------------------------------------------------------------------------------------
// Shapes

/// Columns of attention_mass: tokens that a row's window may name.
i64 tokens_of(const Workload& workload) {
  return workload.paged() ? workload.block_table.shape[1] * workload.page_size() : workload.keys();
}

/// Everything that can be said before looking at values. `q_pos`, `ks`, `ke` are checked by their users.
void check_shapes(const Workload& w, const std::string& where) {
  if (w.q.shape.empty()) missing("q", where, "the queries [Q, H, D]");
  if (w.weights.shape.empty()) missing("weights", where, "the gates [Q, H], all scales of the query folded in");
  if (w.q.shape.size() != 3) {
    reject("MP-E208", fmt::format("the shape is {}, must be [Q, H, D]", shape_text(w.q.shape)), at(where, "q"),
           kReshape);
  }
  expect_dtype(w.q, {Dtype::e4m3, Dtype::bf16, Dtype::f32}, "q", where);
  const i64 rows = w.rows(), heads = w.heads(), dim = w.head_dim();
  expect_count(rows, "query rows", "q", where);
  if (heads < 1 || heads > kMaxHeads) {
    reject("MP-E210", fmt::format("{} heads, must be 1 to {}", heads, kMaxHeads), at(where, "q"),
           "q as [rows, heads, head dimension]");
  }
  if (std::find(kHeadDims.begin(), kHeadDims.end(), dim) == kHeadDims.end()) {
    reject("MP-E211", fmt::format("head dimension {}, must be {}", dim, fmt::join(kHeadDims, ", ")), at(where, "q"),
           "zeros after the numbers of q and k up to the next of these: they change no score");
  }
  const auto per_head = [&](const HostTensor& tensor, std::string_view name) {
    expect_dtype(tensor, {Dtype::f32}, name, where);
    expect_shape(tensor, {rows, heads}, name, "[Q, H]", where);
  };
  per_head(w.weights, "weights");
  if (!w.q_scale.shape.empty()) per_head(w.q_scale, "q_scale");
  if (!w.q_norm.shape.empty()) per_head(w.q_norm, "q_norm");

  const bool contiguous = !w.k.shape.empty(), paged = !w.k_pages.shape.empty();
  if (!contiguous && !paged) missing("k", where, "the keys [N, D], or k_pages with block_table and seq_lens");
  if (contiguous && paged) {
    reject("MP-E209", "both 'k' and 'k_pages' are there: keys are contiguous or paged", where, "two files");
  }
  if (contiguous) {
    expect_dtype(w.k, {Dtype::e4m3, Dtype::bf16, Dtype::f32}, "k", where);
    if (w.k.shape.size() != 2 || w.k.shape[1] != dim) {
      reject("MP-E208", fmt::format("the shape is {}, must be [N, D] = [N, {}]", shape_text(w.k.shape), dim),
             at(where, "k"), kReshape);
    }
    expect_count(w.keys(), "keys", "k", where);
    if (w.k.dtype == Dtype::e4m3) {
      if (w.k_scale.shape.empty()) missing("k_scale", where, "FP8 keys need their scales [N]");
      expect_dtype(w.k_scale, {Dtype::f32}, "k_scale", where);
      expect_shape(w.k_scale, {w.keys()}, "k_scale", "[N]", where);
    } else if (!w.k_scale.shape.empty()) {
      reject("MP-E209", fmt::format("'k' is {} and has no scales", dtype_name(w.k.dtype)), at(where, "k_scale"),
             "multiply them into k");
    }
    if (!w.block_table.shape.empty()) {
      reject("MP-E209", "a block table belongs to k_pages", at(where, "block_table"),
             "k_pages in place of k, or no block_table");
    }
    if (!w.seq_lens.shape.empty()) {
      reject("MP-E209", "seq_lens belong to k_pages", at(where, "seq_lens"), "k_pages in place of k, or no seq_lens");
    }
  } else {
    expect_dtype(w.k_pages, {Dtype::uint8, Dtype::bf16, Dtype::f32}, "k_pages", where);
    const i64 width = w.k_pages.dtype == Dtype::uint8 ? dim + kScaleBytes : dim;
    if (w.k_pages.shape.size() != 3 || w.k_pages.shape[2] != width) {
      reject("MP-E208",
             fmt::format("the shape is {}, must be [pages, page_size, {}] = [pages, page_size, {}]",
                         shape_text(w.k_pages.shape), width == dim ? "D" : "D + 4", width),
             at(where, "k_pages"), kReshape);
    }
    expect_count(w.k_pages.shape[0], "pages", "k_pages", where);
    expect_count(w.k_pages.shape[1], "tokens per page", "k_pages", where);
    expect_count(w.keys(), "keys", "k_pages", where);
    if (!w.k_scale.shape.empty()) {
      reject("MP-E209", "the scales of k_pages lie inside its pages", at(where, "k_scale"),
             "no k_scale, or k in place of k_pages");
    }
    if (w.block_table.shape.empty()) missing("block_table", where, "k_pages needs the pages of each sequence");
    if (w.seq_lens.shape.empty()) missing("seq_lens", where, "k_pages needs the tokens of each sequence");
    expect_dtype(w.block_table, {Dtype::int32}, "block_table", where);
    expect_dtype(w.seq_lens, {Dtype::int32}, "seq_lens", where);
    if (w.seq_lens.shape.size() != 1) {
      reject("MP-E208", fmt::format("the shape is {}, must be [B]", shape_text(w.seq_lens.shape)),
             at(where, "seq_lens"), kReshape);
    }
    const i64 sequences = w.seq_lens.shape[0];
    expect_count(sequences, "sequences", "seq_lens", where);
    if (w.block_table.shape.size() != 2 || w.block_table.shape[0] != sequences) {
      reject("MP-E208",
             fmt::format("the shape is {}, must be [B, pages per sequence] = [{}, ...]",
                         shape_text(w.block_table.shape), sequences),
             at(where, "block_table"), kReshape);
    }
    expect_count(w.block_table.shape[1], "pages per sequence", "block_table", where);
    if (w.block_table.shape[1] > trace::kMaxIndex / w.page_size()) {
      expect_count(w.block_table.shape[1] * w.page_size(), "tokens per sequence", "block_table", where);
    }
    if (rows % sequences != 0) {
      reject("MP-E236", fmt::format("{} query rows do not divide among {} sequences", rows, sequences), at(where, "q"),
             "next_n rows for every sequence");
    }
  }

  if (!w.attention_mass.shape.empty()) {
    expect_dtype(w.attention_mass, {Dtype::f16}, "attention_mass", where);
    expect_count(w.attention_mass.shape[0], "rows", "attention_mass", where);
    expect_shape(w.attention_mass, {w.attention_mass.shape[0], tokens_of(w)}, "attention_mass", "[R, N]", where);
  }
  if (!w.topk.shape.empty()) {
    expect_dtype(w.topk, {Dtype::int32}, "topk", where);
    if (w.topk.shape.size() != 2) {
      reject("MP-E208", fmt::format("the shape is {}, must be [R, k]", shape_text(w.topk.shape)), at(where, "topk"),
             kReshape);
    }
    expect_count(w.topk.shape[0], "rows", "topk", where);
    expect_count(w.topk.shape[1], "columns", "topk", where);
  }
}

// ---------------------------------------------------------------------------------------------------------------
// Windows

struct RowWindows {
  std::vector<i32> q_pos, sequence, ks, ke;
};

/// Windows of a paged workload: row j of a sequence's next_n rows sees seq_len - next_n + j + 1 tokens.
RowWindows paged_windows(const Workload& w) {
  const std::span<const i32> seq_lens = w.seq_lens.span<i32>();
  const i64 rows = w.rows(), next_n = rows / static_cast<i64>(seq_lens.size());
  RowWindows windows;
  windows.ks.assign(static_cast<std::size_t>(rows), 0);
  for (i64 row = 0; row < rows; ++row) {
    const i64 sequence = row / next_n;
    const i64 visible = std::max<i64>(0, seq_lens[sequence] - next_n + row % next_n + 1);
    windows.sequence.push_back(static_cast<i32>(sequence));
    windows.ke.push_back(static_cast<i32>(visible));
    windows.q_pos.push_back(static_cast<i32>(visible - 1));
  }
  return windows;
}

/// Sequences of contiguous keys: rows of equal ks belong together; numbered as they first appear.
std::vector<i32> sequences_of(const std::vector<i32>& ks) {
  std::unordered_map<i32, i32> numbers;
  std::vector<i32> sequence;
  for (i32 begin : ks) {
    sequence.push_back(numbers.emplace(begin, static_cast<i32>(numbers.size())).first->second);
  }
  return sequence;
}

void check_same_rows(const std::vector<i32>& given, const std::vector<i32>& derived, std::string_view name,
                     const std::string& where) {
  expect_length(given.size(), static_cast<i64>(derived.size()), name, "[Q]", where);
  const auto [a, b] = std::mismatch(given.begin(), given.end(), derived.begin());
  if (a == given.end()) return;
  reject("MP-E233", fmt::format("{} is {}, seq_lens give {}", name, *a, *b), at_row(where, name, a - given.begin()),
         "leave it out: paged windows follow from seq_lens");
}

void check_contiguous_windows(const Workload& w, const std::string& where) {
  const i64 rows = w.rows(), keys = w.keys(), ratio = metadata_number(w.metadata, "compress_ratio", where).value_or(1);
  expect_length(w.q_pos.size(), rows, "q_pos", "[Q]", where);
  expect_length(w.ks.size(), rows, "ks", "[Q]", where);
  expect_length(w.ke.size(), rows, "ke", "[Q]", where);
  expect_length(w.sequence.size(), rows, "sequence", "[Q]", where);
  std::unordered_map<i32, i32> begin_of;
  for (i64 row = 0; row < rows; ++row) {
    const auto m = static_cast<std::size_t>(row);
    const i64 ks = w.ks[m], ke = w.ke[m], position = w.q_pos[m];
    const bool may_see_none = ratio > 1 && ke == ks;  // a row that is before the end of the first compressed key
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
    if (position < 0 || ke != ks + (position + 1) / ratio) {
      if (ratio > 1) {
        reject("MP-E232",
               fmt::format("ke is {}, ks + floor((q_pos + 1) / {}) is {}", ke, ratio, ks + (position + 1) / ratio),
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

void check_seq_lens(const Workload& w, const std::string& where) {
  const std::span<const i32> seq_lens = w.seq_lens.span<i32>();
  const i64 capacity = tokens_of(w);
  for (std::size_t s = 0; s < seq_lens.size(); ++s) {
    if (seq_lens[s] < 0 || seq_lens[s] > capacity) {
      reject("MP-E235", fmt::format("sequence {} has {} tokens, its pages hold 0 to {}", s, seq_lens[s], capacity),
             at(where, "seq_lens"), "a block_table with all pages of the sequence");
    }
  }
}

// ---------------------------------------------------------------------------------------------------------------
// Keys

/// The f32 at `data`, which need not be aligned.
float load_f32(const std::byte* data) {
  float value = 0;
  std::memcpy(&value, data, sizeof value);
  return value;
}

/// Calls visit(page, tokens of it in use) for every page that a sequence uses, in table order.
template <class Visit>
void for_used_pages(const Workload& w, Visit visit) {
  const std::span<const i32> table = w.block_table.span<i32>(), seq_lens = w.seq_lens.span<i32>();
  const i64 columns = w.block_table.shape[1], size = w.page_size();
  for (i64 s = 0; s < static_cast<i64>(seq_lens.size()); ++s) {
    for (i64 b = 0; b * size < seq_lens[s]; ++b) {
      visit(s, b, static_cast<i64>(table[s * columns + b]), std::min(size, seq_lens[s] - b * size));
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

/// Calls visit(slot) for every key whose scale matters, one that sequences share more than once. A slot counts keys in
/// `k`, or entries of all pages.
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

bool has_scales(const Workload& w) { return w.paged() ? w.k_pages.dtype == Dtype::uint8 : !w.k_scale.shape.empty(); }

/// The four bytes of a slot's scale.
const std::byte* scale_bytes(const Workload& w, i64 slot) {
  if (!w.paged()) return w.k_scale.storage.data() + slot * kScaleBytes;
  const i64 size = w.page_size(), dim = w.head_dim();
  return w.k_pages.storage.data() + slot / size * size * (dim + kScaleBytes) + size * dim + slot % size * kScaleBytes;
}

/// Names the place of a slot's scale, for messages.
std::string scale_place(const Workload& w, i64 slot, const std::string& where) {
  if (!w.paged()) return at_row(where, "k_scale", slot);
  return fmt::format("{}, page {}, token {}", at(where, "k_pages"), slot / w.page_size(), slot % w.page_size());
}

/// How the scales look when a page is read as the format says, and when it is read as D + 4 bytes per token.
struct ScaleCensus {
  i64 tokens = 0, plausible = 0, plausible_interleaved = 0;

  bool looks_interleaved() const {
    return tokens > 0 && plausible_interleaved * 20 >= tokens * 19 && plausible * 20 < tokens * 19;
  }
};
ScaleCensus census(const Workload& w) {
  const i64 dim = w.head_dim();
  ScaleCensus result;
  for_used_slots(w, [&](i64 slot) {
    ++result.tokens;
    result.plausible += plausible_scale(load_f32(scale_bytes(w, slot))) ? 1 : 0;
    const std::byte* interleaved = w.k_pages.storage.data() + slot * (dim + kScaleBytes) + dim;
    result.plausible_interleaved += plausible_scale(load_f32(interleaved)) ? 1 : 0;
  });
  return result;
}

constexpr std::string_view kInterleaved =
    "the pages look as if each token's scale followed its values; a page is page_size * D FP8 bytes, then page_size "
    "scales";

// The metadata key that says how the four bytes of a scale are read, and its values.
constexpr const char* kScaleFormat = "k_scale_format";
constexpr const char* kF32Scales = "f32";
constexpr const char* kE8m0Scales = "ue8m0x4";

/// The value of a scale that is stored as four equal UE8M0 bytes, as matrix units that want one for every 32 numbers
/// are given it. Nothing when the bytes differ.
std::optional<float> four_equal_e8m0(const std::byte* bytes) {
  if (bytes[0] != bytes[1] || bytes[0] != bytes[2] || bytes[0] != bytes[3]) return std::nullopt;
  return e8m0_to_float(static_cast<u8>(bytes[0]));
}

/// True when every scale is four equal bytes that make sense as UE8M0. None of those bytes makes sense as f32: 0x57 to
/// 0x92 are 2^-40 to 2^19 as UE8M0 and above 2^47, or negative, as f32.
bool looks_like_e8m0(const Workload& w) {
  bool any = false, all = true;
  for_used_slots(w, [&](i64 slot) {
    const std::optional<float> scale = four_equal_e8m0(scale_bytes(w, slot));
    any = true;
    all = all && scale && plausible_scale(*scale);
  });
  return any && all;
}

/// Makes f32 of scales that are four equal UE8M0 bytes: when the metadata says so, and with a warning when it says
/// nothing and they cannot be anything else. The windows and the block table are right already.
void read_scales(Workload& w, const std::string& where, std::vector<Warning>* warnings) {
  if (!has_scales(w)) return;
  const auto stated = w.metadata.find(kScaleFormat);
  const bool said = stated != w.metadata.end() && stated->second == kE8m0Scales;
  if (!said && (stated != w.metadata.end() || !looks_like_e8m0(w))) return;
  std::vector<bool> done(static_cast<std::size_t>(w.keys()), false);
  std::byte* storage = w.paged() ? w.k_pages.storage.data() : w.k_scale.storage.data();
  for_used_slots(w, [&](i64 slot) {
    if (done[static_cast<std::size_t>(slot)]) return;  // sequences share pages
    done[static_cast<std::size_t>(slot)] = true;
    const std::byte* bytes = scale_bytes(w, slot);
    const std::optional<float> scale = four_equal_e8m0(bytes);
    if (!scale) {
      reject("MP-E254", "the four UE8M0 bytes of the scale differ: one for every 32 numbers of the key",
             scale_place(w, slot, where), "keys with one scale each: quantise them again in groups of D");
    }
    std::memcpy(storage + (bytes - storage), &*scale, sizeof *scale);
  });
  w.metadata[kScaleFormat] = kF32Scales;
  if (!said && warnings != nullptr) {
    warnings->push_back({"MP-W020",
                         fmt::format("every key scale is four equal bytes that make no sense as f32: they are read as "
                                     "UE8M0, 2^(byte - 127); say {} = {} or {} in the metadata",
                                     kScaleFormat, kE8m0Scales, kF32Scales),
                         where});
  }
}

/// The windows and the block table are right already.
void check_scales(const Workload& w, const std::string& where) {
  if (!has_scales(w)) return;
  // The bytes of a page have no dtype of their own: a scale out of all proportion is another layout.
  const bool in_doubt = w.paged() && w.metadata.count(kScaleFormat) == 0;
  for_used_slots(w, [&](i64 slot) {
    const float scale = load_f32(scale_bytes(w, slot));
    const auto hint = [&] { return w.paged() && census(w).looks_interleaved(); };
    if (!good_scale(scale)) {
      reject("MP-E220", fmt::format("the scale is {}, must be finite and above 0", scale), scale_place(w, slot, where),
             hint() ? std::string(kInterleaved) : kRecordAgain);
    }
    if (in_doubt && (scale < kLeastScale || scale > kLargestScale)) {
      reject("MP-E253", fmt::format("the scale is {:g}, and no quantiser writes one below 2^-64 or above 2^32", scale),
             scale_place(w, slot, where),
             hint()
                 ? std::string(kInterleaved)
                 : fmt::format("pages of page_size * D FP8 bytes and then page_size f32 scales, or {} in the metadata",
                               kScaleFormat));
    }
  });
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

void check_pages(const Workload& w, const std::string& where) {
  const i64 dim = w.head_dim();
  const bool fp8 = w.k_pages.dtype == Dtype::uint8;
  const i64 token_bytes = fp8 ? dim : dim * dtype_size(w.k_pages.dtype);
  const i64 page_bytes = w.k_pages.bytes() / w.k_pages.shape[0];
  for_used_pages(w, [&](i64, i64, i64 page, i64 used) {
    const std::byte* data = w.k_pages.storage.data() + page * page_bytes;
    const i64 bad = find_bad(fp8 ? kNanE4m3 : non_finite(w.k_pages.dtype), data, used * token_bytes);
    if (bad >= 0) {
      reject("MP-E221", fmt::format("element {} is {}", bad % dim, fp8 ? "an FP8 NaN" : "not finite"),
             fmt::format("{}, page {}, token {}", at(where, "k_pages"), page, bad / dim), kRecordAgain);
    }
  });
}

/// The rows that a tensor [R, ...] belongs to: distinct and in range.
void check_row_numbers(const std::vector<i32>& numbers, i64 expected, i64 rows, std::string_view name,
                       const std::string& where) {
  expect_length(numbers.size(), expected, name, "[R]", where);
  std::vector<bool> seen(static_cast<std::size_t>(rows), false);
  for (i32 row : numbers) {
    if (row < 0 || row >= rows) {
      reject("MP-E244", fmt::format("row {} is out of range, there are {}", row, rows), at(where, name),
             "rows of this trace's q, from 0");
    }
    if (seen[static_cast<std::size_t>(row)]) {
      reject("MP-E244", fmt::format("row {} is named twice", row), at(where, name), "each row once");
    }
    seen[static_cast<std::size_t>(row)] = true;
  }
}

void check_topk(const Workload& w, const std::string& where) {
  check_row_numbers(w.topk_row, w.topk.shape[0], w.rows(), "topk_row", where);
  const auto row_of = [&](i64 r) { return static_cast<std::size_t>(w.topk_row[static_cast<std::size_t>(r)]); };
  check_ids(
      {"topk", "token", false}, w.topk.span<i32>(), w.topk.shape[0], where,
      [&](i64 r) { return i64{w.ke[row_of(r)]} - w.ks[row_of(r)]; },
      [&](i64 r, i64 id, i64 limit) {
        if (id >= tokens_of(w) - w.ks[row_of(r)]) {
          reject(
              "MP-E241",
              fmt::format("token {} is out of range: {} keys, the row begins at {}", id, tokens_of(w), w.ks[row_of(r)]),
              at_row(where, "topk", r), "ids count from the row's ks");
        }
        reject("MP-E242", fmt::format("token {} is not causal: the row sees {}", id, limit), at_row(where, "topk", r),
               "ids count from the row's ks");
      });
}

// ---------------------------------------------------------------------------------------------------------------
// The rest

void check_attention_mass(const Workload& w, const std::string& where) {
  check_row_numbers(w.attention_mass_row, w.attention_mass.shape[0], w.rows(), "attention_mass_row", where);
  const std::span<const F16> mass = w.attention_mass.span<F16>();
  const i64 columns = w.attention_mass.shape[1];
  const auto refuse = [&](i64 i) {
    reject("MP-E246",
           fmt::format("token {} has the mass {}, must be finite and not negative", i % columns, to_float(mass[i])),
           at_row(where, "attention_mass", i / columns), "probabilities after the softmax, as F16");
  };
  if (const i64 bad = find_bad(kNonFiniteF16, w.attention_mass.storage.data(), w.attention_mass.bytes()); bad >= 0) {
    refuse(bad);
  }
  const i64 first = find_bad(kSignF16, w.attention_mass.storage.data(), w.attention_mass.bytes());
  for (i64 i = first; i >= 0 && i < static_cast<i64>(mass.size()); ++i) {
    if (mass[i].bits > 0x8000u) refuse(i);  // -0 is a zero
  }
}

void check_needles(const Workload& w, const std::string& where) {
  const i64 tokens = tokens_of(w);
  // Rows after the last key end before the next one would be complete.
  const i64 positions = (tokens + 1) * compress_ratio(w) - 1;
  const auto inside = [](i64 start, i64 length, i64 count) {
    return start >= 0 && length >= 1 && start + length <= count;
  };
  for (std::size_t i = 0; i < w.needles.size(); ++i) {
    const Needle& needle = w.needles[i];
    if (!inside(needle.start, needle.length, tokens)) {
      reject("MP-E245",
             fmt::format("the needle has {} tokens from {} on, there are {}", needle.length, needle.start, tokens),
             at_row(where, "needle", static_cast<i64>(i)), kNeedleColumns);
    }
    if (!inside(needle.question_start, needle.question_length, positions)) {
      reject("MP-E245",
             fmt::format("the question has {} positions from {} on, there are {}", needle.question_length,
                         needle.question_start, positions),
             at_row(where, "needle", static_cast<i64>(i)), kNeedleColumns);
    }
    const bool none = needle.answer_start == 0 && needle.answer_length == 0;
    const i64 answer_end = i64{needle.answer_start} + needle.answer_length;
    if (!none && (needle.answer_length < 1 || needle.answer_start < needle.start ||
                  answer_end > i64{needle.start} + needle.length)) {
      reject("MP-E245",
             fmt::format("the answer has {} tokens from {} on, the needle {} from {} on", needle.answer_length,
                         needle.answer_start, needle.length, needle.start),
             at_row(where, "needle", static_cast<i64>(i)), "an answer inside its needle; 0, 0 where it is not known");
    }
  }
}

void check_metadata(const Workload& w, const std::string& where) {
  const std::string place = where + ", metadata";
  for (const char* key : {"k_quant", "q_quant"}) {
    const auto found = w.metadata.find(key);
    if (found == w.metadata.end()) continue;
    std::string text = found->second;
    std::transform(text.begin(), text.end(), text.begin(), [](char c) { return c >= 'A' && c <= 'Z' ? c + 32 : c; });
    if (text.find("fnuz") != std::string::npos) {
      reject("MP-E207", fmt::format("{} is {}: FNUZ codes mean half of what e4m3fn codes mean", key, quote(text)),
             place, "convert the values to e4m3fn when recording");
    }
  }
  if (const auto found = w.metadata.find("provenance"); found != w.metadata.end()) {
    if (std::find(kProvenances.begin(), kProvenances.end(), found->second) == kProvenances.end()) {
      reject("MP-E213", "unknown provenance " + quote(found->second), place,
             fmt::format("{}", fmt::join(kProvenances, ", ")));
    }
  }
  if (const auto found = w.metadata.find(kScaleFormat);
      found != w.metadata.end() && found->second != kF32Scales && found->second != kE8m0Scales) {
    reject("MP-E213", fmt::format("{} is {}", kScaleFormat, quote(found->second)), place,
           fmt::format("{} or {}", kF32Scales, kE8m0Scales));
  }
  if (const auto found = w.metadata.find("topk_arithmetic");
      found != w.metadata.end() && !find_arithmetic(found->second)) {
    std::vector<std::string_view> known;
    for (const Arithmetic& arithmetic : arithmetics()) known.push_back(arithmetic.name);
    reject("MP-E213", "unknown topk_arithmetic " + quote(found->second), place,
           fmt::format("{}, or no such key", fmt::join(known, ", ")));
  }
  (void)metadata_number(w.metadata, "index_n_heads", where);
  const std::optional<i64> dim = metadata_number(w.metadata, "index_head_dim", where);
  if (dim && *dim != w.head_dim()) {
    reject("MP-E213", fmt::format("index_head_dim is {}, q has the head dimension {}", *dim, w.head_dim()), place,
           fmt::format("index_head_dim = {}", w.head_dim()));
  }
  const std::optional<i64> top_k = metadata_number(w.metadata, "index_topk", where);
  if (top_k && !w.topk.shape.empty() && w.topk.shape[1] > *top_k) {
    reject("MP-E247", fmt::format("{} tokens per row are recorded, index_topk is {}", w.topk.shape[1], *top_k),
           at(where, "topk"), fmt::format("index_topk = {}", w.topk.shape[1]));
  }
}

void collect_warnings(const Workload& w, const std::string& where, std::vector<Warning>& warnings) {
  if (w.metadata.count("provenance") == 0) {
    warnings.push_back({"MP-W030",
                        fmt::format("the metadata does not say the provenance ({})", fmt::join(kProvenances, ", ")),
                        where});
  }
  if (const auto heads = metadata_number(w.metadata, "index_n_heads", where); heads && *heads != w.heads()) {
    warnings.push_back(
        {"MP-W031", fmt::format("index_n_heads is {}, q has {} heads: were heads padded?", *heads, w.heads()), where});
  }
  if (w.paged() && has_scales(w) && census(w).looks_interleaved()) {
    warnings.push_back({"MP-W032", std::string(kInterleaved), where});
  }
}

std::vector<i32> all_rows(i64 rows) {
  std::vector<i32> numbers(static_cast<std::size_t>(rows));
  for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = static_cast<i32>(i);
  return numbers;
}

/// Values and windows; the shapes are right already.
void check_values(const Workload& w, const std::string& where) {
  check_metadata(w, where);
  if (w.paged()) {
    check_seq_lens(w, where);
    const RowWindows windows = paged_windows(w);
    check_same_rows(w.ks, windows.ks, "ks", where);
    check_same_rows(w.ke, windows.ke, "ke", where);
    check_same_rows(w.q_pos, windows.q_pos, "q_pos", where);
    check_same_rows(w.sequence, windows.sequence, "sequence", where);
    check_block_table(w, where);
    check_scales(w, where);  // of all keys before the numbers of any: a wrong layout is best seen by its scales
    check_pages(w, where);
  } else {
    check_contiguous_windows(w, where);
    check_scales(w, where);
    for_seen_keys(w, [&](i64 first, i64 last) { check_finite(w.k, first, last, "MP-E221", "k", where); });
  }
  check_finite(w.q, "MP-E221", "q", where);
  check_finite(w.weights, "MP-E222", "weights", where);
  const auto check_sign = [&](const HostTensor& tensor, std::string_view name, bool zero_allowed) {
    const std::span<const float> values = tensor.span<float>();
    const auto bad = std::find_if_not(values.begin(), values.end(), [&](float value) {
      return std::isfinite(value) && (value > 0 || (zero_allowed && value == 0));
    });
    if (bad == values.end()) return;
    const i64 i = bad - values.begin();
    reject("MP-E223",
           fmt::format("head {} has {}, must be finite and {} 0", i % w.heads(), *bad,
                       zero_allowed ? "at least" : "above"),
           at_row(where, name, i / w.heads()), kRecordAgain);
  };
  if (!w.q_scale.shape.empty()) check_sign(w.q_scale, "q_scale", false);
  if (!w.q_norm.shape.empty()) check_sign(w.q_norm, "q_norm", true);
  if (!w.attention_mass.shape.empty()) check_attention_mass(w, where);
  check_needles(w, where);
  if (!w.topk.shape.empty()) check_topk(w, where);
}

std::string stem(const std::string& path) { return std::filesystem::path(path).stem().string(); }

}  // namespace

void check_workload(const Workload& workload, const std::string& where) {
  check_shapes(workload, where);
  if (workload.paged() && workload.next_n * workload.seq_lens.shape[0] != workload.rows()) {
    reject("MP-E236",
           fmt::format("next_n is {}, {} rows of {} sequences were given", workload.next_n, workload.rows(),
                       workload.seq_lens.shape[0]),
           where, "next_n rows for every sequence");
  }
  check_values(workload, where);
}

void check_unseen_keys(const Workload& w, const std::string& where) {
  if (w.paged()) return;
  const i64 bad = find_bad(non_finite(w.k.dtype), w.k.storage.data(), w.k.bytes());
  i64 key = bad < 0 ? w.keys() : bad / w.head_dim();
  const std::span<const float> scales = w.k_scale.span<float>();
  const auto bad_scale = std::find_if_not(scales.begin(), scales.end(), good_scale);
  key = std::min<i64>(key, bad_scale == scales.end() ? w.keys() : bad_scale - scales.begin());
  if (key == w.keys()) return;
  reject("MP-E255", fmt::format("key {} holds no number; no row sees it, but --block-window upstream averages it", key),
         at(where, "k"), "--block-window visible");
}

Workload read_trace(const std::string& path, i64 max_bytes, std::vector<Warning>* warnings) {
  const InputFile file(path);
  const trace::TensorReader reader(file, trace::FileKind::trace, max_bytes);
  reader.check_budget({"k", "k_scale", "q", "weights", "q_pos", "ks", "ke", "q_scale", "q_norm", "k_pages",
                       "block_table", "seq_lens", "attention_mass", "attention_mass_row", "needle", "topk",
                       "topk_row"});

  Workload w;
  w.name = stem(path);
  w.metadata = reader.metadata();
  w.q = reader.tensor("q");
  w.weights = reader.tensor("weights");
  w.q_scale = reader.tensor("q_scale");
  w.q_norm = reader.tensor("q_norm");
  w.k = reader.tensor("k");
  w.k_scale = reader.scales("k_scale");
  w.k_pages = reader.tensor("k_pages");
  w.block_table = reader.tensor("block_table");
  w.seq_lens = reader.tensor("seq_lens");
  w.q_pos = reader.integers("q_pos");
  w.ks = reader.integers("ks");
  w.ke = reader.integers("ke");
  w.attention_mass = reader.tensor("attention_mass");
  w.attention_mass_row = reader.integers("attention_mass_row");
  w.topk = reader.tensor("topk");
  w.topk_row = reader.integers("topk_row");
  const HostTensor needles = reader.tensor("needle");
  file.check_unchanged();

  if (!needles.shape.empty()) {
    const bool answers = needles.shape[1] == 6;
    if (!answers) expect_shape(needles, {needles.shape[0], 4}, "needle", "[n, 4] or [n, 6]", path);
    const std::span<const i32> values = needles.span<i32>();
    for (std::size_t i = 0; i < values.size(); i += answers ? 6 : 4) {
      Needle& needle = w.needles.emplace_back();
      needle = {values[i], values[i + 1], values[i + 2], values[i + 3]};
      if (answers) needle.answer_start = values[i + 4];
      if (answers) needle.answer_length = values[i + 5];
    }
  }
  check_shapes(w, path);

  for (std::string_view name : {"attention_mass", "topk"}) {
    if (reader.has(std::string(name) + "_row") && !reader.has(name)) {
      reject("MP-E209", fmt::format("it names the rows of '{}', which is not there", name),
             at(path, std::string(name) + "_row"), fmt::format("'{}' with it, or neither", name));
    }
  }
  // Without row numbers, a tensor of rows has one for every query.
  if (!w.attention_mass.shape.empty() && !reader.has("attention_mass_row")) w.attention_mass_row = all_rows(w.rows());
  if (!w.topk.shape.empty() && !reader.has("topk_row")) w.topk_row = all_rows(w.rows());

  if (w.paged()) {
    check_seq_lens(w, path);
    w.next_n = w.rows() / w.seq_lens.shape[0];
    RowWindows windows = paged_windows(w);
    w.sequence = std::move(windows.sequence);
    if (!reader.has("ks")) w.ks = std::move(windows.ks);
    if (!reader.has("ke")) w.ke = std::move(windows.ke);
    if (!reader.has("q_pos")) w.q_pos = std::move(windows.q_pos);
    check_block_table(w, path);
  } else {
    for (const char* name : {"q_pos", "ks", "ke"}) {
      if (!reader.has(name)) missing(name, path, "contiguous keys need q_pos, ks and ke [Q]");
    }
    w.sequence = sequences_of(w.ks);
    check_contiguous_windows(w, path);
  }
  read_scales(w, path, warnings);
  check_values(w, path);
  if (warnings != nullptr) collect_warnings(w, path, *warnings);
  return w;
}

void write_trace(const std::string& path, const Workload& w) {
  check_workload(w, fmt::format("workload '{}'", w.name));
  std::map<std::string, std::string> metadata = w.metadata;
  metadata["format"] = trace::kFormat;
  metadata.erase("kind");

  std::vector<SafetensorsTensor> tensors;
  const auto add = [&](const char* name, const HostTensor& tensor) {
    if (!tensor.shape.empty()) tensors.emplace_back(name, tensor);
  };
  const auto add_row = [&](const char* name, const std::vector<i32>& values) {
    tensors.emplace_back(name, std::span<const i32>(values), std::vector<i64>{static_cast<i64>(values.size())});
  };
  add("q", w.q);
  add("weights", w.weights);
  add("q_scale", w.q_scale);
  add("q_norm", w.q_norm);
  add("k", w.k);
  add("k_scale", w.k_scale);
  add("k_pages", w.k_pages);
  add("block_table", w.block_table);
  add("seq_lens", w.seq_lens);
  add_row("q_pos", w.q_pos);
  add_row("ks", w.ks);
  add_row("ke", w.ke);
  add("attention_mass", w.attention_mass);
  if (!w.attention_mass.shape.empty() && w.attention_mass_row != all_rows(w.rows())) {
    add_row("attention_mass_row", w.attention_mass_row);
  }
  add("topk", w.topk);
  if (!w.topk.shape.empty()) add_row("topk_row", w.topk_row);
  const bool answers = std::any_of(w.needles.begin(), w.needles.end(), [](const Needle& n) { return n.has_answer(); });
  std::vector<i32> needles;
  for (const Needle& n : w.needles) {
    needles.insert(needles.end(), {n.start, n.length, n.question_start, n.question_length});
    if (answers) needles.insert(needles.end(), {n.answer_start, n.answer_length});
  }
  if (!needles.empty()) {
    tensors.emplace_back("needle", std::span<const i32>(needles),
                         std::vector<i64>{static_cast<i64>(w.needles.size()), answers ? 6 : 4});
  }
  write_safetensors(path, metadata, std::move(tensors));
}

}  // namespace misa
