#pragma once

#include <cstdint>

#include "core/indexer/inputs.hpp"

// What kernels read: the tasks' views without their variants.

namespace misa::cuda {

/// Keys of one element type. Contiguous: one page, no table.
template <class T>
struct Keys {
  View<const T, 3> values;
  View<const float, 2> scales;
  View<const i32, 2> table;

  __device__ const T* vector(i64 sequence, i64 token, float& scale) const {
    i64 page = 0, slot = token;
    if (table.data != nullptr) {
      const i64 size = values.shape[1];
      page = table(sequence, token / size);
      slot = token % size;
    }
    scale = scales.data == nullptr ? 1.0f : scales(page, slot);
    return &values(page, slot, 0);
  }
};

/// std::optional<Candidates>, flat.
struct Columns {
  bool listed = false;
  View<const i32, 2> runs;
  View<const i32, 1> origin;
  i64 length = 1;

  /// The token of `column` in row m; -1 where it holds none that the row sees.
  __device__ i64 token(const Windows& windows, i64 m, i64 column) const {
    i64 token = windows.begin[m] + column;
    if (listed) {
      const i64 run = runs(m, column / length);
      if (run < 0) return -1;
      token = origin[m] + run * length + column % length;
    }
    return token >= windows.begin[m] && token < windows.end[m] ? token : -1;
  }
};

inline Columns columns_of(const std::optional<Candidates>& candidates) {
  if (!candidates) return {};
  return {true, candidates->runs, candidates->origin, candidates->length};
}

/// NaN stays NaN.
__device__ inline float relu(float x) { return 0.0f > x ? 0.0f : x; }

/// The same in one instruction.
__device__ inline float relu_nan(float x) {
  float y;
  asm("max.NaN.f32 %0, %1, 0f00000000;" : "=f"(y) : "f"(x));
  return y;
}

/// Every vector can be read 16 bytes at a time.
template <class T>
bool vectors_align(const View<const T, 3>& values) {
  constexpr i64 kSize = sizeof(T);
  return reinterpret_cast<std::uintptr_t>(values.data) % 16 == 0 && values.stride[0] * kSize % 16 == 0 &&
         values.stride[1] * kSize % 16 == 0 && values.shape[2] * kSize % 16 == 0 && values.stride[2] == 1;
}

/// Calls `body` with the queries' and the keys' views, of whatever element types they are.
template <class Body>
void with_types(const Values& queries, const KeyCache& keys, const Body& body) {
  std::visit(
      [&](const auto& q, const auto& k) {
        using T = std::remove_const_t<std::remove_reference_t<decltype(*k.data)>>;
        body(q, Keys<T>{k, keys.scales, keys.block_table});
      },
      queries, keys.values);
}

}  // namespace misa::cuda
