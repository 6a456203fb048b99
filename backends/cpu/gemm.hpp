#pragma once

#include <array>
#include <string>
#include <string_view>

#include "core/base/types.hpp"
#include "core/tensor/dtype.hpp"

namespace misa::cpu {

/// Columns of one tile of scores: 256 keys of D = 128 and a tile of scores fit a 512 KiB L2 cache together.
constexpr i64 kTileColumns = 256;

/// Row and column counts that a product may have. With these oneDNN 2.6 accumulates every element in the order of d,
/// whatever its place in the tile, on AVX2, AVX-512 and AMX (tests: "a dot does not depend on its place in the tile").
constexpr std::array<i64, 5> kTileRows{16, 48, 64, 96, 192};
constexpr i64 kMaxTileRows = kTileRows.back();
constexpr std::array<i64, 3> kTileWidths{64, 128, kTileColumns};

/// The smallest of `sizes` (ascending) that is at least `wanted`, which the last one is.
template <std::size_t N>
constexpr i64 fitting(const std::array<i64, N>& sizes, i64 wanted) {
  for (i64 size : sizes) {
    if (wanted <= size) return size;
  }
  return sizes.back();
}

/// c[i, j] = sum over d of a[i, d] * b[j, d], accumulated in f32, on the calling thread.
///
/// a [rows, depth], b [columns, depth], c [rows, kTileColumns] of which `columns` are written; contiguous. rows is one
/// of kTileRows, columns one of kTileWidths.
void gemm_tile(i64 rows, i64 columns, i64 depth, const float* a, const float* b, float* c);

/// The same of bf16 elements, whose products are exact in f32; subnormals count as zero. Only where bf16_unit() names
/// one.
void gemm_tile(i64 rows, i64 columns, i64 depth, const Bf16* a, const Bf16* b, float* c);

/// What multiplies bf16 on this processor, by the kernel that oneDNN takes there: "AMX", or "AVX512-BF16" where that
/// was faster than f32 when it was first asked for. Empty: it has neither.
std::string_view bf16_unit();

/// The library that does it, with its version.
std::string gemm_description();

}  // namespace misa::cpu
