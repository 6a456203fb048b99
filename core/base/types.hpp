#pragma once

#include <cstdint>

namespace misa {

using i8 = std::int8_t;
using i32 = std::int32_t;
using i64 = std::int64_t;
using u8 = std::uint8_t;
using u16 = std::uint16_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;

constexpr i64 ceil_div(i64 a, i64 b) { return (a + b - 1) / b; }

}  // namespace misa
