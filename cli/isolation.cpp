#include "cli/isolation.hpp"

#include "backends/backends.hpp"
#include "cli/python_plugin.hpp"
#include "core/platform/system.hpp"

namespace misa::cli {

ChildCommand program_again(std::string_view backend, const std::vector<std::string>& arguments) {
  if (is_python_plugin(backend)) return python_command(backend, arguments);
  ChildCommand command{.words = {executable_path()}};
  command.words.insert(command.words.end(), arguments.begin(), arguments.end());
  return command;
}

std::vector<std::string> arguments_of(const IndexerSpec& spec) {
  std::vector<std::string> words;
  const auto add = [&](const char* option, const std::string& value) { words.insert(words.end(), {option, value}); };
  add("--indexer", spec.name);
  add("--top-k", std::to_string(spec.top_k));
  add("--force-first", std::to_string(spec.forced.first));
  add("--force-last", std::to_string(spec.forced.last));
  add("--seed", std::to_string(spec.seed));
  add("--block-window", std::string(block_window_name(spec.block_window)));
  add("--pooling", std::string(pooling_name(spec.pooling)));
  if (spec.heads) {
    add("--router", std::string(router_name(spec.heads->router)));
    add("--active-heads", std::to_string(spec.heads->active));
    add("--sampled-keys", std::to_string(spec.heads->samples));
  }
  if (spec.heads || spec.blocks) {
    add("--block-size", std::to_string(spec.blocks ? spec.blocks->block_size : spec.heads->block_size));
  }
  if (spec.blocks) add("--blocks", std::to_string(spec.blocks->blocks));
  if (spec.rerank) add("--candidates", std::to_string(spec.rerank->candidates));
  return words;
}

}  // namespace misa::cli
