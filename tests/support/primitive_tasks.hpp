#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/indexer/spec.hpp"
#include "core/selection/selection.hpp"
#include "core/workload/workload.hpp"
#include "tests/support/on_backend.hpp"

// A task of each primitive with its inputs on a backend: it runs, its outputs are fetched, and the oracle's task judges
// those of another backend.

namespace misa::testing {

/// What a task wrote, in host memory.
struct Outputs {
  std::vector<double> numbers;  ///< means, scores, or the queries that were gathered and then their weights
  Selection choices;            ///< heads and linear queries, or tokens; and whose they are
};

/// What comparing with the oracle's outputs gave.
struct Judged {
  i64 compared = 0, unbounded = 0;  ///< numbers or rows; of these, how many may be anything
  std::string wrong = {};           ///< the first difference that no rounding explains; empty: there is none
};

class PlacedTask {
 public:
  explicit PlacedTask(Backend& backend) : backend_(backend), on_(backend) {}
  PlacedTask(const PlacedTask&) = delete;
  PlacedTask& operator=(const PlacedTask&) = delete;
  virtual ~PlacedTask() = default;

  i64 turns = 1;                           ///< inputs that calls take in turn, so that they do not stay in a cache
  double flops = 0, bytes = 0, pairs = 0;  ///< of a call, for rates; 0: not known

  /// Returns the name of the kernel that ran; empty: more than one did.
  virtual std::string_view run(i64 turn) = 0;
  /// Of turn 0.
  virtual Outputs outputs() = 0;
  /// On the oracle, whose outputs are `exact`.
  virtual Judged judge(const Outputs& found, const Outputs& exact) = 0;

 protected:
  Outputs signed_outputs(const std::optional<Arithmetic>& arithmetic) const;

  Backend& backend_;
  On on_;
};

/// Runs of tokens that rows score instead of their windows, `count` for each row.
struct Listed {
  std::vector<i32> runs = {};
  i64 count = 0, length = 1;
};

/// Tokens [begin, end) of sequences.
struct Ranges {
  std::vector<i32> sequence = {}, begin = {}, end = {};
  void add(i64 of, i64 from, i64 to) {
    sequence.push_back(static_cast<i32>(of));
    begin.push_back(static_cast<i32>(from));
    end.push_back(static_cast<i32>(to));
  }
};

/// Where there are turns, each takes an equal part of the rows, or of the ranges.
std::unique_ptr<PlacedTask> place_pool(Backend& backend, Workload workload, const Ranges& ranges, i64 turns = 1);
std::unique_ptr<PlacedTask> place_score(Backend& backend, Workload workload, const Listed& listed = {}, i64 turns = 1);
std::unique_ptr<PlacedTask> place_select(Backend& backend, SelectCase from);
/// `primitive` is rank or rank_gather, of the rows and pooled keys of a plan of `spec`. A backend without a kernel that
/// ranks and gathers does one after the other. `same`: all backends must keep the same heads.
std::unique_ptr<PlacedTask> place_route(Backend& backend, Primitive primitive, Workload workload,
                                        const IndexerSpec& spec, bool same = false);
/// `heads` [rows, count] ascending, `linear` [rows, D + 1] or nothing.
std::unique_ptr<PlacedTask> place_gather(Backend& backend, const Workload& workload, const std::vector<i32>& heads,
                                         const std::vector<float>& linear);

}  // namespace misa::testing
