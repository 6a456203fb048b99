#pragma once

#include <algorithm>
#include <optional>
#include <string>

#include "backends/cuda/route/sampled_layout.hpp"
#include "core/indexer/backend.hpp"
#include "core/indexer/linear_head.hpp"

// What the cuda backend's kernels can do, on any device: arithmetic that the host alone can test.

namespace misa {

/// Kernels count tokens and columns in 32 bits, and round them up to whole tiles.
constexpr i64 kCudaMostTokens = 2'000'000'000;

/// The room that a row's routing over sampled keys needs; layout_samples gives a row up to twice `samples` keys.
inline cuda::SampledLayout sampled_layout(const HeadRouting& routing, const Shape& shape) {
  const i64 samples = std::min({2 * std::min(routing.samples, kCudaMostTokens), shape.max_window, kCudaMostTokens});
  const bool linear = routing.linear_head(shape.heads);
  const i64 shortlist =
      routing.router == Router::covariance ? shortlist_size(shape.heads, routing.kept(shape.heads)) : 0;
  return {.heads = static_cast<int>(shape.heads),
          .samples = static_cast<int>(samples),
          .dim = static_cast<int>(shape.head_dim),
          .counted = static_cast<int>(linear ? (samples + 1) / 2 : samples),
          .shortlist = static_cast<int>(shortlist)};
}

/// Why the kernels cannot run an indexer on a shape; nothing when they can.
inline std::optional<std::string> cuda_limit(const IndexerSpec& spec, const Shape& shape) {
  constexpr i64 kMostHeads = 128, kMostDim = 256;
  const auto above = [](i64 value, const std::string& what, i64 most) {
    return std::to_string(value) + " " + what + ", above " + std::to_string(most);
  };
  if (shape.heads > kMostHeads) return above(shape.heads, "heads", kMostHeads);
  if (shape.head_dim > kMostDim) {
    return "head_dim " + std::to_string(shape.head_dim) + ", above " + std::to_string(kMostDim);
  }
  if (shape.keys > kCudaMostTokens) return above(shape.keys, "keys", kCudaMostTokens);
  if (shape.max_window > kCudaMostTokens) return above(shape.max_window, "tokens of a row", kCudaMostTokens);
  if (spec.top_k > kCudaMostTokens) return above(spec.top_k, "tokens to keep", kCudaMostTokens);
  if (spec.heads && spec.heads->group > 1)
    return "its kernels route heads row by row, and --group routes rows together";
  if (spec.heads && samples_keys(spec.heads->router)) {
    const cuda::SampledLayout layout = sampled_layout(*spec.heads, shape);
    if (!layout.fits()) {
      return "no room for the products of " + std::to_string(layout.heads) + " heads with " +
             std::to_string(layout.samples) + " sampled keys of a row (twice --sampled-keys, at most)";
    }
  }
  return std::nullopt;
}

}  // namespace misa
