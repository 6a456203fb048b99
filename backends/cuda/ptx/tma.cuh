#pragma once

#include <cuda.h>

#include <array>

#include "backends/cuda/check.hpp"
#include "backends/cuda/ptx/mbarrier.cuh"
#include "core/base/types.hpp"

// The tensor memory accelerator. Source: PTX ISA, "Asynchronous copy"; CUDA driver API, tensor map objects.

namespace misa::cuda {

/// Describes a tensor with `Rank` axes, innermost first, and the box that one copy brings: bytes land in shared memory
/// in rows of 128 with the 128-byte swizzle, f32 numbers land as they are. Strides are in bytes, extents, boxes and the
/// 32-bit coordinates of copies in elements: those of an f32 tensor are never multiplied by 4. Elements outside of the
/// tensor are read as zeros.
template <int Rank>
CUtensorMap tensor_map(const void* data, std::array<i64, Rank> extents, std::array<i64, Rank - 1> strides,
                       std::array<i64, Rank> box, CUtensorMapDataType type = CU_TENSOR_MAP_DATA_TYPE_UINT8) {
  static const auto encode = [] {
    void* function = nullptr;
    cudaDriverEntryPointQueryResult found{};
    check(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &found),
          "the driver's tensor maps");
    return reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(function);
  }();
  CUtensorMap map{};
  std::array<cuuint64_t, Rank> sizes{};
  std::array<cuuint64_t, Rank - 1> steps{};
  std::array<cuuint32_t, Rank> boxes{}, ones{};
  for (std::size_t i = 0; i < Rank; ++i) {
    sizes[i] = static_cast<cuuint64_t>(extents[i]);
    boxes[i] = static_cast<cuuint32_t>(box[i]);
    ones[i] = 1;
    if (i + 1 < Rank) steps[i] = static_cast<cuuint64_t>(strides[i]);
  }
  const CUtensorMapSwizzle swizzle =
      type == CU_TENSOR_MAP_DATA_TYPE_UINT8 ? CU_TENSOR_MAP_SWIZZLE_128B : CU_TENSOR_MAP_SWIZZLE_NONE;
  const CUresult status = encode(&map, type, Rank, const_cast<void*>(data), sizes.data(), steps.data(), boxes.data(),
                                 ones.data(), CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle,
                                 CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  check(status == CUDA_SUCCESS ? cudaSuccess : cudaErrorInvalidValue, "a tensor map");
  return map;
}

/// Copies `bytes`, a multiple of 16 above 0, of consecutive memory, and counts them at `barrier`.
__device__ inline void bulk_load(u32 to, const void* from, u32 bytes, u32 barrier) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to),
               "l"(from), "r"(bytes), "r"(barrier)
               : "memory");
}

/// Fetches the map itself ahead of its first copy.
__device__ inline void tma_prefetch(const CUtensorMap& map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(&map) : "memory");
}
__device__ inline void tma_load(u32 to, const CUtensorMap& map, u32 barrier, int c0, int c1) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4}], [%2];" ::"r"(
          to),
      "l"(&map), "r"(barrier), "r"(c0), "r"(c1)
      : "memory");
}
__device__ inline void tma_load(u32 to, const CUtensorMap& map, u32 barrier, int c0, int c1, int c2) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5}], [%2];" ::
          "r"(to),
      "l"(&map), "r"(barrier), "r"(c0), "r"(c1), "r"(c2)
      : "memory");
}
__device__ inline void tma_load(u32 to, const CUtensorMap& map, u32 barrier, int c0, int c1, int c2, int c3) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5, %6}], "
      "[%2];" ::"r"(to),
      "l"(&map), "r"(barrier), "r"(c0), "r"(c1), "r"(c2), "r"(c3)
      : "memory");
}

}  // namespace misa::cuda
