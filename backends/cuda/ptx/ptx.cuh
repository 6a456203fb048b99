#pragma once

#include "core/base/types.hpp"

// Instructions for which CUDA C++ has no name. Source: PTX ISA. tests/simt has a header of this name for the host.

namespace misa::cuda {

/// max(0, x); NaN stays NaN.
__device__ inline float relu(float x) {
  float y;
  asm("max.NaN.f32 %0, %1, 0f00000000;" : "=f"(y) : "f"(x));
  return y;
}

/// Converts two e4m3 values to f16, exactly; the lower byte goes to the lower half.
__device__ inline u32 halves_of(u32 two) {
  u32 halves;
  asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(halves) : "h"(static_cast<u16>(two)));
  return halves;
}

/// Multiplies two bf16 by two, subnormal ones too.
__device__ inline u32 multiply_bf16(u32 a, u32 b) {
  u32 product;
  asm("mul.rn.bf16x2 %0, %1, %2;" : "=r"(product) : "r"(a), "r"(b));
  return product;
}

/// D[16, 8] += A[16, 16] * B[8, 16]^T in f16, by a warp. Lane l holds of A, by twos: row l / 4, columns 2 (l % 4) +
/// {0, 1}; row + 8, the same columns; and both again 8 columns further. Of B, by twos: row l / 4, columns 2 (l % 4) +
/// {0, 1}, and the same 8 further. Of D: row l / 4, columns 2 (l % 4) + {0, 1}, and row + 8.
__device__ inline void mma_f16(float (&d)[4], const u32 (&a)[4], const uint2& b) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b.x), "r"(b.y));
}

__device__ inline u32 shared_address(const void* pointer) {
  return static_cast<u32>(__cvta_generic_to_shared(pointer));
}

__device__ inline void store_shared(u32 to, const uint4& value) {
  asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(to), "r"(value.x), "r"(value.y), "r"(value.z),
               "r"(value.w)
               : "memory");
}

/// Loads four 8x8 matrices of 16-bit elements, a register each: lane l names the address of row l % 8 of matrix l / 8.
__device__ inline void load_matrices(u32 (&matrices)[4], u32 from) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(matrices[0]), "=r"(matrices[1]), "=r"(matrices[2]), "=r"(matrices[3])
               : "r"(from)
               : "memory");
}

/// Makes this thread's writes to shared memory visible to tensor cores that read it there, from the next barrier on.
__device__ inline void fence_for_tensor_cores() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

/// Waits until `threads` threads, whole warps, have come to barrier `id` of 0 to 15; 0 is that of __syncthreads().
__device__ inline void group_barrier(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

/// Arrives at such a barrier without waiting; by whole warps.
__device__ inline void group_arrive(int id, int threads) {
  __syncwarp();
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

/// Waits until the kernels before this one on the stream are done and their writes are visible.
__device__ inline void wait_for_stream() { asm volatile("griddepcontrol.wait;" ::: "memory"); }

/// Sets the registers of each thread of a warpgroup, below those of the launch or above: a warpgroup that takes more
/// waits until others have given them back.
template <int Registers>
__device__ void shrink_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(Registers));
}
template <int Registers>
__device__ void grow_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(Registers));
}

}  // namespace misa::cuda
