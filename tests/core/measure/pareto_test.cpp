#include "core/measure/pareto.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

namespace misa {
namespace {

std::vector<Offer> draw_offers(unsigned seed, std::size_t count) {
  std::mt19937 random(seed);
  std::uniform_int_distribution<int> few(1, 8);  // so that there are ties
  std::vector<Offer> offers;
  for (std::size_t i = 0; i < count; ++i) {
    offers.push_back({static_cast<double>(few(random)), static_cast<double>(few(random)) / 8});
  }
  return offers;
}

}  // namespace

TEST_CASE("the front is those that no other beats") {
  const std::vector<Offer> offers{{10, 1.0}, {2, 0.8}, {3, 0.8}, {1, 0.5}, {4, 0.7}};
  CHECK(pareto_front(offers) == std::vector<bool>{true, true, false, true, false});
  CHECK(pareto_front({}).empty());
}

TEST_CASE("the cheapest and the best are on the front, and who is not on it is beaten by one who is") {
  for (unsigned seed = 1; seed <= 100; ++seed) {
    CAPTURE(seed);
    const std::vector<Offer> offers = draw_offers(seed, 12);
    const std::vector<bool> front = pareto_front(offers);
    for (std::size_t i = 0; i < offers.size(); ++i) {
      bool beaten = false;
      for (std::size_t j = 0; j < offers.size(); ++j) {
        const bool beats = offers[j].cost <= offers[i].cost && offers[j].quality >= offers[i].quality &&
                           (offers[j].cost != offers[i].cost || offers[j].quality != offers[i].quality);
        beaten = beaten || (beats && front[j]);
      }
      CHECK(front[i] == !beaten);
    }
  }
}

TEST_CASE("neither units nor order change the front, and equal offers share it") {
  for (unsigned seed = 1; seed <= 100; ++seed) {
    CAPTURE(seed);
    std::vector<Offer> offers = draw_offers(seed, 10);
    const std::vector<bool> front = pareto_front(offers);
    std::vector<Offer> scaled = offers;
    for (Offer& one : scaled) one = {one.cost * 1024, one.quality * 0.5};
    CHECK(pareto_front(scaled) == front);
    std::reverse(offers.begin(), offers.end());
    std::vector<bool> reversed = pareto_front(offers);
    std::reverse(reversed.begin(), reversed.end());
    CHECK(reversed == front);
  }
  const std::vector<Offer> equal(3, {1, 1});
  CHECK(pareto_front(equal) == std::vector<bool>(3, true));
}

TEST_CASE("an offer without a number is not on the front and beats nobody") {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const std::vector<Offer> offers{{1, nan}, {nan, 1}, {2, 0.5}, {std::numeric_limits<double>::infinity(), 2}};
  CHECK(pareto_front(offers) == std::vector<bool>{false, false, true, false});
}

}  // namespace misa
