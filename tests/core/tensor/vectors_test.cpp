#include "core/tensor/vectors.hpp"

#include <doctest/doctest.h>

#include <array>
#include <bit>
#include <cmath>
#include <vector>

namespace misa {
namespace {

/// OCP Microscaling Formats v1.0, table 5: what the sixteen e2m1 codes mean.
constexpr std::array<double, 16> kE2m1{0.0,  0.5,  1.0,  1.5,  2.0,  3.0,  4.0,  6.0,
                                       -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0};

}  // namespace

TEST_CASE("every e2m1 code at every scale is the number of the table, in either half of a byte") {
  i64 subnormal = 0;
  for (u32 scale = 0; scale < 256; ++scale) {
    for (u32 code = 0; code < 16; ++code) {
      CAPTURE(scale);
      CAPTURE(code);
      std::vector<u8> codes(16, 0), scales{0, static_cast<u8>(scale), 0, 0};
      codes[2] = static_cast<u8>(code);
      codes[5] = static_cast<u8>(code << 4);
      // The second block is the one with the scale.
      std::vector<u8> both(16, 0);
      both.insert(both.end(), codes.begin(), codes.end());
      const Mxfp4Vector vector{both.data(), scales.data()};
      const double exact = std::ldexp(kE2m1[code], static_cast<int>(scale) - 127);
      for (const i64 d : {32 + 4, 32 + 11}) {
        const float value = vector[d];
        if (scale == 255) {
          CHECK(std::isnan(value));
          continue;
        }
        CHECK(value == static_cast<float>(exact));  // infinite above f32
        CHECK(std::signbit(value) == (code >= 8));
        if (std::isfinite(value)) CHECK(to_float(to_bf16(value)) == value);
        subnormal += value != 0 && std::abs(value) < 0x1p-126f ? 1 : 0;
      }
      CHECK(vector[0] == 0);
    }
  }
  CHECK(subnormal > 0);
}

TEST_CASE("a number becomes the nearest e2m1 code, ties the even one, and 6 is the largest") {
  for (int i = -5000; i <= 5000; ++i) {
    const float x = static_cast<float>(i) / 512.0f;
    CAPTURE(x);
    const u8 code = to_e2m1(x);
    REQUIRE(code < 16);
    CHECK(e2m1_to_float(code) == static_cast<float>(kE2m1[code]));
    if (x != 0) CHECK((code >= 8) == (x < 0));
    const double distance = std::abs(kE2m1[code] - x);
    for (u32 other = 0; other < 16; ++other) {
      const double away = std::abs(kE2m1[other] - x);
      CHECK(away >= distance);
      if (away == distance && kE2m1[other] != kE2m1[code]) CHECK(code % 2 == 0);
    }
  }
  CHECK(to_e2m1(1e30f) == 7);
  CHECK(to_e2m1(-INFINITY) == 15);
}

TEST_CASE("slices of MXFP4 vectors are those of their numbers, along either axis") {
  constexpr i64 kFirst = 3, kSecond = 4, kDim = 64;
  std::vector<u8> codes(kFirst * kSecond * kDim / 2), scales(kFirst * kSecond * 4);
  for (std::size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<u8>(i * 37 + i / 7);
  for (std::size_t i = 0; i < scales.size(); ++i) scales[i] = static_cast<u8>(120 + i % 11);
  const Mxfp4View view({codes.data(), {kFirst, kSecond, kDim / 2}}, {scales.data(), {kFirst, kSecond, 4}});
  CHECK(view.shape == std::array<i64, 3>{kFirst, kSecond, kDim});
  const Mxfp4View rows = view.slice(1, 2), heads = slice_second(view, 2, 2);
  CHECK(rows.shape == std::array<i64, 3>{2, kSecond, kDim});
  CHECK(heads.shape == std::array<i64, 3>{kFirst, 2, kDim});
  for (i64 d = 0; d < kDim; ++d) {
    CHECK(rows(1, 3, d) == view(2, 3, d));
    CHECK(heads(2, 1, d) == view(2, 3, d));
    CHECK(vector_of(view, 1, 2)[d] == view(1, 2, d));
  }
}

}  // namespace misa
