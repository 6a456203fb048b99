#pragma once

#include "core/base/types.hpp"

namespace misa::cuda {

constexpr int kMostRoutedHeads = 128;

/// Layout of a row's data in shared memory in the router over sampled keys for every dtype and shape
/// (route_samples.cu). `products` [H, stride] become contributions.
struct SampledLayout {
  static constexpr int kWarps = 8;
  static constexpr int kEach = 8, kMostCounted = 32 * kEach;  ///< samples of a lane, of a row
  static constexpr int kMostBytes = 224 << 10;                ///< of a block

  int heads, samples, dim;
  int counted;    ///< most samples that count
  int shortlist;  ///< of router covariance, else 0

  constexpr int stride() const { return samples / 32 * 32 + 36; }
  constexpr int padded_heads() const { return (heads + 3) / 4 * 4; }
  /// Columns of the table of each warp's partial sums of q_lin or of contributions.
  constexpr int columns() const { return ((dim > counted ? dim : counted) + 31) / 32 * 32; }
  constexpr int bytes() const {
    return 4 * ((heads + 2) * stride() + (kWarps + shortlist) * columns() + 4 * padded_heads() +
                shortlist * (shortlist + 1));
  }
  /// Returns whether it fits into the kernel's shared memory.
  constexpr bool fits() const { return heads <= kMostRoutedHeads && counted <= kMostCounted && bytes() <= kMostBytes; }
};

}  // namespace misa::cuda
