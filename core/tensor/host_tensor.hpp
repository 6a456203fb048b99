#pragma once

#include <array>
#include <cstring>
#include <span>
#include <vector>

#include "core/tensor/buffer.hpp"
#include "core/tensor/dtype.hpp"
#include "core/tensor/view.hpp"

namespace misa {

constexpr Dtype dtype_of_element(float) { return Dtype::f32; }
constexpr Dtype dtype_of_element(double) { return Dtype::f64; }
constexpr Dtype dtype_of_element(Bf16) { return Dtype::bf16; }
constexpr Dtype dtype_of_element(F16) { return Dtype::f16; }
constexpr Dtype dtype_of_element(E4m3) { return Dtype::e4m3; }
constexpr Dtype dtype_of_element(i32) { return Dtype::int32; }
constexpr Dtype dtype_of_element(u8) { return Dtype::uint8; }
constexpr Dtype dtype_of_element(i8) { return Dtype::int8; }
template <class T>
constexpr Dtype dtype_of() {
  return dtype_of_element(T{});
}

/// A row-major tensor in host memory that owns its bytes (uninitialised at construction). Move-only.
struct HostTensor {
  Dtype dtype = Dtype::f32;
  std::vector<i64> shape;
  Buffer storage;

  HostTensor() = default;
  HostTensor(Dtype element, std::vector<i64> extents) : dtype(element), shape(std::move(extents)) {
    storage = Buffer(host_allocator(), bytes());
  }

  /// A tensor holding a copy of `values`.
  template <class T>
  static HostTensor from(std::span<const T> values, std::vector<i64> extents) {
    HostTensor tensor(dtype_of<T>(), std::move(extents));
    if (!values.empty()) std::memcpy(tensor.storage.data(), values.data(), values.size_bytes());
    return tensor;
  }

  HostTensor copy() const {
    HostTensor same(dtype, shape);
    if (bytes() > 0) std::memcpy(same.storage.data(), storage.data(), static_cast<std::size_t>(bytes()));
    return same;
  }

  i64 size() const {
    if (shape.empty()) return 0;
    i64 count = 1;
    for (i64 extent : shape) count *= extent;
    return count;
  }
  i64 bytes() const { return dtype_bytes(dtype, size()); }
  bool empty() const { return size() == 0; }

  template <class T>
  std::span<T> span() {
    return {storage.as<T>(), static_cast<std::size_t>(size())};
  }
  template <class T>
  std::span<const T> span() const {
    return {storage.as<const T>(), static_cast<std::size_t>(size())};
  }
};

}  // namespace misa
