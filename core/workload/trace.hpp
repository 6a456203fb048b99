#pragma once

#include <map>
#include <string>
#include <vector>

#include "core/base/warning.hpp"
#include "core/workload/workload.hpp"

// Recorded workloads: misa-trace/1, a safetensors file per (layer, phase). docs/traces.md is its description.

namespace misa {

/// Reads and checks a recorded workload. `max_bytes` bounds the tensors' memory. What is suspicious but not wrong
/// goes to `warnings`. Error(input) with an id of its own for everything docs/traces.md says is refused.
Workload read_trace(const std::string& path, i64 max_bytes, std::vector<Warning>* warnings = nullptr);

/// Writes `workload` so that read_trace gives it back, every tensor byte for byte (`name` becomes the file's stem).
/// Checks it first, as read_trace would: a file that is written can be read.
void write_trace(const std::string& path, const Workload& workload);

/// All that read_trace demands of values, for a workload in memory. `where` is for messages. Error(input).
void check_workload(const Workload& workload, const std::string& where);

/// Throws Error(input) when a contiguous key that no row sees is not a finite number. Such keys are legal, but block
/// window `upstream` averages them.
void check_unseen_keys(const Workload& workload, const std::string& where);

/// What a backend selected for the rows of a workload. Tensors that were not recorded are empty.
struct RecordedSelection {
  HostTensor tokens;      ///< [M, k] i32, relative to the row's ks, ascending, -1 pads last
  HostTensor heads;       ///< [M, h] i32, distinct, -1 pads last
  HostTensor linear;      ///< [M, D + 1] f32: the query of a linear head as it was scored, and its weight
  HostTensor blocks;      ///< [M, m] i32, relative to the row's first block, ascending, -1 pads last
  HostTensor candidates;  ///< [M, k'] i32 of a re-rank, as tokens
  HostTensor scores;      ///< [M, k] f32 or f64 of the tokens; any value

  std::vector<i32> ks, ke;                      ///< [M] the windows they were made for; filled by reading
  std::map<std::string, std::string> metadata;  ///< filled by reading
};

/// Writes a selection as out.topk, out.heads, out.blocks with the workload's windows and metadata; `metadata` adds to
/// it or overrides it (indexer, device, driver, commit, block_size, ...). `as_it_is` writes what could not be read
/// again, for reports of faults.
void write_selection(const std::string& path, const Workload& workload, const RecordedSelection& selection,
                     const std::map<std::string, std::string>& metadata, bool as_it_is = false);

/// Reads what write_selection wrote, as strictly as read_trace. Error(input).
RecordedSelection read_selection(const std::string& path, i64 max_bytes = i64{1} << 32);

/// Throws Error(input) when `selection` was not made for the rows of `workload` (their number or windows differ).
void check_selection_fits(const RecordedSelection& selection, const Workload& workload, const std::string& where);

}  // namespace misa
