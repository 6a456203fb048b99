#pragma once

#include <chrono>
#include <vector>

#include "core/indexer/backend.hpp"

namespace misa {

/// The clock of backends whose calls return when the work is done.
class WallClock final : public Clock {
 public:
  void reset() override { marks_.clear(); }
  int mark() override {
    marks_.push_back(std::chrono::steady_clock::now());
    return static_cast<int>(marks_.size()) - 1;
  }
  double seconds(int from, int to) override {
    return std::chrono::duration<double>(marks_.at(to) - marks_.at(from)).count();
  }

 private:
  std::vector<std::chrono::steady_clock::time_point> marks_;
};

}  // namespace misa
