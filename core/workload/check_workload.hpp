#pragma once

#include <string>

#include "core/workload/workload.hpp"

namespace misa {

/// Refuses what docs/traces.md forbids: shapes, windows and values, all that read_trace demands. `where` is for
/// messages. Error(input).
void check_workload(const Workload& workload, const std::string& where);

/// Throws Error(input) when a contiguous key that no row sees is not a finite number. Such keys are legal, but block
/// window `upstream` averages them.
void check_unseen_keys(const Workload& workload, const std::string& where);

namespace trace {

/// Refuses what can be refused before looking at values. `q_pos`, `ks` and `ke` are checked with the windows.
void check_shapes(const Workload& workload, const std::string& where);

}  // namespace trace
}  // namespace misa
