#pragma once

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "backends/cpu/gemm.hpp"
#include "backends/cpu/loops.hpp"
#include "core/indexer/inputs.hpp"
#include "core/tensor/buffer.hpp"

namespace misa::cpu {

/// Heads times rows whose queries a thread holds at once: 512 KiB of bf16 at D = 128, a part of an L2 cache.
constexpr i64 kHeldQueries = 2048;

/// The most elements of a key.
constexpr i64 kMaxDepth = 256;

/// Scratch of one thread: query rows, keys and their products, as the matrix product takes them (float or Bf16).
template <class Operand>
class Tile {
 public:
  /// At most; memory that is not used is not touched.
  static constexpr i64 kBytes =
      (kHeldQueries + kMaxTileRows + kTileColumns) * kMaxDepth * i64{sizeof(Operand)} + kMaxTileRows * kTileColumns * 4;

  explicit Tile(i64 dim) : dim_(dim), storage_(host_allocator(), kBytes) {
    products = storage_.as<float>();
    keys = reinterpret_cast<Operand*>(products + kMaxTileRows * kTileColumns);
    queries = keys + kTileColumns * dim;
  }

  /// products = queries . keys for `used` query rows from row `first` on, and `columns` keys. More of both are computed
  /// from what the tile holds there.
  void multiply(i64 first, i64 used, i64 columns) {
    gemm_tile(fitting(kTileRows, used), fitting(kTileWidths, columns), dim_, queries + first * dim_, keys, products);
  }

  float* products;   ///< [kMaxTileRows, kTileColumns]
  Operand* keys;     ///< [kTileColumns, D]
  Operand* queries;  ///< [kHeldQueries + kMaxTileRows, D]
  float scales[kTileColumns] = {};

 private:
  i64 dim_;
  Buffer storage_;
};

/// out[0..count) = in[0..count), exactly.
inline void widen(const E4m3* in, i64 count, float* out) { loops().e4m3_to_f32(in, count, out); }
inline void widen(const Bf16* in, i64 count, float* out) { loops().bf16_to_f32(in, count, out); }
inline void widen(const E4m3* in, i64 count, Bf16* out) { loops().e4m3_to_bf16(in, count, out); }
inline void widen(const i8* in, i64 count, float* out) { loops().int8_to_f32(in, count, out); }
inline void widen(const i8* in, i64 count, Bf16* out) { loops().int8_to_bf16(in, count, out); }
template <class T>
inline void widen(const T* in, i64 count, T* out) {
  std::memcpy(out, in, static_cast<std::size_t>(count) * sizeof(T));
}

/// out[0..count, 0..D) = the vectors j, j + 1, ... of `vectors`[i], exactly; at once where they stand together.
template <class T, class Operand>
inline void widen(const View<const T, 3>& vectors, i64 i, i64 j, i64 count, Operand* out) {
  const i64 dim = vectors.shape[2], together = vectors.stride[1] == dim ? count : 1;
  for (i64 k = 0; k < count; k += together) widen(&vectors(i, j + k, 0), together * dim, out + k * dim);
}
inline void widen(const Mxfp4View& vectors, i64 i, i64 j, i64 count, Bf16* out) {
  const i64 dim = vectors.shape[2];
  for (i64 k = 0; k < count; ++k) {
    const Mxfp4Vector vector = vectors.vector(i, j + k);
    loops().mxfp4_to_bf16(vector.codes, vector.scales, dim, out + k * dim);
  }
}
inline void widen(const Mxfp4View& vectors, i64 i, i64 j, i64 count, float* out) {
  const i64 dim = vectors.shape[2];
  for (i64 k = 0; k < count; ++k) {
    const Mxfp4Vector vector = vectors.vector(i, j + k);
    loops().mxfp4_to_f32(vector.codes, vector.scales, dim, out + k * dim);
  }
}

/// Calls work(values) with values of a type that `Operand` holds exactly; others never come here.
template <class Operand>
inline auto visit_operands(const Values& values, const auto& work) {
  return std::visit(
      [&](const auto& view) {
        if constexpr (std::is_same_v<Operand, Bf16> &&
                      std::is_same_v<std::decay_t<decltype(view)>, View<const float, 3>>) {
          return decltype(work(View<const Bf16, 3>()))();
        } else {
          return work(view);
        }
      },
      values);
}

/// True where queries and keys are exact in bf16 and this processor multiplies that faster than f32.
inline bool multiplies_bf16(const Queries& queries, const KeyCache& keys) {
  return dtype_of(queries.values) != Dtype::f32 && dtype_of(keys.values) != Dtype::f32 && !bf16_unit().empty();
}

/// One key and its scale.
template <class Operand>
inline float widen_key(const KeyCache& keys, i64 sequence, i64 token, Operand* out) {
  return visit_operands<Operand>(keys.values, [&](const auto& values) {
    const TokenAddress at = address_of(keys, values.shape[1], sequence, token);
    widen(values, at.page, at.slot, 1, out);
    return keys.scales.data == nullptr ? 1.0f : keys.scales(at.page, at.slot);
  });
}

/// The keys of the tokens [first, first + count) and their scales into the tile, from its key `place` on.
template <class Operand>
inline void load_keys(const KeyCache& keys, i64 sequence, i64 first, i64 count, Tile<Operand>& tile, i64 place = 0) {
  visit_operands<Operand>(keys.values, [&](const auto& values) {
    const i64 dim = values.shape[2], page_size = values.shape[1];
    for (i64 i = 0; i < count;) {
      // The rest of a page at once.
      const TokenAddress at = address_of(keys, page_size, sequence, first + i);
      const i64 run = std::min(count - i, page_size - at.slot);
      widen(values, at.page, at.slot, run, tile.keys + (place + i) * dim);
      for (i64 j = 0; j < run; ++j) {
        tile.scales[place + i + j] = keys.scales.data == nullptr ? 1.0f : keys.scales(at.page, at.slot + j);
      }
      i += run;
    }
  });
}

/// All heads of row m to the tile's query rows from `row` on.
template <class Operand>
inline void load_queries(const Queries& queries, i64 m, i64 row, Tile<Operand>& tile) {
  visit_operands<Operand>(queries.values, [&](const auto& values) {
    widen(values, m, 0, values.shape[1], tile.queries + row * values.shape[2]);
  });
}

/// Query rows of one sequence that share a product.
constexpr i64 rows_per_tile(i64 heads) { return std::max<i64>(1, kMaxTileRows / heads); }

/// Rows whose queries a thread holds at once.
constexpr i64 rows_held(i64 heads) { return std::max<i64>(1, kHeldQueries / heads); }

}  // namespace misa::cpu
