#pragma once

#include <string>

#include "core/workload/workload.hpp"

namespace misa {

/// 16 hexadecimal digits that depend on everything an indexer reads: values, scales, weights, norms, windows and pages,
/// with their dtypes and shapes. Names and metadata do not count. Not cryptographic. Source: ours (splitmix64 chain).
std::string input_hash(const Workload& workload);

/// The same of one tensor: values, dtype and shape.
std::string tensor_hash(const HostTensor& tensor);

}  // namespace misa
