#include "core/report/labels.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "core/report/report.hpp"

namespace misa {
namespace {

/// Symbol and value of each parameter that the spec has; the router has no symbol.
std::vector<std::pair<std::string, std::string>> symbols_of(const IndexerSpec& spec) {
  const ReportParameters parameters = parameters_of(spec);
  std::vector<std::pair<std::string, std::string>> symbols{{"", router_of(spec).value_or("")}};
  const auto add = [&](const char* symbol, const std::optional<i64>& value) {
    symbols.emplace_back(symbol, value ? std::to_string(*value) : "");
  };
  add("h", parameters.active_heads);
  add("G", parameters.group);
  add("s", parameters.sampled_keys);
  add("k'", parameters.candidates);
  add("B", parameters.block_size ? parameters.block_size : parameters.head_block_size);
  add("m", parameters.blocks);
  add("k", parameters.top_k);
  if (spec.forced.any())
    symbols.back().second += fmt::format(" ({} first, {} last)", spec.forced.first, spec.forced.last);
  symbols.emplace_back("", parameters.pooling.value_or(""));
  symbols.emplace_back("window", parameters.block_window.value_or(""));
  return symbols;
}

}  // namespace

std::vector<std::string> spec_labels(const std::vector<IndexerSpec>& specs) {
  std::vector<std::string> labels;
  for (const IndexerSpec& spec : specs) {
    const auto symbols = symbols_of(spec);
    std::string label = spec.name;
    for (std::size_t i = 0; i < symbols.size(); ++i) {
      const bool differs = std::any_of(specs.begin(), specs.end(), [&](const IndexerSpec& other) {
        return other.name == spec.name && symbols_of(other)[i].second != symbols[i].second;
      });
      const auto& [symbol, value] = symbols[i];
      if (!differs || value.empty()) continue;
      label += symbol.empty() ? " (" + value + ")" : " " + symbol + " " + value;
    }
    labels.push_back(std::move(label));
  }
  return labels;
}

std::string spec_text(const IndexerSpec& spec) {
  std::string text = spec.name;
  for (const auto& [symbol, value] : symbols_of(spec)) text += "|" + value;
  return text;
}

}  // namespace misa
