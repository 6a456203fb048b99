#include "core/tensor/buffer.hpp"

#include <cstdlib>

#include "core/base/error.hpp"

namespace misa {
namespace {

constexpr i64 kAlignment = 64;

class HostAllocator final : public Allocator {
 public:
  std::byte* allocate(i64 bytes) override {
    void* data = std::aligned_alloc(kAlignment, static_cast<std::size_t>(ceil_div(bytes, kAlignment) * kAlignment));
    if (data == nullptr) {
      throw Error(ErrorKind::runtime, "MP-E501", "out of memory: " + std::to_string(bytes) + " bytes were refused", {},
                  "fewer rows or a shorter context, or a smaller --max-memory");
    }
    return static_cast<std::byte*>(data);
  }
  void release(std::byte* data, i64 /*bytes*/) noexcept override { std::free(data); }
};

}  // namespace

Allocator& host_allocator() {
  static HostAllocator allocator;
  return allocator;
}

}  // namespace misa
