#include "core/workload/workload.hpp"

#include <charconv>

namespace misa {

DefaultTopK default_top_k(const Workload& workload) {
  if (const auto found = workload.metadata.find("index_topk"); found != workload.metadata.end()) {
    const std::string& text = found->second;
    i64 k = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), k);
    if (error == std::errc() && end == text.data() + text.size() && k > 0) return {k, "index_topk"};
  }
  if (!workload.topk.empty()) return {workload.topk.shape.at(1), "recorded"};
  return {};
}

void keep_top_k(const Workload& from, std::map<std::string, std::string>& metadata) {
  const DefaultTopK top_k = default_top_k(from);
  if (top_k.source == "recorded") metadata["index_topk"] = std::to_string(top_k.k);
}

}  // namespace misa
