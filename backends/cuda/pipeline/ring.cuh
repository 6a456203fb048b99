#pragma once

#include "backends/cuda/ptx/mbarrier.cuh"
#include "backends/cuda/ptx/ptx.cuh"

// A ring of stages in shared memory, which some warps fill and others read.

namespace misa::cuda {

/// The stage at which one warp is, and the parity of its round through the ring. A parity does not tell a round from
/// the one before the last: no warp may be two rounds ahead of another that arrives at the same barriers.
template <int Stages>
struct Cursor {
  int stage = 0;
  u32 parity = 0;

  __device__ void advance(int by = 1) {
    stage += by;
    if (stage >= Stages) stage -= Stages, parity ^= 1;
  }
};

/// The barriers of a ring; the object lies in shared memory.
template <int Stages>
struct Ring {
  u64 full[Stages], empty[Stages];

  /// Sets how many arrivals fill a stage, and how many empty it; by one thread.
  __device__ void init(u32 fills, u32 reads) {
    for (int i = 0; i < Stages; ++i) {
      barrier_init(shared_address(&full[i]), fills);
      barrier_init(shared_address(&empty[i]), reads);
    }
  }
  __device__ u32 full_at(int stage) const { return shared_address(&full[stage]); }
  __device__ u32 empty_at(int stage) const { return shared_address(&empty[stage]); }
  __device__ void wait_full(const Cursor<Stages>& at) const { barrier_wait(full_at(at.stage), at.parity); }
  /// Passes at once in the first round.
  __device__ void wait_empty(const Cursor<Stages>& at) const { barrier_wait(empty_at(at.stage), at.parity ^ 1); }
  /// One arrival of a warp that has read the stage; by all its lanes.
  __device__ void release(int stage) const {
    __syncwarp();
    if (threadIdx.x % 32 == 0) barrier_arrive(empty_at(stage));
  }
};

}  // namespace misa::cuda
