#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/error.hpp"
#include "core/measure/difference.hpp"
#include "core/report/write.hpp"

namespace misa {

/// What `misa-prof diff` found, as plain data (docs/diff.md has the meaning of every word).
constexpr std::string_view kDiffSchemaVersion = "1.0.0";

/// A result that is compared.
struct DiffFile {
  std::string path, tool_version, commit, timestamp_utc, fingerprint;  ///< empty: not known
};

/// What differs between two results although times are only comparable where it does not.
struct Unlike {
  std::string what;  ///< "threads"
  std::string a, b;  ///< of the files at...
  std::string path_a, path_b;
  std::string option;  ///< that allows it
};

struct DiffStage {
  std::string name;
  double a = 0, b = 0;  ///< seconds, means over runs of medians
};

/// A number of quality on both sides.
struct DiffQuality {
  std::string name;  ///< "recall"
  double a = 0, b = 0;
};

struct DiffCase {
  std::string name;  ///< "misa (qnorm) on cuda, h 4": shortest for people
  std::string model, workload, phase, backend, indexer, router, side, parameters;  ///< what it is; may be empty
  std::optional<i64> context;
  double a = 0, b = 0;         ///< seconds end to end, means over runs of medians; NaN: not timed
  i64 runs_a = 0, runs_b = 0;  ///< processes
  i64 samples_a = 0, samples_b = 0;
  JudgedRatio time;
  std::string reason = {};        ///< why the verdict is not a better one
  std::optional<Gate> gate = {};  ///< of --max-slowdown
  std::vector<DiffStage> stages = {};
  std::vector<DiffQuality> quality = {};
  i64 rows = 0, rows_better = 0, rows_worse = 0;  ///< whose recall is known on both sides, and changed
  std::optional<bool> same_selection = {};        ///< empty: a result does not say what it selected
};

struct DiffReport {
  std::string tool_version;
  std::vector<std::string> command_line;
  std::vector<DiffFile> a, b;
  double same_within = 0, noise = 0;
  std::optional<double> max_slowdown = {};
  std::vector<DiffCase> cases;
  std::vector<std::string> only_a, only_b;  ///< names of cases that the other side does not have
  std::vector<Unlike> allowed;              ///< differences that options allowed
  std::vector<Warning> warnings;

  i64 count(Change change) const;
  /// The worst gate of all cases; empty: no gate was asked for.
  std::optional<Gate> gate() const;
};

/// How B's time compares, in words: "12.0 % slower" of 1.12, "4.00x as fast" of 0.25.
std::string slowdown_text(double ratio);

std::vector<std::string_view> diff_format_names();
/// In the format of that name: table, json, csv, md, junit.
std::string write_diff(const DiffReport& report, std::string_view format, const WriterOptions& options = {});

}  // namespace misa
