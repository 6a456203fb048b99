#pragma once

#include "core/tensor/dtype.hpp"

namespace misa::trace {

/// Index of the first of `count` numbers that is a NaN or infinite, or -1. f32, bf16 or e4m3. Ends by Interrupted.
i64 find_not_finite(Dtype dtype, const std::byte* data, i64 count);

}  // namespace misa::trace
