#pragma once

#include <cstddef>
#include <utility>

#include "core/base/types.hpp"

namespace misa {

/// Who allocated a Buffer takes it back.
class Allocator {
 public:
  virtual ~Allocator() = default;
  /// Uninitialised memory, aligned to 64 bytes. Throws Error(runtime) when there is none.
  virtual std::byte* allocate(i64 bytes) = 0;
  virtual void release(std::byte* data, i64 bytes) noexcept = 0;
};

/// Plain host memory.
Allocator& host_allocator();

/// Move-only owner of backend memory.
class Buffer {
 public:
  Buffer() = default;
  Buffer(Allocator& allocator, i64 bytes)
      : allocator_(&allocator), data_(bytes > 0 ? allocator.allocate(bytes) : nullptr), bytes_(bytes) {}
  Buffer(Buffer&& other) noexcept { swap(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    swap(other);
    return *this;
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() {
    if (data_ != nullptr) allocator_->release(data_, bytes_);
  }

  i64 bytes() const { return bytes_; }
  std::byte* data() const { return data_; }
  template <class T>
  T* as() const {
    return reinterpret_cast<T*>(data_);
  }

 private:
  void swap(Buffer& other) noexcept {
    std::swap(allocator_, other.allocator_);
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
  }

  Allocator* allocator_ = nullptr;
  std::byte* data_ = nullptr;
  i64 bytes_ = 0;
};

}  // namespace misa
