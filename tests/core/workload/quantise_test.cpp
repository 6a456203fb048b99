#include "core/workload/quantise.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "core/workload/rng.hpp"

namespace misa {
namespace {

/// The nearest finite code by search; of two equally near the one with an even code.
u8 slow_e4m3(double value) {
  int best = -1;
  double least = std::numeric_limits<double>::infinity();
  for (int code = 0; code < 256; ++code) {
    if ((code & 0x7F) == 0x7F || ((code & 0x80) != 0) != std::signbit(value)) continue;
    const double distance = std::abs(static_cast<double>(to_float(E4m3{static_cast<u8>(code)})) - value);
    if (distance < least || (distance == least && (code & 1) == 0)) {
      best = code;
      least = distance;
    }
  }
  return static_cast<u8>(best);
}

}  // namespace

TEST_CASE("every finite code survives a round trip at scale 1") {
  for (int code = 0; code < 256; ++code) {
    if ((code & 0x7F) == 0x7F) continue;
    const E4m3 in{static_cast<u8>(code)};
    const std::vector<float> values = {to_float(in), 448.0f};  // 448 makes the scale 1
    for (ValueFormat format : {ValueFormat::e4m3, ValueFormat::e4m3_ue8m0}) {
      E4m3 out[2];
      CHECK(quantise_e4m3(values, format, out) == 1.0f);
      CHECK(out[0].bits == in.bits);
      CHECK(out[1].bits == 0x7E);
    }
  }
}

TEST_CASE("random vectors round to the nearest code, ties to even") {
  for (u64 vector = 0; vector < 400; ++vector) {
    const RandomRow random(11, Stream::key, vector);
    std::vector<float> values(128);
    const float size = std::ldexp(1.0f, static_cast<int>(vector % 40) - 12);
    for (u64 i = 0; i < 128; ++i) {
      values[i] =
          size * static_cast<float>(random.normal(i)) * std::ldexp(1.0f, -static_cast<int>(random.hash(i) % 14));
    }
    const ValueFormat format = vector % 2 == 0 ? ValueFormat::e4m3 : ValueFormat::e4m3_ue8m0;
    std::vector<E4m3> codes(128);
    const float scale = quantise_e4m3(values, format, codes.data());
    for (u64 i = 0; i < 128; ++i) {
      const float scaled = values[i] / scale;
      REQUIRE(std::abs(scaled) <= 448.001f);
      CAPTURE(vector);
      CAPTURE(i);
      CHECK(codes[i].bits == slow_e4m3(scaled));
    }
  }
}

TEST_CASE("ties round to the even code") {
  const std::vector<float> values = {448.0f, 1.0625f, 1.1875f, -1.0625f, 0x1p-10f, 3 * 0x1p-10f};
  E4m3 codes[6];
  quantise_e4m3(values, ValueFormat::e4m3, codes);
  CHECK(to_float(codes[1]) == 1.0f);
  CHECK(to_float(codes[2]) == 1.25f);
  CHECK(to_float(codes[3]) == -1.0f);
  CHECK(to_float(codes[4]) == 0.0f);
  CHECK(to_float(codes[5]) == 0x1p-8f);
}

TEST_CASE("ue8m0 scales are the next power of two at or above amax / 448") {
  CHECK(e4m3_scale(448.0f, ValueFormat::e4m3_ue8m0) == 1.0f);
  CHECK(e4m3_scale(448.1f, ValueFormat::e4m3_ue8m0) == 2.0f);
  CHECK(e4m3_scale(447.0f, ValueFormat::e4m3_ue8m0) == 1.0f);
  CHECK(e4m3_scale(224.0f, ValueFormat::e4m3_ue8m0) == 0.5f);
  CHECK(e4m3_scale(448.0f * 0x1p60f, ValueFormat::e4m3_ue8m0) == 0x1p60f);
  for (u64 i = 0; i < 10000; ++i) {
    const float amax = static_cast<float>(std::ldexp(uni(1, Stream::key, 0, i) + 0.5, static_cast<int>(i % 60) - 10));
    const float scale = e4m3_scale(amax, ValueFormat::e4m3_ue8m0);
    int exponent = 0;
    CHECK(std::frexp(scale, &exponent) == 0.5f);
    CHECK(amax / scale <= 448.0f);
    CHECK(amax / scale > 223.99f);
  }
}

TEST_CASE("zero vectors and tiny ones have a positive scale") {
  const std::vector<float> zeros(32, 0.0f);
  for (ValueFormat format : {ValueFormat::e4m3, ValueFormat::e4m3_ue8m0}) {
    std::vector<E4m3> codes(32, E4m3{0x11});
    CHECK(quantise_e4m3(zeros, format, codes.data()) > 0.0f);
    for (E4m3 code : codes) CHECK(code.bits == 0);
  }
  CHECK(e4m3_scale(1e-9f, ValueFormat::e4m3) == 1e-4f / 448.0f);
  CHECK(e4m3_scale(0.0f, ValueFormat::e4m3_ue8m0) == 0x1p-22f);
}

TEST_CASE("formats have names and element types") {
  for (std::size_t i = 0; i < value_format_names().size(); ++i) {
    CHECK(value_format_name(static_cast<ValueFormat>(i)) == value_format_names()[i]);
  }
  CHECK(element_dtype(ValueFormat::e4m3_ue8m0) == Dtype::e4m3);
  CHECK(element_dtype(ValueFormat::bf16) == Dtype::bf16);
}

}  // namespace misa
