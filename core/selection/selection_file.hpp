#pragma once

#include <map>
#include <string>
#include <vector>

#include "core/selection/selection.hpp"
#include "core/workload/workload.hpp"

// Selections on file: misa-trace/1 with kind = selection (docs/traces.md).

namespace misa {

struct SelectionFile {
  Selection selection;
  std::vector<i32> ks, ke;  ///< [M] the windows that it was made for
  std::map<std::string, std::string> metadata;
};

/// Writes a selection as out.heads, out.topk, ... with the workload's windows and metadata; `metadata` adds to it or
/// overrides it (indexer, device, driver, commit, block_size, ...). `as_it_is` writes what could not be read again, for
/// reports of faults. Error(input) for what read_selection would refuse.
void write_selection(const std::string& path, const Workload& workload, const Selection& selection,
                     const std::map<std::string, std::string>& metadata, bool as_it_is = false);

/// Reads what write_selection wrote, as strictly as read_trace. Error(input); Error(runtime): its tensors take more
/// than `max_bytes`. `as_it_is` takes ids that are no selection.
SelectionFile read_selection(const std::string& path, i64 max_bytes = i64{1} << 32, bool as_it_is = false);

/// Throws Error(input) when `file` was not made for the rows of `workload` (their number or windows differ).
void check_selection_fits(const SelectionFile& file, const Workload& workload, const std::string& where);

}  // namespace misa
