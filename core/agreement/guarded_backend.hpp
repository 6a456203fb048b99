#pragma once

#include <map>

#include "core/indexer/forwarding_backend.hpp"
#include "core/workload/workload.hpp"

namespace misa {

/// A backend whose every allocation lies between two canaries and starts out as garbage: NaN as any float, out of range
/// as any index. What is written outside shows as a dead canary, what is read before it is written as a wrong result.
class GuardedBackend final : public ForwardingBackend {
 public:
  using ForwardingBackend::ForwardingBackend;
  ~GuardedBackend() override;

  std::byte* allocate(i64 bytes) override;
  void release(std::byte* data, i64 bytes) noexcept override;
  /// Heads that loaded kernels have ranked are checked before anything is gathered by them. Error(runtime) MP-E414.
  std::string_view rank(const RankTask& task) override;

  /// Bytes of canaries that have been overwritten so far, of living and of released allocations.
  i64 overwritten();
  i64 allocations() const { return allocations_; }

 private:
  i64 overwritten_around(const std::byte* data, i64 bytes);

  std::map<std::byte*, i64> living_;
  i64 allocations_ = 0, dead_ = 0;
};

/// Fills every key that no row can see with NaN, scale included: whole pages, slots after a sequence's end, tokens
/// outside of all windows. Nothing that an indexer selects may depend on them. Returns how many keys were filled.
/// (Block window upstream averages whole blocks, so it does read tokens beyond a window.)
i64 poison_unseen(Workload& workload);

}  // namespace misa
