#pragma once

#include "core/base/mix.hpp"

namespace misa {

/// Counter-based random numbers: each is a pure function of (seed, stream, i, j), so nothing depends on the order of
/// generation or on the number of threads. Integer arithmetic plus at most one rounding: bit exact everywhere.
/// Source: ours; mix64 is the finaliser of splitmix64 (Steele, Lea, Flood, OOPSLA 2014).

/// Names of the independent random fields; the numbers are part of the generator's definition and never change.
enum class Stream : u64 {
  basis,    ///< topic subspace
  mean,     ///< mean key direction
  sink,     ///< attention-sink direction
  carrier,  ///< phases of the positional carrier
  segment_length,
  segment_topic,
  key,           ///< token noise
  intent,        ///< what a query is about
  distractor,    ///< what its suppressors are about
  head_topic,    ///< a head's private direction inside the topic subspace
  head_noise,    ///< and outside it
  weight_layer,  ///< a head's standing in the layer
  weight_query,  ///< and in the query
  sign,          ///< negative weights
  bias,          ///< a head's response to the mean key
  needle,
  query_norm,
  aligned,  ///< which negative weights share the query's intent
  context,  ///< ragged context lengths
  page,     ///< page shuffle
  scale,    ///< magnitudes of the preset `extremes`
  gate,     ///< how much of an entry each of its tokens is
};

constexpr u64 h64(u64 seed, Stream stream, u64 i, u64 j) {
  const u64 a = mix64(seed + kGolden * (static_cast<u64>(stream) + 1));
  const u64 b = mix64(a + kGolden * (i + 1));
  return mix64(b + kGolden * (j + 1));
}

/// [0, 1), 53 bits.
constexpr double to_uniform(u64 hash) { return static_cast<double>(hash >> 11) * 0x1p-53; }

/// sqrt((2^32 - 1) / 3): the standard deviation of the sum of four uniform 16-bit integers.
inline constexpr double kLaneDeviation = 0x1.279a74586f649p+15;

/// Irwin-Hall(4) of the hash's four 16-bit lanes: mean 0, variance 1, |x| <= 3.464.
constexpr double to_normal(u64 hash) {
  const u64 sum = (hash & 0xFFFFu) + ((hash >> 16) & 0xFFFFu) + ((hash >> 32) & 0xFFFFu) + (hash >> 48);
  return static_cast<double>(static_cast<i64>(sum) - 131070) / kLaneDeviation;
}

constexpr double uni(u64 seed, Stream stream, u64 i, u64 j) { return to_uniform(h64(seed, stream, i, j)); }
constexpr double nrm(u64 seed, Stream stream, u64 i, u64 j) { return to_normal(h64(seed, stream, i, j)); }

/// The numbers (seed, stream, i, 0), (seed, stream, i, 1), ... with the first two mixing rounds done once.
class RandomRow {
 public:
  constexpr RandomRow(u64 seed, Stream stream, u64 i)
      : base_(mix64(mix64(seed + kGolden * (static_cast<u64>(stream) + 1)) + kGolden * (i + 1))) {}
  constexpr u64 hash(u64 j) const { return mix64(base_ + kGolden * (j + 1)); }
  constexpr double uniform(u64 j) const { return to_uniform(hash(j)); }
  constexpr double normal(u64 j) const { return to_normal(hash(j)); }

 private:
  u64 base_;
};

}  // namespace misa
