#pragma once

#include "core/base/types.hpp"

// Barriers in shared memory that count arrivals of threads and bytes of copies. Source: PTX ISA, "mbarrier".
//
// A barrier completes one phase after the other; a wait names the parity of the phase that it waits for. A fresh
// barrier is in phase 0, and a wait for parity 1 passes at once.

namespace misa::cuda {

/// `count` arrivals complete a phase.
__device__ inline void barrier_init(u32 barrier, u32 count) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(count));
}

/// Makes initialised barriers visible to the asynchronous copies.
__device__ inline void barrier_fence() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }

__device__ inline void barrier_arrive(u32 barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

/// Predicated, without a branch.
__device__ inline void barrier_arrive_if(bool here, u32 barrier) {
  asm volatile(
      "{\n.reg .pred here;\nsetp.ne.b32 here, %1, 0;\n@here mbarrier.arrive.shared::cta.b64 _, [%0];\n}" ::"r"(barrier),
      "r"(static_cast<int>(here))
      : "memory");
}

/// Arrives; the phase also waits for `bytes` of copies.
__device__ inline void barrier_expect(u32 barrier, u32 bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}

__device__ inline void barrier_wait(u32 barrier, u32 parity) {
  asm volatile(
      "{\n.reg .pred done;\nagain:\nmbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n@!done bra again;\n}" ::
          "r"(barrier),
      "r"(parity)
      : "memory");
}

}  // namespace misa::cuda
