#pragma once

#include <vector>

#include "core/indexer/backend.hpp"

namespace misa {

/// A clock that moves only when told to.
class FakeClock final : public Clock {
 public:
  double now = 0;
  int resets = 0;

  void reset() override {
    marks_.clear();
    ++resets;
  }
  int mark() override {
    marks_.push_back(now);
    return static_cast<int>(marks_.size()) - 1;
  }
  double seconds(int from, int to) override {
    return marks_.at(static_cast<std::size_t>(to)) - marks_.at(static_cast<std::size_t>(from));
  }

 private:
  std::vector<double> marks_;
};

}  // namespace misa
