#pragma once

#include <string>
#include <string_view>

#include "core/workload/workload.hpp"

// How files have INT8 and MXFP4, and the scales of MXFP4 blocks (docs/traces.md). Everything that refuses throws
// Error(input).

namespace misa::trace {

// The metadata key that says what the bytes of pages are where their number does not: those of INT8 are as many as
// those of FP8.
constexpr const char* kPagesDtype = "k_pages_dtype";
constexpr const char* kInt8Pages = "I8";

/// Gives queries, keys and pages the dtype that their block scales or the metadata say: MXFP4 may be stored as U8 or I8
/// [..., D / 2], and pages of INT8 as any bytes. Shapes are not checked yet.
void name_dtypes(Workload& workload);

/// Refuses MXFP4 numbers without block scales, bytes that nothing says are MXFP4, and block scales of other numbers.
void check_packing(const HostTensor& values, std::string_view name, const HostTensor& scales, const std::string& where);

/// Refuses MXFP4 queries with other keys and the other way round, which no stack has.
void check_pair(Dtype queries, Dtype keys, const std::string& where);

/// Refuses MXFP4 queries, and keys that rows see, which have a scale that is NaN, or numbers that f32 does not hold.
void check_blocks(const Workload& workload, const std::string& where);

/// The first contiguous MXFP4 key that holds a number which is not finite, or the number of keys.
i64 first_bad_key(const Workload& workload);

}  // namespace misa::trace
