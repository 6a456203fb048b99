#include <exception>
#include <vector>

#include "backends/cpu/gemm.hpp"

namespace misa::cpu {
namespace {

constexpr i64 kRows = 4;      // of a register block
constexpr i64 kColumns = 16;  // two or more vectors on every target

/// c[0..4, 0..16] with b packed as [depth, 16]: the compiler keeps the block in vector registers.
void block(i64 depth, const float* a, const float* packed, float* c) {
  float sum[kRows][kColumns] = {};
  for (i64 d = 0; d < depth; ++d) {
    const float* b = packed + d * kColumns;
    for (i64 i = 0; i < kRows; ++i) {
      const float value = a[i * depth + d];
#pragma omp simd
      for (i64 j = 0; j < kColumns; ++j) sum[i][j] += value * b[j];
    }
  }
  for (i64 i = 0; i < kRows; ++i) {
    for (i64 j = 0; j < kColumns; ++j) c[i * kTileColumns + j] = sum[i][j];
  }
}

}  // namespace

void gemm_tile(i64 rows, i64 columns, i64 depth, const float* a, const float* b, float* c) {
  static thread_local std::vector<float> packed;
  packed.resize(static_cast<std::size_t>(depth * kColumns));
  for (i64 column = 0; column < columns; column += kColumns) {
    for (i64 j = 0; j < kColumns; ++j) {
      for (i64 d = 0; d < depth; ++d) packed[static_cast<std::size_t>(d * kColumns + j)] = b[(column + j) * depth + d];
    }
    for (i64 row = 0; row < rows; row += kRows) {
      block(depth, a + row * depth, packed.data(), c + row * kTileColumns + column);
    }
  }
}

void gemm_tile(i64 /*rows*/, i64 /*columns*/, i64 /*depth*/, const Bf16* /*a*/, const Bf16* /*b*/, float* /*c*/) {
  std::terminate();  // never called: there is no unit
}

std::string_view bf16_unit() { return {}; }

std::string gemm_description() { return "own OpenMP loop (built without oneDNN)"; }

}  // namespace misa::cpu
