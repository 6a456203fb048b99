#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <span>
#include <string_view>

#include "core/base/error.hpp"
#include "core/base/interrupt.hpp"
#include "core/base/suggest.hpp"
#include "core/indexer/arithmetic.hpp"
#include "core/workload/block_scales.hpp"
#include "core/workload/key_layout.hpp"
#include "core/workload/key_scales.hpp"
#include "core/workload/trace.hpp"
#include "core/workload/trace_format.hpp"
#include "core/workload/windows.hpp"
#include "core/workload/workload_fields.hpp"

namespace misa {
namespace trace {
namespace {

constexpr i64 kMaxHeads = 128;
constexpr std::array<i64, 4> kHeadDims{32, 64, 128, 256};
constexpr const char* kNeedleColumns =
    "tokens and positions from 0: start, length; start, length of the question; start, length of the answer";

// ---------------------------------------------------------------------------------------------------------------
// Shapes

/// Checks tensors against their rules. The first tensor with an axis says how many there are of what it counts; a later
/// one must agree. R and k belong to one tensor only.
class Extents {
 public:
  explicit Extents(const std::string& where) : where_(where) {}

  void set(char axis, i64 extent) { extents_[axis] = extent; }
  i64 operator[](char axis) const { return extents_.at(axis); }

  void check(const HostTensor& tensor, std::string_view name, std::string_view axes, const Spellings& dtypes) {
    Spellings read = dtypes;
    std::replace(read.begin(), read.end(), dtype_name(Dtype::e8m0), std::string_view());  // another once it is read
    expect_dtype(dtype_name(tensor.dtype), read, at(where_, name));
    if (tensor.shape.size() != axes.size()) disagrees(tensor, name, axes);
    for (std::size_t i = 0; i < axes.size(); ++i) {
      const char axis = axes[i];
      const i64 extent = tensor.shape[i];
      const auto known = extents_.find(axis);
      if (known == extents_.end() || extent < 1) check_extent(axis, extent, name);
      if (known != extents_.end() && known->second != extent) disagrees(tensor, name, axes);
      if (axis != 'R' && axis != 'k') extents_.emplace(axis, extent);
    }
  }

 private:
  void check_extent(char axis, i64 extent, std::string_view name) const {
    if (axis == 'H' && (extent < 1 || extent > kMaxHeads)) {
      reject("MP-E210", fmt::format("{} heads, must be 1 to {}", extent, kMaxHeads), at(where_, name),
             "q as [rows, heads, head dimension]");
    }
    if (axis == 'D' && std::find(kHeadDims.begin(), kHeadDims.end(), extent) == kHeadDims.end()) {
      reject("MP-E211", fmt::format("head dimension {}, must be {}", extent, fmt::join(kHeadDims, ", ")),
             at(where_, name), "zeros after the numbers of q and k up to the next of these: they change no score");
    }
    expect_count(extent, axis_of(axis).counts, name, where_);
  }

  [[noreturn]] void disagrees(const HostTensor& tensor, std::string_view name, std::string_view axes) const {
    std::vector<std::string> letters, numbers;
    for (const char axis : axes) {
      const auto known = extents_.find(axis);
      letters.emplace_back(axis_of(axis).symbol);
      numbers.push_back(known == extents_.end() ? letters.back() : std::to_string(known->second));
    }
    const std::string text = fmt::format("[{}]", fmt::join(letters, ", "));
    reject("MP-E208",
           fmt::format("the shape is {}, must be {}{}", shape_text(tensor.shape), text,
                       letters == numbers ? "" : fmt::format(" = [{}]", fmt::join(numbers, ", "))),
           at(where_, name), kReshape);
  }

  const std::string& where_;
  std::map<char, i64> extents_;
};

bool has(const HostTensor& tensor) { return !tensor.shape.empty(); }

/// Refuses tensors that are missing, or that the form of the keys excludes.
void check_presence(const Workload& w, const std::string& where) {
  if (!has(w.q)) missing("q", where, "the queries [Q, H, D]");
  if (!has(w.weights)) missing("weights", where, "the weights [Q, H], all scales of the query folded in");
  if (!has(w.k) && !has(w.k_pages)) missing("k", where, "the keys [N, D], or k_pages with block_table and seq_lens");
  if (has(w.k) && has(w.k_pages)) {
    reject("MP-E209", "both 'k' and 'k_pages' are there: keys are contiguous or paged", where, "two files");
  }
  check_packing(w.q, "q", w.q_block_scale, where);
  if (has(w.k_pages)) {
    for (const auto& [name, tensor] :
         {std::pair("k_scale", &w.k_scale), std::pair("k_block_scale", &w.k_block_scale)}) {
      if (!has(*tensor)) continue;
      reject("MP-E209", "the scales of k_pages lie inside its pages", at(where, name),
             fmt::format("no {}, or k in place of k_pages", name));
    }
    if (!has(w.block_table)) missing("block_table", where, "k_pages needs the pages of each sequence");
    if (!has(w.seq_lens)) missing("seq_lens", where, "k_pages needs the tokens of each sequence");
    return;
  }
  check_packing(w.k, "k", w.k_block_scale, where);
  const bool scaled = w.k.dtype == Dtype::e4m3 || w.k.dtype == Dtype::int8;
  if (scaled && !has(w.k_scale))
    missing("k_scale", where, "FP8 and INT8 keys need their scales [N], MXFP4 keys k_block_scale");
  if (!scaled && has(w.k_scale)) {
    reject("MP-E209", fmt::format("'k' is {} and has no scales of whole keys", dtype_name(w.k.dtype)),
           at(where, "k_scale"), w.k.dtype == Dtype::e2m1 ? "no k_scale" : "multiply them into k");
  }
  if (has(w.block_table)) {
    reject("MP-E209", "a block table belongs to k_pages", at(where, "block_table"),
           "k_pages in place of k, or no block_table");
  }
  if (has(w.seq_lens)) {
    reject("MP-E209", "seq_lens belong to k_pages", at(where, "seq_lens"), "k_pages in place of k, or no seq_lens");
  }
}

// ---------------------------------------------------------------------------------------------------------------
// Values

/// Index of the first number whose bits without the sign are at least `least`, or -1.
template <class Bits>
i64 find_from(const std::byte* data, i64 count, Bits magnitude, Bits least) {
  constexpr i64 kBlock = 1 << 12;  // a constant, so that the loop over a whole block becomes vector code
  const Bits* bits = reinterpret_cast<const Bits*>(data);
  const auto is_bad = [=](Bits value) { return (value & magnitude) >= least; };
  for (i64 begin = 0; begin < count; begin += kBlock) {
    if (begin % (i64{1} << 24) == 0) stop_if_interrupted();
    Bits seen = count - begin < kBlock ? 1 : 0;
    if (seen == 0) {
      for (i64 i = 0; i < kBlock; ++i) seen |= static_cast<Bits>(is_bad(bits[begin + i]));
    }
    if (seen == 0) continue;
    const Bits* end = bits + std::min(begin + kBlock, count);
    const Bits* found = std::find_if(bits + begin, end, is_bad);
    if (found != end) return found - bits;
  }
  return -1;
}

/// Index of the first of `count` numbers that is a NaN or infinite, or -1; of INT8 and MXFP4 none is by itself. Ends by
/// Interrupted.
i64 find_not_finite(Dtype dtype, const std::byte* data, i64 count) {
  switch (dtype) {
    case Dtype::int8:
    case Dtype::e2m1: return -1;
    case Dtype::e4m3: return find_from<u8>(data, count, 0x7F, 0x7F);
    case Dtype::bf16: return find_from<u16>(data, count, 0x7FFF, 0x7F80);
    default: return find_from<u32>(data, count, 0x7FFFFFFF, 0x7F800000);
  }
}

bool is_no_mass(F16 value) { return value.bits >= 0x7C00u && value.bits != 0x8000u; }  // -0 is a zero

/// Throws for the first number in rows [first, last) of `tensor` ([rows, ...]) that is not finite.
void check_finite(const HostTensor& tensor, i64 first, i64 last, const std::string& id, std::string_view name,
                  const std::string& where) {
  const i64 width = tensor.size() / tensor.shape[0], row_bytes = tensor.bytes() / tensor.shape[0];
  const i64 found = find_not_finite(tensor.dtype, tensor.storage.data() + first * row_bytes, (last - first) * width);
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

void check_pages(const Workload& w, const std::string& where) {
  const i64 dim = w.head_dim();
  const KeyLayout layout = key_layout(w);
  for_used_pages(w, [&](i64, i64, i64 page, i64 used) {
    const std::byte* data = w.k_pages.storage.data() + layout.values_at(page * layout.page_size);
    const i64 bad = find_not_finite(layout.dtype, data, used * dim);
    if (bad >= 0) {
      reject("MP-E221",
             fmt::format("element {} is {}", bad % dim, layout.dtype == Dtype::e4m3 ? "an FP8 NaN" : "not finite"),
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
        if (id >= window_keys(w) - w.ks[row_of(r)]) {
          reject("MP-E241",
                 fmt::format("token {} is out of range: {} keys, the row begins at {}", id, window_keys(w),
                             w.ks[row_of(r)]),
                 at_row(where, "topk", r), "ids count from the row's ks");
        }
        reject("MP-E242", fmt::format("token {} is not causal: the row sees {}", id, limit), at_row(where, "topk", r),
               "ids count from the row's ks");
      });
}

void check_candidates(const Workload& w, const std::string& where) {
  if (w.candidates.shape.empty()) {
    if (w.candidate_length == 1) return;
    reject("MP-E566", fmt::format("{} is {}, and there are no candidates", kCandidateLength, w.candidate_length),
           where + ", metadata", "the tensor candidates [Q, R] with it, or neither");
  }
  const auto row_of = [](i64 row) { return static_cast<std::size_t>(row); };
  check_ids(
      {"candidates", "candidate", true}, w.candidates.span<i32>(), w.rows(), where,
      [&](i64 row) { return ceil_div(w.ke[row_of(row)] - w.ks[row_of(row)], w.candidate_length); },
      [&](i64 row, i64 id, i64 limit) {
        const std::string unit = w.candidate_length == 1 ? "" : fmt::format(" runs of {}", w.candidate_length);
        reject("MP-E242", fmt::format("candidate {} is not causal: the row sees {}{}", id, limit, unit),
               at_row(where, "candidates", row), "ids count from the row's ks, in runs of candidate_length");
      });
}

void check_attention_mass(const Workload& w, const std::string& where) {
  check_row_numbers(w.attention_mass_row, w.attention_mass.shape[0], w.rows(), "attention_mass_row", where);
  const std::span<const F16> mass = w.attention_mass.span<F16>();
  const i64 columns = w.attention_mass.shape[1];
  const auto bad = std::find_if(mass.begin(), mass.end(), is_no_mass);
  if (bad == mass.end()) return;
  const i64 i = bad - mass.begin();
  reject("MP-E246",
         fmt::format("token {} has the mass {}, must be finite and not negative", i % columns, to_float(*bad)),
         at_row(where, "attention_mass", i / columns), "probabilities after the softmax, as F16");
}

void check_needles(const Workload& w, const std::string& where) {
  const i64 tokens = window_keys(w);
  // Rows after the last key end before the next one would be complete.
  const i64 positions = (tokens + 1) * w.compress_ratio - 1;
  const auto inside = [](i64 start, i64 length, i64 count) {
    return start >= 0 && length >= 1 && start + length <= count;
  };
  for (std::size_t i = 0; i < w.needles.size(); ++i) {
    const Needle& needle = w.needles[i];
    const std::string place = at_row(where, "needle", static_cast<i64>(i));
    const auto check = [&](std::string_view what, i64 start, i64 length, i64 count) {
      if (inside(start, length, count)) return;
      reject("MP-E245",
             fmt::format("the {} from {} on, there are {}", fmt::format(fmt::runtime(what), length), start, count),
             place, kNeedleColumns);
    };
    check("needle has {} tokens", needle.start, needle.length, tokens);
    check("question has {} positions", needle.question_start, needle.question_length, positions);
    const bool none = needle.answer_start == 0 && needle.answer_length == 0;
    const i64 answer_end = i64{needle.answer_start} + needle.answer_length;
    if (!none && (needle.answer_length < 1 || needle.answer_start < needle.start ||
                  answer_end > i64{needle.start} + needle.length)) {
      reject("MP-E245",
             fmt::format("the answer has {} tokens from {} on, the needle {} from {} on", needle.answer_length,
                         needle.answer_start, needle.length, needle.start),
             place, "an answer inside its needle; 0, 0 where it is not known");
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
  if (const auto found = w.metadata.find(kPagesDtype); found != w.metadata.end() && found->second != kInt8Pages) {
    reject("MP-E213", fmt::format("{} is {}", kPagesDtype, quote(found->second)), place,
           fmt::format("{}, or no such key: FP8 and MXFP4 are told by their bytes", kInt8Pages));
  }
  if (const auto found = w.metadata.find("topk_arithmetic");
      found != w.metadata.end() && !find_arithmetic(found->second)) {
    reject("MP-E213", "unknown topk_arithmetic " + quote(found->second), place,
           fmt::format("{}, or no such key", fmt::join(names_of(arithmetics()), ", ")));
  }
  for (const char* key : {"index_n_heads", "index_init_tokens", "index_local_tokens"}) {
    (void)metadata_number(w.metadata, key, where);
  }
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

/// Values and windows; the shapes are right already.
void check_values(const Workload& w, const std::string& where) {
  check_metadata(w, where);
  check_windows(w, where);
  check_scales(w, where);  // before the numbers of any key: a wrong layout is best seen by its scales
  if (w.paged()) {
    check_pages(w, where);
  } else {
    for_seen_keys(w, [&](i64 first, i64 last) { check_finite(w.k, first, last, "MP-E221", "k", where); });
  }
  check_finite(w.q, "MP-E221", "q", where);
  check_blocks(w, where);
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
  check_candidates(w, where);
}

}  // namespace

void check_shapes(const Workload& w, const std::string& where) {
  check_presence(w, where);
  Extents extents(where);
  const auto check = [&](bool judging) {
    visit_fields([&](const WorkloadField& field, auto member) {
      if constexpr (std::is_same_v<decltype(member), HostTensor Workload::*>) {
        const HostTensor& tensor = w.*member;
        if ((field.use == Use::judging) != judging || tensor.shape.empty()) return;
        const std::string_view shape = field.tensor.shape;
        // An entry of a page is a key and its scales, if it has any.
        const bool plain = shape == "PTS" && tensor.dtype != Dtype::uint8 && tensor.dtype != Dtype::int8;
        if (shape == "PTS" && !plain && tensor.shape.size() == 3) {
          const KeyLayout layout = key_layout(page_dtype(tensor.dtype, extents['D'], tensor.shape[2]), extents['D'], 0);
          extents.set('S', layout.value_bytes + layout.scale_bytes);
        }
        extents.check(tensor, field.tensor.name, plain ? "PTD" : shape, field.tensor.dtypes);
        if (field.tensor.name == "q") extents.set('W', Mxfp4::scale_words(extents['D']));
      }
    });
  };
  check(false);
  if (w.paged()) {
    expect_count(w.keys(), "keys", "k_pages", where);
    if (extents['C'] > kMaxIndex / w.page_size()) {
      expect_count(extents['C'] * w.page_size(), "tokens per sequence", "block_table", where);
    }
    if (w.rows() % extents['B'] != 0) {
      reject("MP-E236", fmt::format("{} query rows do not divide among {} sequences", w.rows(), extents['B']),
             at(where, "q"), "next_n rows for every sequence");
    }
  }
  check_pair(w.q.dtype, key_layout(w).dtype, where);
  extents.set('A', window_keys(w));
  check(true);
}

}  // namespace trace

void check_workload(const Workload& workload, const std::string& where) {
  trace::check_shapes(workload, where);
  if (workload.paged() && workload.next_n * workload.seq_lens.shape[0] != workload.rows()) {
    trace::reject("MP-E236",
                  fmt::format("next_n is {}, {} rows of {} sequences were given", workload.next_n, workload.rows(),
                              workload.seq_lens.shape[0]),
                  where, "next_n rows for every sequence");
  }
  trace::check_values(workload, where);
}

void check_unseen_keys(const Workload& w, const std::string& where) {
  if (w.paged()) return;
  const i64 bad = trace::find_not_finite(w.k.dtype, w.k.storage.data(), w.k.size());
  i64 key = bad < 0 ? w.keys() : bad / w.head_dim();
  const std::span<const float> scales = w.k_scale.span<float>();
  const auto bad_scale = std::find_if_not(scales.begin(), scales.end(), trace::good_scale);
  key = std::min<i64>(key, bad_scale == scales.end() ? w.keys() : bad_scale - scales.begin());
  if (w.k.dtype == Dtype::e2m1) key = std::min(key, trace::first_bad_key(w));
  if (key == w.keys()) return;
  trace::reject("MP-E255",
                fmt::format("key {} holds no number; no row sees it, but --block-window upstream averages it", key),
                trace::at(where, "k"), "--block-window visible");
}

}  // namespace misa
