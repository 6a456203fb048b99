#pragma once

#include "core/tensor/vectors.hpp"
#include "core/workload/workload.hpp"

namespace misa {

/// Bytes of the scales of a key of `dim` numbers: one f32, or words of UE8M0 bytes; 0: it has none.
constexpr i64 key_scale_bytes(Dtype dtype, i64 dim) {
  if (dtype == Dtype::e2m1) return 4 * Mxfp4::scale_words(dim);
  return dtype == Dtype::e4m3 || dtype == Dtype::int8 ? 4 : 0;
}

/// How the keys of a workload lie in memory. Contiguous: values in `k`, scales in a tensor of their own. Paged: a page
/// is the values of its keys and then their scales.
struct KeyLayout {
  Dtype dtype = Dtype::f32;  ///< of a key's numbers
  i64 value_bytes = 0;       ///< of a key
  i64 scale_bytes = 0;       ///< of a key
  i64 page_size = 0;         ///< keys of a page; 0: contiguous

  i64 page_bytes() const { return page_size * (value_bytes + scale_bytes); }
  /// Returns the byte at which key `slot` begins, in k_pages or in k.
  i64 values_at(i64 slot) const {
    return page_size == 0 ? slot * value_bytes : slot / page_size * page_bytes() + slot % page_size * value_bytes;
  }
  /// Returns the byte at which its scales begin, in k_pages or in their own tensor.
  i64 scales_at(i64 slot) const {
    if (page_size == 0) return slot * scale_bytes;
    return slot / page_size * page_bytes() + page_size * value_bytes + slot % page_size * scale_bytes;
  }
};

/// The layout of `page_size` keys a page, or of contiguous ones where that is 0.
constexpr KeyLayout key_layout(Dtype dtype, i64 dim, i64 page_size) {
  return {dtype, dtype_bytes(dtype, dim), key_scale_bytes(dtype, dim), page_size};
}

/// The dtype of the numbers of a page: of its elements, or what bytes of so many for each key must be. Bytes are FP8
/// with an f32 scale, or MXFP4; those of INT8 have Dtype::int8.
constexpr Dtype page_dtype(Dtype elements, i64 dim, i64 key_bytes) {
  if (elements != Dtype::uint8) return elements;
  const KeyLayout fp4 = key_layout(Dtype::e2m1, dim, 0);
  return key_bytes == fp4.value_bytes + fp4.scale_bytes ? Dtype::e2m1 : Dtype::e4m3;
}

inline KeyLayout key_layout(const Workload& workload) {
  const i64 dim = workload.head_dim();
  if (!workload.paged()) return key_layout(workload.k.dtype, dim, 0);
  return key_layout(page_dtype(workload.k_pages.dtype, dim, workload.k_pages.shape.at(2)), dim, workload.page_size());
}

/// The tensor that holds the numbers of keys, and the one that holds their scales, which may be the same.
inline HostTensor& key_values(Workload& workload) { return workload.paged() ? workload.k_pages : workload.k; }
inline HostTensor& key_scales(Workload& workload) {
  if (workload.paged()) return workload.k_pages;
  return workload.k.dtype == Dtype::e2m1 ? workload.k_block_scale : workload.k_scale;
}
inline const HostTensor& key_values(const Workload& workload) { return key_values(const_cast<Workload&>(workload)); }
inline const HostTensor& key_scales(const Workload& workload) { return key_scales(const_cast<Workload&>(workload)); }

/// Pages of `dtype` [pages, page_size, ...], uninitialised.
inline HostTensor key_pages(Dtype dtype, i64 pages, i64 page_size, i64 dim) {
  const KeyLayout layout = key_layout(dtype, dim, page_size);
  if (layout.scale_bytes == 0) return {dtype, {pages, page_size, dim}};
  return {dtype == Dtype::int8 ? Dtype::int8 : Dtype::uint8,
          {pages, page_size, layout.value_bytes + layout.scale_bytes}};
}

/// Contiguous keys [tokens, dim] and their scales, uninitialised.
inline void make_keys(Workload& workload, Dtype dtype, i64 tokens, i64 dim) {
  workload.k = HostTensor(dtype, {tokens, dim});
  if (dtype == Dtype::e2m1) {
    workload.k_block_scale = HostTensor(Dtype::int32, {tokens, Mxfp4::scale_words(dim)});
  } else if (key_scale_bytes(dtype, dim) > 0) {
    workload.k_scale = HostTensor(Dtype::f32, {tokens});
  }
}

/// Queries [rows, heads, dim] and, of MXFP4, their block scales, uninitialised.
inline void make_queries(Workload& workload, Dtype dtype, i64 rows, i64 heads, i64 dim) {
  workload.q = HostTensor(dtype, {rows, heads, dim});
  if (dtype == Dtype::e2m1) {
    workload.q_block_scale = HostTensor(Dtype::int32, {rows, heads, Mxfp4::scale_words(dim)});
  }
}

/// Vectors in host memory: [n, m, D] of numbers, and their block scales where these are MXFP4. Calls visit(vectors).
template <class Visit>
auto visit_queries(const Workload& workload, const Visit& visit) {
  const HostTensor& q = workload.q;
  const std::array<i64, 3> shape{workload.rows(), workload.heads(), workload.head_dim()};
  switch (q.dtype) {
    case Dtype::f32: return visit(Vectors<float>(q.storage.as<const float>(), shape));
    case Dtype::bf16: return visit(Vectors<Bf16>(q.storage.as<const Bf16>(), shape));
    case Dtype::int8: return visit(Vectors<i8>(q.storage.as<const i8>(), shape));
    case Dtype::e2m1:
      return visit(Mxfp4View({q.storage.as<const u8>(), {shape[0], shape[1], shape[2] / 2}},
                             {workload.q_block_scale.storage.as<const u8>(),
                              {shape[0], shape[1], key_scale_bytes(Dtype::e2m1, shape[2])}}));
    default: return visit(Vectors<E4m3>(q.storage.as<const E4m3>(), shape));
  }
}

}  // namespace misa
