#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/base/types.hpp"

namespace misa::cli {

/// A trace that is one layer of several.
struct LayerTrace {
  std::string name;          ///< for people: the file's stem, or "layer 3"
  std::string path;          ///< of its file
  std::optional<i64> layer;  ///< where the file holds several
};

/// The layers that `path` holds, in their order: a folder of traces, or a file whose tensors begin with the layer's
/// number ("layers.3.q"). Traces of a folder go by the number that their metadata say, those without one come last, by
/// name; recorded selections are left out. Error(input) MP-E567: there is none.
std::vector<LayerTrace> layer_traces(const std::string& path);

}  // namespace misa::cli
