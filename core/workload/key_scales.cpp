#include "core/workload/key_scales.hpp"

#include <fmt/format.h>

#include <cmath>
#include <cstring>
#include <optional>

#include "core/workload/key_layout.hpp"
#include "core/workload/trace_format.hpp"
#include "core/workload/windows.hpp"

namespace misa::trace {
namespace {

// Bounds beyond which no quantiser's scale lies: amax / 448 of what a network computes, and the floors that stacks
// give amax.
constexpr float kLeastScale = 0x1p-64f, kLargestScale = 0x1p32f;

/// A scale that some quantiser may have made: amax / 448 of numbers that a network computes.
bool plausible_scale(float scale) { return good_scale(scale) && scale > 0x1p-40f && scale < 0x1p20f; }

/// The f32 at `data`, which need not be aligned.
float load_f32(const std::byte* data) {
  float value = 0;
  std::memcpy(&value, data, sizeof value);
  return value;
}

/// Whether keys have a scale each.
bool has_scales(const Workload& w) {
  const Dtype dtype = key_layout(w).dtype;
  return dtype == Dtype::e4m3 || dtype == Dtype::int8;
}

/// The four bytes of a slot's scale.
const std::byte* scale_bytes(const Workload& w, i64 slot) {
  return key_scales(w).storage.data() + key_layout(w).scales_at(slot);
}

/// Names the place of a slot's scale, for messages.
std::string scale_place(const Workload& w, i64 slot, const std::string& where) {
  if (!w.paged()) return at_row(where, "k_scale", slot);
  return fmt::format("{}, page {}, token {}", at(where, "k_pages"), slot / w.page_size(), slot % w.page_size());
}

/// The value of a scale that is stored as four equal UE8M0 bytes, as matrix units that want one for every 32 numbers
/// are given it. Nothing when the bytes differ.
std::optional<float> four_equal_e8m0(const std::byte* bytes) {
  if (bytes[0] != bytes[1] || bytes[0] != bytes[2] || bytes[0] != bytes[3]) return std::nullopt;
  return e8m0_to_float(static_cast<u8>(bytes[0]));
}

/// True when every scale is four equal bytes that make sense as UE8M0. None of those bytes makes sense as f32: 0x57 to
/// 0x92 are 2^-40 to 2^19 as UE8M0 and above 2^47, or negative, as f32.
bool looks_like_e8m0(const Workload& w) {
  bool any = false, all = true;
  for_used_slots(w, [&](i64 slot) {
    const std::optional<float> scale = four_equal_e8m0(scale_bytes(w, slot));
    any = true;
    all = all && scale && plausible_scale(*scale);
  });
  return any && all;
}

}  // namespace

bool good_scale(float scale) { return std::isfinite(scale) && scale > 0; }

bool looks_interleaved(const Workload& w) {
  if (!w.paged() || !has_scales(w)) return false;
  const i64 dim = w.head_dim();
  i64 tokens = 0, plausible = 0, plausible_interleaved = 0;
  for_used_slots(w, [&](i64 slot) {
    const std::byte* interleaved = w.k_pages.storage.data() + slot * (dim + kScaleBytes) + dim;
    ++tokens;
    plausible += plausible_scale(load_f32(scale_bytes(w, slot))) ? 1 : 0;
    plausible_interleaved += plausible_scale(load_f32(interleaved)) ? 1 : 0;
  });
  return tokens > 0 && plausible_interleaved * 20 >= tokens * 19 && plausible * 20 < tokens * 19;
}

void read_scales(Workload& w, const std::string& where, std::vector<Warning>* warnings) {
  if (!has_scales(w)) return;
  const auto stated = w.metadata.find(kScaleFormat);
  const bool said = stated != w.metadata.end() && stated->second == kE8m0Scales;
  if (!said && (stated != w.metadata.end() || !looks_like_e8m0(w))) return;
  std::vector<bool> done(static_cast<std::size_t>(w.keys()), false);
  std::byte* storage = key_scales(w).storage.data();
  for_used_slots(w, [&](i64 slot) {
    if (done[static_cast<std::size_t>(slot)]) return;  // sequences share pages
    done[static_cast<std::size_t>(slot)] = true;
    const std::byte* bytes = scale_bytes(w, slot);
    const std::optional<float> scale = four_equal_e8m0(bytes);
    if (!scale) {
      reject("MP-E254", "the four UE8M0 bytes of the scale differ: one for every 32 numbers of the key",
             scale_place(w, slot, where), "keys with one scale each: quantise them again in groups of D");
    }
    std::memcpy(storage + (bytes - storage), &*scale, sizeof *scale);
  });
  w.metadata[kScaleFormat] = kF32Scales;
  if (!said && warnings != nullptr) {
    warnings->push_back({"MP-W020",
                         fmt::format("every key scale is four equal bytes that make no sense as f32: they are read as "
                                     "UE8M0, 2^(byte - 127); say {} = {} or {} in the metadata",
                                     kScaleFormat, kE8m0Scales, kF32Scales),
                         where});
  }
}

void check_scales(const Workload& w, const std::string& where) {
  if (!has_scales(w)) return;
  // The bytes of a page have no dtype of their own: a scale out of all proportion is another layout.
  const bool in_doubt = w.paged() && w.metadata.count(kScaleFormat) == 0;
  for_used_slots(w, [&](i64 slot) {
    const float scale = load_f32(scale_bytes(w, slot));
    if (!good_scale(scale)) {
      reject("MP-E220", fmt::format("the scale is {}, must be finite and above 0", scale), scale_place(w, slot, where),
             looks_interleaved(w) ? std::string(kInterleaved) : kRecordAgain);
    }
    if (in_doubt && (scale < kLeastScale || scale > kLargestScale)) {
      reject("MP-E253", fmt::format("the scale is {:g}, and no quantiser writes one below 2^-64 or above 2^32", scale),
             scale_place(w, slot, where),
             looks_interleaved(w)
                 ? std::string(kInterleaved)
                 : fmt::format("pages of page_size * D FP8 bytes and then page_size f32 scales, or {} in the metadata",
                               kScaleFormat));
    }
  });
}

}  // namespace misa::trace
