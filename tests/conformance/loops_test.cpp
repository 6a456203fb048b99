// The cpu backend's loops, at every level of vector instructions that this processor has, beside plain code.

#include "backends/cpu/loops.hpp"

#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "core/tensor/vectors.hpp"

using namespace misa;
using namespace misa::cpu;

namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN(), kInfinity = std::numeric_limits<float>::infinity();

bool same(float a, float b) {
  return std::bit_cast<u32>(a) == std::bit_cast<u32>(b) || (std::isnan(a) && std::isnan(b));
}

/// Numbers of many sizes, with zeros of both signs, infinities and NaN among them.
std::vector<float> draw_numbers(std::mt19937& random, i64 count) {
  std::vector<float> numbers;
  for (i64 i = 0; i < count; ++i) {
    const float number =
        std::ldexp(std::uniform_real_distribution<float>(-1, 1)(random), static_cast<int>(random() % 40) - 20);
    const float odd[]{0.0f, -0.0f, kInfinity, -kInfinity, kNaN, 1.0f};
    numbers.push_back(random() % 4 == 0 ? odd[random() % 6] : number);
  }
  return numbers;
}

}  // namespace

TEST_CASE("every level of loops widens every number of 8 and 16 bits exactly, wherever it stands") {
  for (const Loops* level : all_loops()) {
    CAPTURE(std::string(level->level));
    for (const i64 offset : {0, 1, 31}) {
      std::vector<E4m3> small(static_cast<std::size_t>(256 + offset));
      for (std::size_t i = 0; i < small.size(); ++i) small[i].bits = static_cast<u8>(i);
      std::vector<Bf16> middle(small.size()), all(65536);
      std::vector<float> large(small.size()), wide(all.size());
      level->e4m3_to_bf16(small.data(), std::ssize(small), middle.data());
      level->e4m3_to_f32(small.data(), std::ssize(small), large.data());
      i64 wrong = 0;
      for (std::size_t i = 0; i < small.size(); ++i) {
        wrong += same(to_float(middle[i]), to_float(small[i])) && same(large[i], to_float(small[i])) ? 0 : 1;
      }
      CHECK(wrong == 0);
      for (std::size_t i = 0; i < all.size(); ++i) all[i].bits = static_cast<u16>(i);
      level->bf16_to_f32(all.data(), std::ssize(all) - offset, wide.data());
      for (std::size_t i = 0; i + static_cast<std::size_t>(offset) < all.size(); ++i) {
        wrong += same(wide[i], to_float(all[i])) ? 0 : 1;
      }
      CHECK(wrong == 0);
    }
  }
}

TEST_CASE("every level of loops widens every INT8 number and every MXFP4 byte at every scale exactly") {
  for (const Loops* level : all_loops()) {
    CAPTURE(std::string(level->level));
    std::vector<i8> small(256 + 7);
    for (std::size_t i = 0; i < small.size(); ++i) small[i] = static_cast<i8>(i);
    std::vector<float> large(small.size());
    std::vector<Bf16> middle(small.size());
    level->int8_to_f32(small.data(), std::ssize(small), large.data());
    level->int8_to_bf16(small.data(), std::ssize(small), middle.data());
    i64 wrong = 0;
    for (std::size_t i = 0; i < small.size(); ++i)
      wrong += large[i] == small[i] && to_float(middle[i]) == large[i] ? 0 : 1;
    CHECK(wrong == 0);
    // 512 numbers: every byte once.
    std::vector<u8> codes(256);
    for (std::size_t i = 0; i < codes.size(); ++i) codes[i] = static_cast<u8>(i);
    for (u32 scale = 0; scale < 256; ++scale) {
      std::vector<u8> scales(16);
      for (std::size_t b = 0; b < scales.size(); ++b) scales[b] = static_cast<u8>(scale + b);
      large.assign(512, 7.0f);
      middle.assign(512, Bf16{});
      level->mxfp4_to_f32(codes.data(), scales.data(), 512, large.data());
      level->mxfp4_to_bf16(codes.data(), scales.data(), 512, middle.data());
      const Mxfp4Vector vector{codes.data(), scales.data()};
      for (i64 d = 0; d < 512; ++d) {
        const std::size_t at = static_cast<std::size_t>(d);
        wrong += same(large[at], vector[d]) && same(to_float(middle[at]), vector[d]) ? 0 : 1;
      }
    }
    CHECK(wrong == 0);
  }
}

TEST_CASE("every level of loops adds keys and weighs heads as plain code does in double") {
  for (const Loops* level : all_loops()) {
    CAPTURE(std::string(level->level));
    for (u32 seed = 1; seed <= 60; ++seed) {
      CAPTURE(seed);
      std::mt19937 random(seed);
      const auto whole = [&](i64 least, i64 most) { return std::uniform_int_distribution<i64>(least, most)(random); };
      const auto number = [&] { return std::uniform_real_distribution<float>(-2, 2)(random); };
      const i64 heads = whole(1, 70), stride = 256, from = whole(0, 255), to = whole(from, 256), dim = whole(1, 200);
      std::vector<float> products(static_cast<std::size_t>(heads * stride)), weights, scales;
      for (float& one : products) one = number();
      for (i64 h = 0; h < heads; ++h) weights.push_back(number());
      for (i64 c = 0; c < stride; ++c) scales.push_back(number());
      if (seed % 3 == 0) products[static_cast<std::size_t>(whole(0, heads * stride - 1))] = kNaN;
      std::vector<float> sums(static_cast<std::size_t>(to - from) + 1, 7.0f);
      level->weigh_heads(products.data(), stride, weights.data(), heads, scales.data(), from, to, sums.data());
      for (i64 c = from; c < to; ++c) {
        double exact = 0, size = 0;
        for (i64 h = 0; h < heads; ++h) {
          const double product = products[static_cast<std::size_t>(h * stride + c)];
          exact += static_cast<double>(weights[static_cast<std::size_t>(h)]) * (product < 0 ? 0.0 : product);
          size += std::abs(static_cast<double>(weights[static_cast<std::size_t>(h)]) * product);
        }
        const double scale = scales[static_cast<std::size_t>(c)], found = sums[static_cast<std::size_t>(c - from)];
        if (std::isnan(exact)) {
          CHECK(std::isnan(found));
        } else {
          CHECK(std::abs(found - scale * exact) <=
                std::abs(scale) * (0x1p-24 * std::abs(exact) + 0x1p-45 * size) + 0x1p-126);
        }
      }
      CHECK(sums.back() == 7.0f);  // nothing is written beyond

      const i64 keys = whole(0, 40);
      std::vector<float> key(static_cast<std::size_t>(keys * dim + 1));
      for (float& one : key) one = number();
      std::vector<double> sum(static_cast<std::size_t>(dim), 1.0);
      level->add_keys(key.data(), keys, dim, scales.data(), sum.data());
      for (i64 d = 0; d < dim; ++d) {
        double exact = 1;
        for (i64 t = 0; t < keys; ++t) {
          exact +=
              static_cast<double>(scales[static_cast<std::size_t>(t)]) * key[static_cast<std::size_t>(t * dim + d)];
        }
        CHECK(std::abs(sum[static_cast<std::size_t>(d)] - exact) <= 0x1p-44);
      }
    }
  }
}

TEST_CASE("every level of loops finds the numbers above a bound and counts those from one on, NaN never") {
  for (const Loops* level : all_loops()) {
    CAPTURE(std::string(level->level));
    for (u32 seed = 1; seed <= 300; ++seed) {
      CAPTURE(seed);
      std::mt19937 random(seed);
      const std::vector<float> numbers = draw_numbers(random, static_cast<i64>(random() % 200));
      const float bounds[]{-kInfinity, -1.0f, -0.0f, 0.0f, 1.0f, kInfinity};
      const float bound = bounds[random() % 6];
      std::vector<float> values(numbers.size() + 1, 7.0f), above;
      std::vector<i32> places(numbers.size() + 1, -7), at;
      i64 from = 0;
      for (std::size_t i = 0; i < numbers.size(); ++i) {
        from += numbers[i] >= bound ? 1 : 0;
        if (!(numbers[i] > bound)) continue;
        above.push_back(numbers[i]);
        at.push_back(static_cast<i32>(i));
      }
      const i64 count = level->keep_above(numbers.data(), std::ssize(numbers), bound, values.data(), places.data());
      CHECK(values.back() == 7.0f);  // nothing is written beyond
      CHECK(places.back() == -7);
      REQUIRE(count == std::ssize(above));
      values.resize(above.size());
      places.resize(at.size());
      CHECK(values == above);
      CHECK(places == at);
      CHECK(level->count_from(numbers.data(), std::ssize(numbers), bound) == from);
    }
  }
}
