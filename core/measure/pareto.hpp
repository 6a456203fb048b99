#pragma once

#include <span>
#include <vector>

namespace misa {

/// Something that costs and is worth something, in any units.
struct Offer {
  double cost = 0;     ///< less is better
  double quality = 0;  ///< more is better
};

/// Which of the offers are on the Pareto front: no other costs no more and is worth no less, and is better in one of
/// the two. Equal offers are on it together. One that is no pair of finite numbers is not. [offers]
std::vector<bool> pareto_front(std::span<const Offer> offers);

}  // namespace misa
