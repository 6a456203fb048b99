#include "core/agreement/poison.hpp"

#include <algorithm>
#include <cstring>
#include <vector>

#include "core/base/interrupt.hpp"

namespace misa {
namespace {

/// Keys [slots] that some row sees.
std::vector<bool> seen_slots(const Workload& workload) {
  std::vector<bool> seen(static_cast<std::size_t>(workload.keys()), false);
  const i64 size = workload.paged() ? workload.page_size() : 1;
  for (std::size_t m = 0; m < workload.ks.size(); ++m) {
    for (i64 token = workload.ks[m]; token < workload.ke[m]; ++token) {
      i64 slot = token;
      if (workload.paged()) {
        const i64 column = workload.sequence[m] * workload.block_table.shape[1] + token / size;
        slot = workload.block_table.span<const i32>()[static_cast<std::size_t>(column)] * size + token % size;
      }
      seen[static_cast<std::size_t>(slot)] = true;
    }
  }
  return seen;
}

}  // namespace

i64 poison_unseen(Workload& workload) {
  constexpr u32 kNan = 0x7FFFFFFFu;  // as f32, as bf16 twice, as four e4m3
  const std::vector<bool> seen = seen_slots(workload);
  const i64 dim = workload.head_dim();
  const auto fill = [&](std::byte* data, i64 bytes) {
    for (i64 at = 0; at < bytes; at += 4)
      std::memcpy(data + at, &kNan, static_cast<std::size_t>(std::min<i64>(4, bytes - at)));
  };
  i64 filled = 0;
  for (i64 slot = 0; slot < static_cast<i64>(seen.size()); ++slot) {
    stop_if_interrupted();
    if (seen[static_cast<std::size_t>(slot)]) continue;
    ++filled;
    if (!workload.paged()) {
      const i64 bytes = dim * dtype_size(workload.k.dtype);
      fill(workload.k.storage.data() + slot * bytes, bytes);
      if (!workload.k_scale.empty()) fill(workload.k_scale.storage.data() + slot * 4, 4);
      continue;
    }
    const i64 size = workload.page_size(), page = slot / size, at = slot % size;
    std::byte* pages = workload.k_pages.storage.data();
    if (workload.k_pages.dtype == Dtype::uint8) {
      std::byte* base = pages + page * size * (dim + 4);
      fill(base + at * dim, dim);
      fill(base + size * dim + at * 4, 4);
    } else {
      const i64 bytes = dim * dtype_size(workload.k_pages.dtype);
      fill(pages + slot * bytes, bytes);
    }
  }
  return filled;
}

}  // namespace misa
