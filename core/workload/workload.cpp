#include "core/workload/workload.hpp"

#include <charconv>

namespace misa {
namespace {

/// A positive number of the metadata; 0: there is none.
i64 number_of(const Workload& workload, const char* key) {
  const auto found = workload.metadata.find(key);
  if (found == workload.metadata.end()) return 0;
  const std::string& text = found->second;
  i64 value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() && value > 0 ? value : 0;
}

}  // namespace

i64 compress_ratio(const Workload& workload) {
  const i64 ratio = number_of(workload, "compress_ratio");
  return workload.paged() || ratio == 0 ? 1 : ratio;
}

DefaultTopK default_top_k(const Workload& workload) {
  if (const i64 k = number_of(workload, "index_topk"); k > 0) return {k, "index_topk"};
  if (!workload.topk.empty()) return {workload.topk.shape.at(1), "recorded"};
  return {};
}

void keep_top_k(const Workload& from, std::map<std::string, std::string>& metadata) {
  const DefaultTopK top_k = default_top_k(from);
  if (top_k.source == "recorded") metadata["index_topk"] = std::to_string(top_k.k);
}

}  // namespace misa
