// The order of scores, which top-k selects by, and of heads' costs as whole numbers, on the host.

#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <random>

#include "backends/cuda/pipeline/rank.cuh"
#include "backends/cuda/ptx/ptx.cuh"

using namespace misa;
using namespace misa::cuda;

namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr u32 kOfZero = 0x80000000u;

/// Ranks of scores: those near 0, the infinities and the largest numbers, and drawn ones.
std::vector<u32> ranks() {
  std::vector<u32> all;
  for (const u32 at : {kLowest, kOfZero, kHighest, rank_of(1.0f), rank_of(-1.0f)}) {
    for (u32 rank = std::max(kLowest, at - 40); rank <= std::min(kHighest, at + 40); ++rank) all.push_back(rank);
  }
  std::mt19937 engine(11);
  for (int i = 0; i < 200'000; ++i) all.push_back(kLowest + static_cast<u32>(engine()) % (kHighest - kLowest + 1));
  std::erase(all, kOfZero - 1);  // no score has this one
  return all;
}

}  // namespace

TEST_CASE("a rank is its score's, -0 equals 0, and NaN is below all") {
  for (const u32 rank : ranks()) {
    INFO("rank " << rank);
    CHECK(rank_of(score_of(rank)) == rank);
  }
  CHECK(rank_of(-0.0f) == rank_of(0.0f));
  CHECK(rank_of(0.0f) == kOfZero);
  CHECK(rank_of(kInf) == kHighest);
  CHECK(rank_of(-kInf) == kLowest);
  CHECK(rank_of(std::nanf("")) < kLowest);
}

TEST_CASE("the rank below a rank is that of a score which it exceeds, however the two are compared") {
  for (const u32 rank : ranks()) {
    if (rank == kLowest) continue;
    INFO("rank " << rank);
    const u32 below = rank_below(rank);
    const float bar = score_of(below), score = score_of(rank);
    CHECK(below < rank);
    CHECK(below >= kLowest);
    CHECK_FALSE((bar == 0 && std::signbit(bar)));
    CHECK(rank_of(bar) == below);
    // One way to keep columns compares, the other looks at a sign.
    CHECK(score > bar);
    CHECK((above_bit(score, bar) >> 31) == 1);
    CHECK_FALSE(bar > score);
    if (std::isfinite(bar)) CHECK((above_bit(bar, bar) >> 31) == 0);
  }
}

TEST_CASE("both zeros are above the rank below 0, and neither is above 0") {
  const float bar = score_of(rank_below(kOfZero));
  for (const float zero : {0.0f, -0.0f}) {
    CHECK(zero > bar);
    CHECK((above_bit(zero, bar) >> 31) == 1);
    CHECK_FALSE(zero > score_of(kOfZero));
    CHECK((above_bit(zero, score_of(kOfZero)) >> 31) == 0);
  }
}

TEST_CASE("no cost of a head, NaN of whatever bits among them, is taken for that of a dropped one") {
  for (const u32 bits : {0u, 0x80000000u, 0x7f800000u, 0xff800000u, 0x7fc00000u, 0xffc00000u, 0x7fffffffu, 0xffffffffu,
                         0x7f7fffffu, 0x00000001u}) {
    INFO("bits " << bits);
    CHECK(order_of_cost(std::bit_cast<float>(bits)) < kDropped);
  }
  CHECK(order_of_cost(-0.0f) == order_of_cost(0.0f));
  CHECK(order_of_cost(-1.0f) < order_of_cost(0.0f));
  CHECK(order_of_cost(1.0f) < order_of_cost(2.0f));
  CHECK(order_of_cost(2.0f) < order_of_cost(std::numeric_limits<float>::infinity()));
}
