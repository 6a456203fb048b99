#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/report/report.hpp"

namespace misa {

/// A needle map as plain data: how much of the needles that were planted at a depth of a context an indexer selects.
constexpr std::string_view kNiahSchemaVersion = "1.1.0";

/// Share of a needle's tokens that are selected, over the needles of one depth of one context.
struct NiahCell {
  double mean = 0, worst = 0;
  i64 needles = 0;
};

/// The least share of a map.
struct NiahWorst {
  i64 context = 0;
  double depth = 0, share = 0;
};

struct NiahMap {
  std::string name;  ///< "misa (qnorm, h 1)"
  IndexerSpec spec;  ///< as told, in the longest context
  std::string backend;
  std::vector<std::vector<std::optional<NiahCell>>> cells;  ///< [context][depth]; empty: not known

  /// Over the needles of all known cells; empty: none is known.
  std::optional<double> mean() const;
  /// The cell of the worst needle, the first of such; empty: none is known.
  std::optional<NiahWorst> worst(const std::vector<i64>& contexts, const std::vector<double>& depths) const;
};

/// What the needles were planted in, and how.
struct NiahInputs {
  std::string model, preset;
  i64 heads = 0, head_dim = 0, top_k = 0;
  i64 compress_ratio = 1;  ///< tokens that a key stands for
  Dtype dtype = Dtype::f32;
  std::string mode;       ///< which heads of a query look for its needle
  i64 needle_tokens = 0;  ///< of each needle
  double gain = 0;        ///< how strongly they look
  i64 needles = 0;        ///< in each cell, for each seed
};

struct NiahReport {
  std::string tool_version;
  std::vector<std::string> command_line;
  ReportEnvironment environment;
  NiahInputs inputs;
  std::vector<i64> contexts;   ///< ascending
  std::vector<double> depths;  ///< ascending, 0..1
  std::vector<u64> seeds;
  std::vector<NiahMap> maps;
  std::vector<Refusal> skipped;  ///< indexers, and contexts under the name "context N"
  std::vector<Warning> warnings;
  bool interrupted = false;

  bool knows_any() const;  ///< a cell of some map is known
};

}  // namespace misa
