#pragma once

#include "core/base/types.hpp"

namespace misa {

constexpr u64 kGolden = 0x9E3779B97F4A7C15ull;

/// The splitmix64 finaliser: a bijection of 64 bits in which every input bit reaches every output bit.
constexpr u64 mix64(u64 x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ull;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBull;
  return x ^ (x >> 31);
}

}  // namespace misa
