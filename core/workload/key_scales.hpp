#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/base/error.hpp"
#include "core/workload/workload.hpp"

// The scales of FP8 and INT8 keys: how their four bytes are read, and whether they can be scales (docs/traces.md,
// Metadata). The windows and the block table are right already. Everything that refuses throws Error(input).

namespace misa::trace {

// The metadata key that says how the four bytes of a scale are read, and its values.
constexpr const char* kScaleFormat = "k_scale_format";
constexpr const char* kF32Scales = "f32";
constexpr const char* kE8m0Scales = "ue8m0x4";

constexpr std::string_view kInterleaved =
    "the pages look as if each token's scale followed its values; a page is page_size * D FP8 bytes, then page_size "
    "scales";

bool good_scale(float scale);

/// True when the scales make no sense where they belong but do as the last four bytes of each token.
bool looks_interleaved(const Workload& workload);

/// Makes f32 of scales that are four equal UE8M0 bytes: when the metadata says so, and with a warning when it says
/// nothing and they cannot be anything else.
void read_scales(Workload& workload, const std::string& where, std::vector<Warning>* warnings);

/// Refuses a scale of a key that rows see which is not finite and above 0; in pages without kScaleFormat also one that
/// no quantiser writes.
void check_scales(const Workload& workload, const std::string& where);

}  // namespace misa::trace
