#pragma once

#include "core/workload/workload.hpp"

namespace misa {

/// Fills every key that no row can see with NaN, scale included: whole pages, slots after a sequence's end, tokens
/// outside of all windows. Nothing that an indexer selects may depend on them. Returns how many keys were filled.
/// (Block window upstream averages whole blocks, so it does read tokens beyond a window.)
i64 poison_unseen(Workload& workload);

}  // namespace misa
