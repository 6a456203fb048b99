#pragma once

#include "core/base/types.hpp"

// Asynchronous copies of 16 bytes from global to shared memory, past L1. Source: PTX ISA, "cp.async".

namespace misa::cuda {

/// Copies 16 bytes.
__device__ inline void copy_async(u32 to, const void* from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory");
}

/// Copies 16 bytes, or writes zeros unless `inside`.
__device__ inline void copy_async_or_zero(u32 to, u64 from, bool inside) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(inside ? 16 : 0) : "memory");
}

/// Copies 16 bytes unless `sign` is negative: predicated, without a branch.
__device__ inline void copy_async_unless_negative(int sign, u32 to, u64 from) {
  asm volatile(
      "{\n.reg .pred there;\nsetp.ge.s32 there, %2, 0;\n@there cp.async.cg.shared.global [%0], [%1], 16;\n}" ::"r"(to),
      "l"(from), "r"(sign)
      : "memory");
}

/// Ends a group: the copies that this thread has begun since the last one.
__device__ inline void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

/// Waits until at most `Pending` of this thread's groups are under way.
template <int Pending>
__device__ void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(Pending) : "memory");
}

}  // namespace misa::cuda
