#pragma once

#include <optional>
#include <variant>

#include "core/tensor/vectors.hpp"

namespace misa {

/// Values that a stack may hand to an indexer. FP8 and INT8 never come without scales of whole vectors; MXFP4 has those
/// of its blocks in the view. MXFP4 queries go with MXFP4 keys and the other way round; all others mix.
using Values = std::variant<Vectors<float>, Vectors<Bf16>, Vectors<E4m3>, Vectors<i8>, Vectors<Mxfp4>>;

/// M query rows. Source: DeepSeek-V3.2-Exp inference/model.py, Indexer.
struct Queries {
  Values values;                 ///< [M, H, D]
  View<const float, 2> weights;  ///< [M, H] f32: weight * H^-1/2 * D^-1/2 * query scale
};

/// The keys of all sequences. Contiguous: one page that holds every token, sequence after sequence.
/// Paged: token t of sequence s is entry t % page_size of page block_table[s, t / page_size].
struct KeyCache {
  Values values;                   ///< [pages, page_size, D]
  View<const float, 2> scales;     ///< [pages, page_size] f32; empty: every scale is 1
  View<const i32, 2> block_table;  ///< [sequences, max_pages] i32; empty: contiguous
};

/// Row m sees the tokens [begin[m], end[m]) of sequence[m]. Contiguous keys count tokens from the start of the
/// buffer, paged keys from the start of the sequence.
struct Windows {
  View<const i32, 1> sequence;  ///< [M]
  View<const i32, 1> begin;     ///< [M]
  View<const i32, 1> end;       ///< [M]
};

/// What a row shall score when it does not score its whole window: runs of `length` consecutive tokens.
/// Run r of row m covers the tokens origin[m] + runs[m, r] * length + [0, length), as far as they lie in the
/// window. length 1 lists tokens (re-rank), length B lists blocks (HISA). Ids ascend; -1 pads come last.
struct Candidates {
  View<const i32, 2> runs;    ///< [M, R]
  View<const i32, 1> origin;  ///< [M]
  i64 length = 1;

  constexpr i64 columns() const { return runs.shape[1] * length; }

  /// The token in `column` of row m, or -1 where that column holds none.
  constexpr i64 token_at(i64 m, i64 column) const {
    const i64 run = runs(m, column / length);
    return run < 0 ? -1 : origin[m] + run * length + column % length;
  }
};

/// Scores of the rows, -inf where a column holds no visible token: f32, or f64 from the oracle. [M, columns]
using Logits = std::variant<View<float, 2>, View<double, 2>>;

/// The token of `column` in row m, as `Candidates` or, without them, the window itself lays them out; -1 if none.
constexpr i64 visible_token(const Windows& windows, const std::optional<Candidates>& candidates, i64 m, i64 column) {
  const i64 token = candidates ? candidates->token_at(m, column) : windows.begin[m] + column;
  return token >= windows.begin[m] && token < windows.end[m] ? token : -1;
}

/// Where a token lies in the key cache.
struct TokenAddress {
  i64 page = 0, slot = 0;
};

constexpr TokenAddress address_of(const KeyCache& keys, i64 page_size, i64 sequence, i64 token) {
  if (keys.block_table.data == nullptr) return {0, token};
  return {keys.block_table(sequence, token / page_size), token % page_size};
}

inline Values slice(const Values& values, i64 first, i64 count) {
  return std::visit([&](const auto& view) -> Values { return view.slice(first, count); }, values);
}

inline Queries slice(const Queries& queries, i64 first, i64 count) {
  return {slice(queries.values, first, count), queries.weights.slice(first, count)};
}

inline Windows slice(const Windows& windows, i64 first, i64 count) {
  return {windows.sequence.slice(first, count), windows.begin.slice(first, count), windows.end.slice(first, count)};
}

constexpr i64 rows_of(const Queries& queries) { return queries.weights.shape[0]; }
constexpr i64 heads_of(const Queries& queries) { return queries.weights.shape[1]; }
inline Dtype dtype_of(const Values& values) {
  constexpr Dtype kDtypes[]{Dtype::f32, Dtype::bf16, Dtype::e4m3, Dtype::int8, Dtype::e2m1};
  return kDtypes[values.index()];
}
/// The elements of a routed batch. Those of INT8 and MXFP4 queries are widened to bf16, which holds them exactly and a
/// linear query as well.
constexpr Dtype routed_dtype(Dtype queries) {
  return queries == Dtype::int8 || queries == Dtype::e2m1 ? Dtype::bf16 : queries;
}
template <class T>
using Routed = std::conditional_t<std::is_same_v<T, i8> || std::is_same_v<T, Mxfp4>, Bf16, T>;

inline i64 head_dim_of(const Queries& queries) {
  return std::visit([](const auto& view) { return view.shape[2]; }, queries.values);
}

}  // namespace misa
