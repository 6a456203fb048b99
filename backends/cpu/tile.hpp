#pragma once

#include <algorithm>

#include "backends/cpu/gemm.hpp"
#include "core/indexer/inputs.hpp"
#include "core/tensor/buffer.hpp"

namespace misa::cpu {

/// Scratch of one thread: f32 query rows, f32 keys and their products.
class Tile {
 public:
  static constexpr i64 kMaxDepth = 256;

  static constexpr i64 kBytes = (kMaxTileRows * kMaxDepth + kTileColumns * kMaxDepth + kMaxTileRows * kTileColumns) * 4;

  Tile() : storage_(host_allocator(), kBytes) {
    queries = storage_.as<float>();
    keys = queries + kMaxTileRows * kMaxDepth;
    products = keys + kTileColumns * kMaxDepth;
  }

  float* queries;   ///< [tile rows, D]
  float* keys;      ///< [kTileColumns, D]
  float* products;  ///< [tile rows, kTileColumns]
  float scales[kTileColumns] = {};

 private:
  Buffer storage_;
};

/// out[0..count) = in[0..count) as f32.
template <class T>
inline void widen(const T* in, i64 count, float* out) {
  for (i64 i = 0; i < count; ++i) out[i] = to_float(in[i]);
}

/// One key and its scale.
inline float widen_key(const KeyCache& keys, i64 sequence, i64 token, float* out) {
  return std::visit(
      [&](const auto& values) {
        const TokenAddress at = address_of(keys, values.shape[1], sequence, token);
        widen(&values(at.page, at.slot, 0), values.shape[2], out);
        return keys.scales.data == nullptr ? 1.0f : keys.scales(at.page, at.slot);
      },
      keys.values);
}

/// The keys of the tokens [first, first + count) into tile.keys and tile.scales.
inline void load_keys(const KeyCache& keys, i64 sequence, i64 first, i64 count, i64 dim, Tile& tile) {
  for (i64 i = 0; i < count; ++i) tile.scales[i] = widen_key(keys, sequence, first + i, tile.keys + i * dim);
}

/// All heads of row m to row `slot` of the tile.
inline void load_queries(const Queries& queries, i64 m, i64 slot, Tile& tile) {
  std::visit(
      [&](const auto& values) {
        const i64 heads = values.shape[1], dim = values.shape[2];
        widen(&values(m, 0, 0), heads * dim, tile.queries + slot * heads * dim);
      },
      queries.values);
}

/// tile.products = tile.queries . tile.keys for `used` query rows; the rest of the tile holds what it held.
inline void multiply(i64 used, i64 dim, Tile& tile) {
  const i64 rows = tile_rows_for(used);
  std::fill(tile.queries + used * dim, tile.queries + rows * dim, 0.0f);
  gemm_tile(rows, dim, tile.queries, tile.keys, tile.products);
}

/// Query rows that share a tile: rows [order[first], order[first + count)) of one sequence.
constexpr i64 rows_per_tile(i64 heads) { return std::max<i64>(1, kMaxTileRows / heads); }

}  // namespace misa::cpu
