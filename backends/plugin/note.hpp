#pragma once

#include <string_view>

#include "backends/plugin/plugin.hpp"

namespace misa::plugin {

/// Notes that a function runs, from construction to destruction.
class Noted {
 public:
  Noted(const StepNote& note, std::string_view step) : note_(note) {
    if (note_) note_(step);
  }
  ~Noted() {
    if (note_) note_({});
  }
  Noted(const Noted&) = delete;
  Noted& operator=(const Noted&) = delete;

 private:
  const StepNote& note_;
};

}  // namespace misa::plugin
