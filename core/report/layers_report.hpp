#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/report/write.hpp"

// Layers of a model, one after the other, as plain data.

namespace misa {

constexpr std::string_view kLayersSchemaVersion = "1.0.0";

/// How much of a selection another one keeps: means over rows, and mass as a share of that on the reference's tokens.
struct Kept {
  std::optional<double> recall = {}, attention_mass = {};  ///< empty: not known
};

/// An indexer in one layer.
struct LayerCase {
  std::string indexer;                 ///< with its numbers, where several have its name
  std::optional<double> seconds = {};  ///< median end to end
  Kept kept = {};                      ///< of what dsa selects in this layer; dsa itself keeps all
  /// The same of what this indexer selected in the layer before; empty in the first layer, and where its rows or
  /// windows are others.
  std::optional<Kept> reused = {};
};

struct Layer {
  std::string name;  ///< "layer 3", or the file's stem
  i64 rows = 0, heads = 0, top_k = 0;
  std::vector<LayerCase> cases;
};

/// An indexer in all layers. Every `period`-th layer, from the first one on, has an indexer; the others reuse what it
/// selected in the layer before and take no time. Source: IndexCache, arXiv:2603.12201; that a layer takes the very
/// last selection, and which layers have an indexer, ours.
struct LayersSum {
  std::string indexer;
  i64 period = 1;
  double seconds = 0;
  std::optional<double> speedup_over_dsa = {};  ///< over dsa in every layer
  Kept kept = {};                               ///< mean over layers
};

struct LayersReport {
  std::string tool_version;
  std::vector<std::string> command_line;
  ReportEnvironment environment;
  std::vector<Layer> layers;
  std::vector<Warning> warnings;
  std::vector<std::string> skipped;  ///< "layer 3: misa: why"
  bool interrupted = false;
};

/// The sums of indexers that every layer timed: with period 1, then with period 2 where every second layer's rows are
/// those of the one before.
std::vector<LayersSum> sums_of(const LayersReport& report);

/// table, json or md.
std::vector<std::string_view> layers_format_names();
std::string write_report(const LayersReport& report, std::string_view format, const WriterOptions& options = {});

}  // namespace misa
