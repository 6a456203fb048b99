#pragma once

#include "backends/cuda/pipeline/keys.cuh"
#include "backends/cuda/pipeline/means.cuh"
#include "backends/cuda/ptx/wgmma.cuh"

// Queries in registers and f32 keys in shared memory as f16 operands of tensor cores, 128 dimensions: step s of eight
// multiplies dimensions 32 q + 4 s + [0, 4) in lanes q of four, so that a lane's registers are 32 consecutive
// dimensions of a query.

namespace misa::cuda {

/// Sets a lane's registers of query r of two, from dimensions 32 (l % 4) + [0, 32) of FP8, exactly. Returns what they
/// were divided by.
__device__ inline float set_query(u32 (&queries)[8][4], int r, const uint4 (&words)[2]) {
  const u32 steps[8] = {words[0].x, words[0].y, words[0].z, words[0].w, words[1].x, words[1].y, words[1].z, words[1].w};
#pragma unroll
  for (int s = 0; s < 8; ++s) {
    queries[s][r] = halves_of(steps[s]);
    queries[s][2 + r] = halves_of(steps[s] >> 16);
  }
  return 1;
}

/// The same from bf16, divided by a power of two that is one for the four lanes of a query; what lies below 2^-14 of
/// the largest loses bits.
__device__ inline float set_query(u32 (&queries)[8][4], int r, const uint4 (&words)[4]) {
  float values[4][8], largest = 0;
#pragma unroll
  for (int w = 0; w < 4; ++w) {
    widen(words[w], values[w]);
#pragma unroll
    for (const float value : values[w]) largest = fmaxf(largest, fabsf(value));
  }
  const auto [scale, inverse] = scale_for(__float_as_uint(quad_max(largest)));
#pragma unroll
  for (int i = 0; i < 16; ++i) {
    const float* two = &values[i / 4][i % 4 * 2];
    const __half2 halves = __floats2half2_rn(two[0] * inverse, two[1] * inverse);
    queries[i / 2][i % 2 * 2 + r] = *reinterpret_cast<const u32*>(&halves);
  }
  return scale;
}

/// Stores four dimensions of a key, lane l those from 4 l on, to its row of two panels of 64 dimensions.
__device__ inline void store_key(u8* panels, int panel_bytes, int row, const __half2& low, const __half2& high) {
  const int lane = static_cast<int>(threadIdx.x % 32), quad = lane / 8, step = lane % 8;
  u8* panel = panels + step / 4 * panel_bytes;
  const int byte = 32 * (step % 4) + 4 * quad;
  *reinterpret_cast<__half2*>(panel + swizzled(row, byte)) = low;
  *reinterpret_cast<__half2*>(panel + swizzled(row, byte + 16)) = high;
}

}  // namespace misa::cuda
