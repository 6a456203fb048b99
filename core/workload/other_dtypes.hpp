#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "core/platform/file.hpp"
#include "core/tensor/host_tensor.hpp"
#include "core/workload/safetensors.hpp"
#include "core/workload/workload_fields.hpp"

// Files of other writers: dtypes and shapes that are not those of the format, but whose meaning is plain
// (docs/traces.md, "Other dtypes and shapes").

namespace misa::trace {

/// The dtype in which a tensor of `rule` is kept when it is stored as `dtype`; nothing when it is refused. I64 becomes
/// I32, BF16, F16 and F8_E8M0 become F32 where the rule has no place for them, I8 and F8_E4M3 pages are bytes.
std::optional<Dtype> kept_as(const TensorRule& rule, std::string_view dtype);

/// `shape` without a dimension of one entry that `rule` does not have: a batch of one [1, Q, H, D], one row for each
/// sequence [B, 1, H, D], [Q, H, 1], and pages [pages, page_size, 1, D + 4]. Another shape as it is.
std::vector<i64> kept_shape(const TensorRule& rule, std::vector<i64> shape);

/// Bytes that reading `entry` takes, with the copy of a tensor that is converted.
i64 bytes_to_read(const TensorRule& rule, const SafetensorsEntry& entry);

/// Reads a tensor as `rule` wants it, exactly. Error(input): MP-E206 for an I64 that I32 does not hold.
HostTensor read_as(const TensorRule& rule, const InputFile& file, const SafetensorsHeader& header,
                   const SafetensorsEntry& entry, i64 max_bytes);

}  // namespace misa::trace
