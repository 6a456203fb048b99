#pragma once

#include "core/tensor/dtype.hpp"
#include "tests/simt/simt.hpp"

// The instructions of the header of this name that kernels use on the host.

namespace misa::cuda {

inline u32 halves_of(u32 two) {
  const auto half = [](u32 bits) -> u32 {
    return __half_as_ushort(__float2half_rn(to_float(E4m3{static_cast<u8>(bits)})));
  };
  return half(two & 0xFF) | half(two >> 8 & 0xFF) << 16;
}

inline u32 multiply_bf16(u32 a, u32 b) {
  const auto product = [](u32 x, u32 y) -> u32 {
    return to_bf16(to_float(Bf16{static_cast<u16>(x)}) * to_float(Bf16{static_cast<u16>(y)})).bits;
  };
  return product(a, b) | product(a >> 16, b >> 16) << 16;
}

inline float relu(float x) { return 0.0f > x ? 0.0f : x; }

inline void fence_for_tensor_cores() {}

inline void wait_for_stream() {}

/// Where it lies in the block's shared memory.
inline u32 shared_address(const void* pointer) {
  return static_cast<u32>(static_cast<const std::byte*>(pointer) - simt::machine().shared.data());
}

/// Groups are of equally many threads, from the first of the block on.
inline void group_barrier(int id, int threads) {
  simt::machine().meet(static_cast<std::size_t>(threads), "group_barrier", static_cast<unsigned>(id));
}

}  // namespace misa::cuda
