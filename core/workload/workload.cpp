#include "core/workload/workload.hpp"

#include <limits>
#include <optional>
#include <utility>

#include "core/base/decimal.hpp"
#include "core/workload/workload_fields.hpp"

namespace misa {
namespace {

constexpr const char *kForcedFirst = "index_init_tokens", *kForcedLast = "index_local_tokens";

/// A positive number of the metadata; 0: there is none.
i64 number_of(const Workload& workload, const char* key) {
  const auto found = workload.metadata.find(key);
  if (found == workload.metadata.end()) return 0;
  const std::optional<u64> value = whole_number_of(found->second);
  return value && *value <= std::numeric_limits<i64>::max() ? static_cast<i64>(*value) : 0;
}

}  // namespace

i64 Workload::bytes() const {
  i64 sum = static_cast<i64>(needles.size() * sizeof(Needle));
  visit_fields([&](const WorkloadField&, auto member) { sum += bytes_of(this->*member); });
  return sum;
}

DefaultTopK default_top_k(const Workload& workload) {
  if (const i64 k = number_of(workload, "index_topk"); k > 0) return {k, "index_topk"};
  if (!workload.topk.empty()) return {workload.topk.shape.at(1), "recorded"};
  return {};
}

Forced default_forced(const Workload& workload) {
  return {number_of(workload, kForcedFirst), number_of(workload, kForcedLast)};
}

void set_forced(const Forced& forced, std::map<std::string, std::string>& metadata) {
  for (const auto& [key, count] : {std::pair{kForcedFirst, forced.first}, {kForcedLast, forced.last}}) {
    metadata.erase(key);
    if (count > 0) metadata[key] = std::to_string(count);
  }
}

void keep_top_k(const Workload& from, std::map<std::string, std::string>& metadata) {
  const DefaultTopK top_k = default_top_k(from);
  if (top_k.source == "recorded") metadata["index_topk"] = std::to_string(top_k.k);
}

}  // namespace misa
