#include "core/measure/pareto.hpp"

#include <algorithm>
#include <cmath>

namespace misa {

std::vector<bool> pareto_front(std::span<const Offer> offers) {
  const auto known = [](const Offer& one) { return std::isfinite(one.cost) && std::isfinite(one.quality); };
  std::vector<bool> front;
  for (const Offer& one : offers) {
    front.push_back(known(one) && std::none_of(offers.begin(), offers.end(), [&](const Offer& other) {
                      return known(other) && other.cost <= one.cost && other.quality >= one.quality &&
                             (other.cost < one.cost || other.quality > one.quality);
                    }));
  }
  return front;
}

}  // namespace misa
