#pragma once

#include <array>
#include <type_traits>

#include "core/tensor/dtype.hpp"
#include "core/tensor/view.hpp"

// Vectors [a, b, D], whatever their elements: vector_of(vectors, i, j)[d] is a number, or what to_float makes one of.

namespace misa {

/// OCP MXFP4: e2m1 numbers, two to a byte, the lower four bits first. Every 32 of a vector have one UE8M0 scale; the
/// scales of a vector are bytes, and fill whole words of four. Sources: OCP Microscaling Formats v1.0; the layout is
/// that of DeepGEMM, csrc/apis/attention.hpp, whose words are i32.
struct Mxfp4 {
  static constexpr i64 kBlock = 32;  ///< numbers that share a scale

  static constexpr i64 scale_words(i64 dim) { return ceil_div(dim, 4 * kBlock); }
};

/// One MXFP4 vector.
struct Mxfp4Vector {
  const u8* codes = nullptr;
  const u8* scales = nullptr;

  /// Exact: also in bf16, unless it is subnormal there. A scale byte of 255 gives NaN.
  constexpr float operator[](i64 d) const {
    return e2m1_to_float(static_cast<u32>(codes[d / 2]) >> (d % 2 * 4)) * e8m0_to_float(scales[d / Mxfp4::kBlock]);
  }
};

/// View<const T, 3> of MXFP4 vectors.
struct Mxfp4View {
  View<const u8, 3> codes;   ///< [a, b, D / 2]
  View<const u8, 3> scales;  ///< [a, b, 4 * scale_words(D)]
  std::array<i64, 3> shape{};

  constexpr Mxfp4View() = default;
  constexpr Mxfp4View(const View<const u8, 3>& packed, const View<const u8, 3>& block_scales)
      : codes(packed), scales(block_scales), shape{packed.shape[0], packed.shape[1], 2 * packed.shape[2]} {}

  constexpr Mxfp4Vector vector(i64 i, i64 j) const { return {&codes(i, j, 0), &scales(i, j, 0)}; }
  constexpr float operator()(i64 i, i64 j, i64 d) const { return vector(i, j)[d]; }
  constexpr Mxfp4View slice(i64 first, i64 count) const {
    return {codes.slice(first, count), scales.slice(first, count)};
  }
};

/// Vectors [a, b, D] of elements T.
template <class T>
using Vectors = std::conditional_t<std::is_same_v<T, Mxfp4>, Mxfp4View, View<const T, 3>>;

template <class T>
constexpr const T* vector_of(const View<const T, 3>& vectors, i64 i, i64 j) {
  return &vectors(i, j, 0);
}
constexpr Mxfp4Vector vector_of(const Mxfp4View& vectors, i64 i, i64 j) { return vectors.vector(i, j); }

/// The element type of vectors.
template <class V>
struct ElementOf;
template <class T>
struct ElementOf<View<const T, 3>> {
  using type = T;
};
template <>
struct ElementOf<Mxfp4View> {
  using type = Mxfp4;
};
template <class V>
using Element = typename ElementOf<std::decay_t<V>>::type;

/// `count` entries of the second axis from `first` on.
template <class T, int Rank>
constexpr View<T, Rank> slice_second(View<T, Rank> view, i64 first, i64 count) {
  view.data += first * view.stride[1];
  view.shape[1] = count;
  return view;
}
constexpr Mxfp4View slice_second(const Mxfp4View& view, i64 first, i64 count) {
  return {slice_second(view.codes, first, count), slice_second(view.scales, first, count)};
}

}  // namespace misa
