#pragma once

#include <array>
#include <string>

#include "core/base/types.hpp"

namespace misa::cpu {

/// Columns of one tile of scores: 256 keys of D = 128 and a tile of scores fit a 512 KiB L2 cache together.
constexpr i64 kTileColumns = 256;

/// Row counts a tile may have. With these oneDNN 2.6 accumulates every element in the order of d, whatever its
/// place in the tile, on AVX2 and AVX-512 (tests: "a dot does not depend on its place in the tile").
constexpr std::array<i64, 5> kTileRows{16, 48, 64, 96, 192};
constexpr i64 kMaxTileRows = kTileRows.back();

/// The smallest tile that holds `rows` rows.
constexpr i64 tile_rows_for(i64 rows) {
  for (i64 size : kTileRows) {
    if (rows <= size) return size;
  }
  return kMaxTileRows;
}

/// c[i, j] = sum over d of a[i, d] * b[j, d], in f32, on the calling thread.
///
/// a [rows, depth], b [kTileColumns, depth], c [rows, kTileColumns], all f32 and contiguous; rows is one of kTileRows.
void gemm_tile(i64 rows, i64 depth, const float* a, const float* b, float* c);

/// The library that does it, with its version.
std::string gemm_description();

}  // namespace misa::cpu
