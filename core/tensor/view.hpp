#pragma once

#include <array>
#include <cstddef>
#include <type_traits>

#include "core/base/types.hpp"

namespace misa {

/// A strided look at a tensor that somebody else owns. Strides count elements. Usable in kernels as is
/// (nvcc: --expt-relaxed-constexpr).
template <class T, int Rank>
struct View {
  T* data = nullptr;
  std::array<i64, Rank> shape{};
  std::array<i64, Rank> stride{};

  constexpr View() = default;

  /// Row-major and contiguous.
  constexpr View(T* pointer, std::array<i64, Rank> extents) : data(pointer), shape(extents) {
    i64 step = 1;
    for (int i = Rank - 1; i >= 0; --i) {
      stride[static_cast<std::size_t>(i)] = step;
      step *= extents[static_cast<std::size_t>(i)];
    }
  }

  constexpr View(T* pointer, std::array<i64, Rank> extents, std::array<i64, Rank> strides)
      : data(pointer), shape(extents), stride(strides) {}

  /// A view of T is a view of const T.
  constexpr operator View<const T, Rank>() const  // NOLINT(google-explicit-constructor)
      requires(!std::is_const_v<T>) {
    return {data, shape, stride};
  }

  template <class... Index>
  requires(sizeof...(Index) == Rank) constexpr T& operator()(Index... index) const {
    i64 offset = 0;
    int axis = 0;
    ((offset += static_cast<i64>(index) * stride[static_cast<std::size_t>(axis++)]), ...);
    return data[offset];
  }

  /// The sub-tensor at `index` of the first axis.
  constexpr View<T, Rank - 1> operator[](i64 index) const requires(Rank > 1) {
    View<T, Rank - 1> sub;
    sub.data = data + index * stride[0];
    for (std::size_t i = 1; i < Rank; ++i) {
      sub.shape[i - 1] = shape[i];
      sub.stride[i - 1] = stride[i];
    }
    return sub;
  }

  constexpr T& operator[](i64 index) const requires(Rank == 1) { return data[index * stride[0]]; }

  /// `count` entries of the first axis from `first` on.
  constexpr View slice(i64 first, i64 count) const {
    View part = *this;
    part.data += first * stride[0];
    part.shape[0] = count;
    return part;
  }

  constexpr i64 size() const {
    i64 count = 1;
    for (i64 extent : shape) count *= extent;
    return count;
  }

  constexpr bool empty() const { return data == nullptr || size() == 0; }
};

}  // namespace misa
