#pragma once

#include <cstddef>
#include <memory>

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
      : data_(bytes > 0 ? allocator.allocate(bytes) : nullptr, Release{&allocator, bytes}) {}

  i64 bytes() const { return data_ ? data_.get_deleter().bytes : 0; }
  std::byte* data() const { return data_.get(); }
  template <class T>
  T* as() const {
    return reinterpret_cast<T*>(data());
  }

 private:
  struct Release {
    Allocator* allocator;
    i64 bytes;
    void operator()(std::byte* data) const noexcept { allocator->release(data, bytes); }
  };
  std::unique_ptr<std::byte, Release> data_;
};

}  // namespace misa
