#pragma once

#include <optional>
#include <string>

#include "core/base/types.hpp"

namespace misa {

/// What a container allows this process: the least of its control groups, versions 1 and 2. Empty: no limit is known.
struct ContainerLimits {
  bool known = false;                ///< the system says which control groups this process is in
  std::optional<double> cores;       ///< CPU time per time, 1.5
  std::optional<i64> memory_bytes;   ///< of all its processes
  std::optional<i64> memory_in_use;  ///< by the group that sets the limit, without files that the cache can drop
};

/// `root`: the folder that stands for /, for tests.
ContainerLimits container_limits(const std::string& root = "");

}  // namespace misa
