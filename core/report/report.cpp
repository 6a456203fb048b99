#include "core/report/report.hpp"

namespace misa {

ReportParameters parameters_of(const IndexerSpec& spec) {
  ReportParameters parameters;
  parameters.top_k = spec.top_k;
  parameters.forced = spec.forced;
  if (spec.heads) {
    parameters.active_heads = spec.heads->active;
    if (spec.heads->group > 1) parameters.group = spec.heads->group;
    if (spec.heads->router == Router::pooled) parameters.head_block_size = spec.heads->block_size;
    if (samples_keys(spec.heads->router)) parameters.sampled_keys = spec.heads->samples;
  }
  if (spec.blocks) {
    parameters.blocks = spec.blocks->blocks;
    parameters.block_size = spec.blocks->block_size;
  }
  if (spec.rerank) parameters.candidates = spec.rerank->candidates;
  if (parameters.head_block_size || spec.blocks) parameters.block_window = block_window_name(spec.block_window);
  if (spec.pools()) parameters.pooling = pooling_name(spec.pooling);
  return parameters;
}

std::optional<std::string> router_of(const IndexerSpec& spec) {
  return spec.heads ? std::optional(std::string(router_name(spec.heads->router))) : std::nullopt;
}

}  // namespace misa
