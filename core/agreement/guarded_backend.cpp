#include "core/agreement/guarded_backend.hpp"

#include <algorithm>
#include <cstring>

#include "core/base/error.hpp"
#include "core/base/interrupt.hpp"
#include "core/workload/key_layout.hpp"
#include "core/workload/windows.hpp"

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
  try {
    dead_ += overwritten_around(data, bytes);
  } catch (const Error&) {
    // The device has failed; whoever asks it for a result is told.
  }
  living_.erase(data);
  inner_.release(data - kGuard, bytes + 2 * kGuard);
}

std::string_view GuardedBackend::rank(const RankTask& task) {
  const std::optional<i64> before = inner_.loaded_runs();
  const std::string_view kernel = inner_.rank(task);
  if (before == inner_.loaded_runs()) return kernel;
  std::vector<i32> ids(static_cast<std::size_t>(task.heads.size()));
  inner_.download(reinterpret_cast<std::byte*>(ids.data()), reinterpret_cast<const std::byte*>(task.heads.data),
                  static_cast<i64>(ids.size() * sizeof(i32)));
  const i64 heads = heads_of(task.queries);
  const auto wrong = std::find_if(ids.begin(), ids.end(), [&](i32 id) { return id < 0 || id >= heads; });
  if (wrong == ids.end()) return kernel;
  throw Error(ErrorKind::runtime, "MP-E414",
              std::string(kernel) + " kept head " + std::to_string(*wrong) + " in row " +
                  std::to_string(task.first_row + (wrong - ids.begin()) / task.heads.shape[1]) + ", and there are " +
                  std::to_string(heads) + " heads",
              std::string(inner_.name()));
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

i64 poison_unseen(Workload& workload) {
  constexpr u32 kNan = 0x7FFFFFFFu;  // as f32, as bf16 twice, as four e4m3
  std::vector<bool> seen(static_cast<std::size_t>(workload.keys()), false);
  trace::for_used_slots(workload, [&](i64 slot) { seen[static_cast<std::size_t>(slot)] = true; });
  const KeyLayout layout = key_layout(workload);
  const auto fill = [&](std::byte* data, i64 bytes) {
    for (i64 at = 0; at < bytes; at += 4)
      std::memcpy(data + at, &kNan, static_cast<std::size_t>(std::min<i64>(4, bytes - at)));
  };
  i64 filled = 0;
  for (i64 slot = 0; slot < static_cast<i64>(seen.size()); ++slot) {
    stop_if_interrupted();
    if (seen[static_cast<std::size_t>(slot)]) continue;
    ++filled;
    fill(key_values(workload).storage.data() + layout.values_at(slot), layout.value_bytes);
    if (layout.scale_bytes == 0) continue;
    std::byte* scales = key_scales(workload).storage.data() + layout.scales_at(slot);
    if (layout.dtype == Dtype::e2m1) {
      std::memset(scales, 0xFF, static_cast<std::size_t>(layout.scale_bytes));
    } else {
      fill(scales, layout.scale_bytes);
    }
  }
  return filled;
}

}  // namespace misa
