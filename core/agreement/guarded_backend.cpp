#include "core/agreement/guarded_backend.hpp"

#include <algorithm>
#include <cstring>

namespace misa {
namespace {

constexpr i64 kGuard = 256;            // bytes before and after; keeps the alignment
constexpr i64 kPiece = 1 << 20;        // bytes that are filled at a time
constexpr u32 kGarbage = 0x7FF7FF7Fu;  // NaN as f32 and, twice, as f64; bytes of it are NaN as e4m3
constexpr std::byte kCanary{0xA7};

}  // namespace

GuardedBackend::~GuardedBackend() = default;

std::byte* GuardedBackend::allocate(i64 bytes) {
  const i64 guarded = bytes + 2 * kGuard;
  std::byte* base = inner_.allocate(guarded);
  const std::vector<std::byte> canaries(static_cast<std::size_t>(kGuard), kCanary);
  const std::vector<u32> garbage(static_cast<std::size_t>(std::min(kPiece, ceil_div(bytes, 4) * 4) / 4), kGarbage);
  inner_.upload(base, canaries.data(), kGuard);
  for (i64 at = 0; at < bytes; at += kPiece) {
    inner_.upload(base + kGuard + at, reinterpret_cast<const std::byte*>(garbage.data()), std::min(kPiece, bytes - at));
  }
  inner_.upload(base + kGuard + bytes, canaries.data(), kGuard);
  living_[base + kGuard] = bytes;
  ++allocations_;
  return base + kGuard;
}

void GuardedBackend::release(std::byte* data, i64 bytes) noexcept {
  dead_ += overwritten_around(data, bytes);
  living_.erase(data);
  inner_.release(data - kGuard, bytes + 2 * kGuard);
}

i64 GuardedBackend::overwritten_around(const std::byte* data, i64 bytes) {
  i64 count = 0;
  for (const std::byte* guard : {data - kGuard, data + bytes}) {
    std::byte found[kGuard];
    inner_.download(found, guard, kGuard);
    count += std::count_if(found, found + kGuard, [](std::byte one) { return one != kCanary; });
  }
  return count;
}

i64 GuardedBackend::overwritten() {
  i64 count = dead_;
  for (const auto& [data, bytes] : living_) count += overwritten_around(data, bytes);
  return count;
}

}  // namespace misa
