#include "core/workload/block_scales.hpp"

#include <fmt/format.h>

#include <cmath>
#include <type_traits>

#include "core/workload/key_layout.hpp"
#include "core/workload/key_scales.hpp"
#include "core/workload/trace_format.hpp"
#include "core/workload/windows.hpp"

namespace misa::trace {
namespace {

/// Refuses an MXFP4 vector that has a block whose scale is NaN, or whose numbers f32 does not hold.
template <class Place>
void check_vector(const Mxfp4Vector& vector, i64 dim, const Place& place) {
  constexpr u8 kNan = 255, kMayOverflow = 253;  // 2^126, of which 4 are 2^128
  for (i64 b = 0; b * Mxfp4::kBlock < dim; ++b) {
    if (vector.scales[b] < kMayOverflow) continue;
    if (vector.scales[b] == kNan) {
      reject("MP-E562", fmt::format("the scale of block {} is the byte 255, a NaN", b), place(), kRecordAgain);
    }
    for (i64 d = b * Mxfp4::kBlock; d < (b + 1) * Mxfp4::kBlock; ++d) {
      if (std::isfinite(vector[d])) continue;
      reject("MP-E562",
             fmt::format("the scale of block {} is the byte {}, and number {} is above all of f32", b, vector.scales[b],
                         d),
             place(), "UE8M0 bytes, 2^(byte - 127), one for every 32 numbers");
    }
  }
}

}  // namespace

void name_dtypes(Workload& w) {
  const auto is_bytes = [](const HostTensor& tensor) {
    return tensor.dtype == Dtype::uint8 || tensor.dtype == Dtype::int8;
  };
  const auto name_packed = [&](HostTensor& values, const HostTensor& scales) {
    if (!is_bytes(values) || scales.shape.empty() || values.shape.empty()) return;
    values.dtype = Dtype::e2m1;
    values.shape.back() *= 2;
  };
  name_packed(w.q, w.q_block_scale);
  name_packed(w.k, w.k_block_scale);
  if (!is_bytes(w.k_pages)) return;
  const auto stated = w.metadata.find(kPagesDtype);
  w.k_pages.dtype = stated != w.metadata.end() && stated->second == kInt8Pages ? Dtype::int8 : Dtype::uint8;
}

void check_packing(const HostTensor& values, std::string_view name, const HostTensor& scales,
                   const std::string& where) {
  const std::string scales_name = fmt::format("{}_block_scale", name);
  if (values.dtype == Dtype::e2m1 && scales.shape.empty()) {
    reject("MP-E560", fmt::format("'{}' is MXFP4 (F4), and its block scales are not there", name), at(where, name),
           fmt::format("'{}', UE8M0 bytes, one for every 32 numbers", scales_name));
  }
  if (values.dtype == Dtype::uint8) {
    reject("MP-E560", fmt::format("'{}' is bytes, and no '{}' says that they are MXFP4", name, scales_name),
           at(where, name), fmt::format("'{}' for MXFP4; F8_E4M3 or I8 for FP8 or INT8", scales_name));
  }
  if (values.dtype != Dtype::e2m1 && !scales.shape.empty()) {
    reject("MP-E560", fmt::format("'{}' is {}, and only MXFP4 has block scales", name, dtype_name(values.dtype)),
           at(where, scales_name), "MXFP4 numbers, two to a byte, as U8, I8 or F4; or no block scales");
  }
}

void check_pair(Dtype queries, Dtype keys, const std::string& where) {
  if ((queries == Dtype::e2m1) == (keys == Dtype::e2m1)) return;
  const auto text = [](Dtype dtype) { return std::string(dtype == Dtype::e2m1 ? "MXFP4" : dtype_name(dtype)); };
  reject("MP-E561", fmt::format("the queries are {} and the keys {}: MXFP4 goes with MXFP4", text(queries), text(keys)),
         where, "queries and keys that were quantised alike");
}

void check_blocks(const Workload& w, const std::string& where) {
  const i64 dim = w.head_dim();
  if (w.q.dtype == Dtype::e2m1) {
    visit_queries(w, [&](const auto& queries) {
      if constexpr (std::is_same_v<Element<decltype(queries)>, Mxfp4>) {
        for (i64 i = 0; i < w.rows() * w.heads(); ++i) {
          check_vector(queries.vector(i / w.heads(), i % w.heads()), dim, [&] {
            return fmt::format("{}, head {}", at_row(where, "q_block_scale", i / w.heads()), i % w.heads());
          });
        }
      }
    });
  }
  const KeyLayout layout = key_layout(w);
  if (layout.dtype != Dtype::e2m1) return;
  const u8* values = key_values(w).storage.as<const u8>();
  const u8* scales = key_scales(w).storage.as<const u8>();
  for_used_slots(w, [&](i64 slot) {
    check_vector({values + layout.values_at(slot), scales + layout.scales_at(slot)}, dim, [&] {
      if (!w.paged()) return at_row(where, "k_block_scale", slot);
      return fmt::format("{}, page {}, token {}", at(where, "k_pages"), slot / w.page_size(), slot % w.page_size());
    });
  });
}

i64 first_bad_key(const Workload& w) {
  const KeyLayout layout = key_layout(w);
  for (i64 slot = 0; slot < w.keys(); ++slot) {
    const Mxfp4Vector key{w.k.storage.as<const u8>() + layout.values_at(slot),
                          w.k_block_scale.storage.as<const u8>() + layout.scales_at(slot)};
    for (i64 d = 0; d < w.head_dim(); ++d) {
      if (!std::isfinite(key[d])) return slot;
    }
  }
  return w.keys();
}

}  // namespace misa::trace
