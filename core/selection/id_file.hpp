#pragma once

#include <string>
#include <vector>

#include "core/workload/workload.hpp"

// What somebody's kernel selected, from a file that need not know of this program: a `.npy` array, or a safetensors
// file with a tensor `topk` or `out.topk`, or with no other tensor of integers.

namespace misa {

/// Ids as a file has them: not yet judged, nor counted from any place.
struct IdFile {
  HostTensor ids;          ///< [R, k] i32, in any order, -1 where there is none
  std::vector<i32> rows;   ///< [R] the workload's row of each
  std::string arithmetic;  ///< `topk_arithmetic` of the metadata, or `arithmetic` of a dump of ours; empty: none
};

/// Reads I32 or I64, by the file's content and not its name, of any shape whose last axis are columns and whose others
/// multiply to the workload's rows, or to those that an optional `topk_row` names. Error(input): malformed, of other
/// rows, an id beyond 32 bits; Error(runtime): it takes more than `max_bytes`.
IdFile read_ids(const std::string& path, const Workload& workload, i64 max_bytes);

}  // namespace misa
