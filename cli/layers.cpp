#include "cli/layers.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <tuple>

#include "core/base/decimal.hpp"
#include "core/base/error.hpp"
#include "core/platform/file.hpp"
#include "core/workload/safetensors.hpp"
#include "core/workload/trace.hpp"

namespace misa::cli {
namespace fs = std::filesystem;
namespace {

/// The layers of one file, with the number that its metadata say.
void add_layers(const std::string& path, std::vector<std::pair<u64, LayerTrace>>& layers) {
  const InputFile file(path);
  const SafetensorsHeader header = read_safetensors_header(file);
  const auto said = [&](const char* key) {
    const auto found = header.metadata.find(key);
    return found == header.metadata.end() ? std::string() : found->second;
  };
  if (said("kind") == "selection") return;
  const std::string stem = fs::path(path).stem().string();
  const std::vector<i64> several = trace_layers(header);
  for (const i64 layer : several) {
    layers.push_back({static_cast<u64>(layer), {fmt::format("layer {}", layer), path, layer}});
  }
  if (several.empty()) layers.push_back({whole_number_of(said("layer")).value_or(~u64{0}), {stem, path, {}}});
}

}  // namespace

std::vector<LayerTrace> layer_traces(const std::string& path) {
  std::vector<std::pair<u64, LayerTrace>> numbered;
  std::error_code failure;
  if (fs::is_directory(path, failure)) {
    for (const auto& entry : fs::directory_iterator(path, failure)) {
      if (entry.path().extension() == ".safetensors") add_layers(entry.path().string(), numbered);
    }
  } else {
    add_layers(path, numbered);
  }
  if (numbered.empty()) {
    throw Error(ErrorKind::input, "MP-E567", "the folder holds no trace", path,
                "a folder of .safetensors files, one for each layer, or a file that holds several");
  }
  std::sort(numbered.begin(), numbered.end(), [](const auto& a, const auto& b) {
    return std::tie(a.first, a.second.name, a.second.path) < std::tie(b.first, b.second.name, b.second.path);
  });
  std::vector<LayerTrace> layers;
  for (auto& [number, layer] : numbered) layers.push_back(std::move(layer));
  return layers;
}

}  // namespace misa::cli
