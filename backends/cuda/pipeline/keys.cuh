#pragma once

#include <cuda_fp16.h>

#include <algorithm>
#include <cstdint>

#include "backends/cuda/pipeline/rank.cuh"
#include "backends/cuda/ptx/ptx.cuh"
#include "core/indexer/inputs.hpp"

// A task's views without their variants, as kernels read them.

namespace misa::cuda {

/// Keys of one element type. Contiguous: one page, no table.
template <class T>
struct Keys {
  Vectors<T> values;
  View<const float, 2> scales;
  View<const i32, 2> table;

  /// Returns what vector_of does: a pointer, or the parts of an MXFP4 vector.
  __device__ auto vector(i64 sequence, i64 token, float& scale) const {
    i64 page = 0, slot = token;
    if (table.data != nullptr) {
      // 64-bit divisions are calls.
      const u32 size = static_cast<u32>(values.shape[1]), at = static_cast<u32>(token);
      page = table(sequence, at / size);
      slot = at % size;
    }
    scale = scales.data == nullptr ? 1.0f : scales(page, slot);
    return vector_of(values, page, slot);
  }
};

/// Whether queries of Q may be scored against keys of K: MXFP4 goes with MXFP4, with a batch routed from it, and with
/// means.
template <class Q, class K>
constexpr bool goes_with = std::is_same_v<K, Mxfp4> ? std::is_same_v<Q, Mxfp4> || std::is_same_v<Q, Bf16>
                                                    : !std::is_same_v<Q, Mxfp4> || std::is_same_v<K, float>;

/// std::optional<Candidates>, flat.
struct Columns {
  bool listed = false;
  View<const i32, 2> runs;
  View<const i32, 1> origin;
  i64 length = 1;

  /// Returns the token of `column` in row m, or -1 where there is none that the row sees.
  __device__ i64 token(const Windows& windows, i64 m, i64 column) const {
    i64 token = windows.begin[m] + column;
    if (listed) {
      const u32 size = static_cast<u32>(length), at = static_cast<u32>(column);
      const i64 run = runs(m, at / size);
      if (run < 0) return -1;
      token = origin[m] + run * length + at % size;
    }
    return token >= windows.begin[m] && token < windows.end[m] ? token : -1;
  }
};

inline Columns columns_of(const std::optional<Candidates>& candidates) {
  if (!candidates) return {};
  // No row sees a token of a second run that long.
  constexpr i64 kLongest = 0x7fffffff;
  return {true, candidates->runs, candidates->origin, std::min(candidates->length, kLongest)};
}

/// Returns 2 relu(x) of a finite x, exactly. Uses the FADD pipe; FMNMX has half its throughput.
__device__ inline float twice_relu(float x) { return x + fabsf(x); }

/// Converts sixteen e4m3 values to f32.
__device__ inline void widen(const uint4& bytes, float (&values)[16]) {
  const u32 words[4] = {bytes.x, bytes.y, bytes.z, bytes.w};
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const u32 two = halves_of(words[i / 2] >> (16 * (i % 2)));
    const float2 wide = __half22float2(*reinterpret_cast<const __half2*>(&two));
    values[2 * i] = wide.x;
    values[2 * i + 1] = wide.y;
  }
}

/// Converts eight bf16 values to f32.
__device__ inline void widen(const uint4& bytes, float (&values)[8]) {
  const u32 words[4] = {bytes.x, bytes.y, bytes.z, bytes.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    values[2 * i] = __uint_as_float(words[i] << 16);
    values[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
  }
}

/// Returns whether every vector can be read 16 bytes at a time.
template <class T>
bool vectors_align(const View<const T, 3>& values) {
  constexpr i64 kSize = sizeof(T);
  return reinterpret_cast<std::uintptr_t>(values.data) % 16 == 0 && values.stride[0] * kSize % 16 == 0 &&
         values.stride[1] * kSize % 16 == 0 && values.shape[2] * kSize % 16 == 0 && values.stride[2] == 1;
}

/// Calls `body` with keys as Keys of their element type.
template <class Body>
void with_keys(const KeyCache& keys, const Body& body) {
  std::visit(
      [&](const auto& values) {
        body(Keys<Element<decltype(values)>>{values, keys.scales, keys.block_table});
      },
      keys.values);
}

/// Calls `body` with the queries' view and the keys as Keys, of whatever element types they are.
template <class Body>
void with_types(const Values& queries, const KeyCache& keys, const Body& body) {
  with_keys(keys, [&]<class K>(const Keys<K>& k) {
    std::visit(
        [&](const auto& q) {
          if constexpr (goes_with<Element<decltype(q)>, K>) body(q, k);
        },
        queries);
  });
}

}  // namespace misa::cuda
