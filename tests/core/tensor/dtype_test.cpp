#include "core/tensor/dtype.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "tests/support/to_f16.hpp"

namespace misa {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

/// Value of a small float from its fields, by the formula.
double by_fields(u32 bits, int exponent_bits, int mantissa_bits, int bias) {
  const auto mantissa = static_cast<double>(bits & ((1u << mantissa_bits) - 1));
  const int exponent = static_cast<int>((bits >> mantissa_bits) & ((1u << exponent_bits) - 1));
  const bool negative = ((bits >> (mantissa_bits + exponent_bits)) & 1u) != 0;
  const double fraction = std::ldexp(mantissa, -mantissa_bits);
  const double value = exponent == 0 ? std::ldexp(fraction, 1 - bias) : std::ldexp(1 + fraction, exponent - bias);
  return negative ? -value : value;
}

/// The code of the nearest value by binary search over the positive codes 0..last; ties to the even code.
u32 nearest_code(double magnitude, const std::vector<double>& values) {
  const auto above = std::lower_bound(values.begin(), values.end(), magnitude);
  if (above == values.begin()) return 0;
  if (above == values.end()) return static_cast<u32>(values.size() - 1);
  const auto high = static_cast<u32>(above - values.begin());
  const double up = values[high] - magnitude, down = magnitude - values[high - 1];
  if (up == down) return high % 2 == 0 ? high : high - 1;
  return up < down ? high : high - 1;
}

/// Floats that matter: every value of a format, the midpoints between neighbours, and the floats next to each.
template <class Check>
void around(const std::vector<double>& values, const Check& check) {
  for (std::size_t i = 0; i < values.size(); ++i) {
    const double next = i + 1 < values.size() ? values[i + 1] : values[i];
    for (double point : {values[i], (values[i] + next) / 2}) {
      const float x = static_cast<float>(point);
      for (float near : {std::nextafter(x, -kInfinity), x, std::nextafter(x, kInfinity)}) {
        if (near < 0) continue;
        check(near);
      }
    }
  }
}

}  // namespace

TEST_CASE("all e4m3 codes decode by the formula") {
  for (u32 code = 0; code < 256; ++code) {
    const float value = to_float(E4m3{static_cast<u8>(code)});
    if ((code & 0x7F) == 0x7F) {
      CHECK(std::isnan(value));
    } else {
      CHECK(value == by_fields(code, 4, 3, 7));
      CHECK(std::signbit(value) == (code >= 128));
    }
  }
}

TEST_CASE("all f16 codes decode by the formula") {
  for (u32 code = 0; code < 65536; ++code) {
    const float value = to_float(F16{static_cast<u16>(code)});
    if ((code & 0x7C00) == 0x7C00) {
      CHECK(((code & 0x3FF) == 0 ? std::isinf(value) : std::isnan(value)));
      continue;
    }
    REQUIRE(value == by_fields(code, 5, 10, 15));
    REQUIRE(std::signbit(value) == (code >= 0x8000));
  }
}

TEST_CASE("all e8m0 codes decode to powers of two") {
  for (int code = 0; code < 255; ++code) CHECK(e8m0_to_float(static_cast<u8>(code)) == std::ldexp(1.0, code - 127));
  CHECK(std::isnan(e8m0_to_float(0xFF)));
}

TEST_CASE("every code of every format survives a round trip") {
  for (u32 code = 0; code < 65536; ++code) {
    const Bf16 bf16{static_cast<u16>(code)};
    const F16 f16{static_cast<u16>(code)};
    if (!std::isnan(to_float(bf16))) REQUIRE(to_bf16(to_float(bf16)).bits == code);
    if (!std::isnan(to_float(f16))) REQUIRE(to_f16(to_float(f16)).bits == code);
  }
  for (u32 code = 0; code < 256; ++code) {
    if ((code & 0x7F) != 0x7F) CHECK(to_e4m3(to_float(E4m3{static_cast<u8>(code)})).bits == code);
  }
}

TEST_CASE("floats round to the nearest e4m3, ties to even, saturating") {
  std::vector<double> values;
  for (u32 code = 0; code < 0x7F; ++code) values.push_back(by_fields(code, 4, 3, 7));
  const auto check = [&](float x) {
    CAPTURE(x);
    CHECK(to_e4m3(x).bits == nearest_code(x, values));
    CHECK(to_e4m3(-x).bits == (nearest_code(x, values) | 0x80));
  };
  around(values, check);
  for (float large : {449.0f, 464.0f, 480.0f, 1e10f, kInfinity}) check(large);
  for (float tiny : {0x1p-11f, 0x1p-40f, 0x1p-149f}) check(tiny);
  CHECK(to_e4m3(std::numeric_limits<float>::quiet_NaN()).bits == 0x7F);
}

TEST_CASE("floats round to the nearest f16, ties to even") {
  std::vector<double> values;
  for (u32 code = 0; code < 0x7C00; ++code) values.push_back(by_fields(code, 5, 10, 15));
  values.push_back(65536);  // where infinity stands
  around(values, [&](float x) {
    REQUIRE_MESSAGE(to_f16(x).bits == nearest_code(x, values), x);
    REQUIRE_MESSAGE(to_f16(-x).bits == (nearest_code(x, values) | 0x8000), x);
  });
  CHECK(to_f16(65519.0f).bits == 0x7BFF);
  CHECK(to_f16(65520.0f).bits == 0x7C00);
  CHECK(to_f16(1e30f).bits == 0x7C00);
  CHECK(to_f16(-kInfinity).bits == 0xFC00);
  CHECK(std::isnan(to_float(to_f16(std::numeric_limits<float>::quiet_NaN()))));
}

TEST_CASE("floats round to the nearest bf16, ties to even") {
  for (u32 upper = 0; upper < 0x7F80; ++upper) {
    for (u32 lower : {0x0000u, 0x0001u, 0x7FFFu, 0x8000u, 0x8001u, 0xFFFFu}) {
      const float x = std::bit_cast<float>((upper << 16) | lower);
      const u32 expected = upper + (lower > 0x8000u || (lower == 0x8000u && upper % 2 == 1) ? 1 : 0);
      REQUIRE(to_bf16(x).bits == expected);
      REQUIRE(to_bf16(-x).bits == (expected | 0x8000u));
    }
  }
  CHECK(to_bf16(kInfinity).bits == 0x7F80);
  CHECK(std::isnan(to_float(to_bf16(std::bit_cast<float>(0x7F800001u)))));
  CHECK(std::isnan(to_float(to_bf16(std::bit_cast<float>(0xFFFFFFFFu)))));
}

TEST_CASE("conversions are constant expressions") {
  static_assert(to_float(to_e4m3(1.5f)) == 1.5f);
  static_assert(to_float(to_bf16(-2.0f)) == -2.0f);
  static_assert(to_float(to_f16(0.25f)) == 0.25f);
  static_assert(e8m0_to_float(127) == 1.0f);
}

}  // namespace misa
