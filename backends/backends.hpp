#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "core/indexer/backend.hpp"

namespace misa {

struct BackendInfo {
  std::string_view name, what;
  std::optional<std::string> (*why_absent)();
  std::unique_ptr<Backend> (*make)(int threads);
};

/// Every backend the project knows, present or not.
std::span<const BackendInfo> backends();

/// Throws Error(usage) for an unknown name, Error(unavailable) with the reason for an absent one.
std::unique_ptr<Backend> make_backend(std::string_view name, int threads);

}  // namespace misa
