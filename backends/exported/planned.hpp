#pragma once

#include <optional>

#include "backends/plugin/misa_kernel.h"
#include "core/indexer/plan.hpp"

namespace misa::exported {

/// What a misa_index_plan asks for.
struct Asked {
  IndexerSpec spec;
  Problem problem;      ///< without memory: shape and windows
  misa_keys keys = {};  ///< shape alone
};

/// Throws Error(input) or Error(usage) where the plan contradicts itself.
Asked read_plan(const misa_index_plan& plan);

/// An indexer with its memory, for any number of runs over queries and keys of one shape.
class Planned {
 public:
  /// Allocates. Its memory is ready on every stream afterwards.
  Planned(Backend& backend, Asked asked);
  Planned(const Planned&) = delete;
  Planned& operator=(const Planned&) = delete;

  /// Throws Error(input) where the task is not as planned.
  void run(const misa_index_task& task);

 private:
  Asked asked_;  ///< the plan reads from its problem what each run puts there
  Buffer windows_;
  std::optional<Plan> plan_;
};

}  // namespace misa::exported
