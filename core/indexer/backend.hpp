#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/indexer/arithmetic.hpp"
#include "core/indexer/inputs.hpp"
#include "core/indexer/kernel.hpp"
#include "core/indexer/spec.hpp"
#include "core/tensor/buffer.hpp"

namespace misa {

/// Mean keys. out[i, :] = mean of k_scale(t) * k[t, :] over t in [ranges.begin[i], ranges.end[i]) of sequence
/// ranges.sequence[i]; an empty range gives zeros.
struct PoolTask {
  static constexpr Primitive kPrimitive = Primitive::pool;

  KeyCache keys;
  Windows ranges;        ///< [P]; ranges that share a begin are cheapest when they stand together, shortest first
  View<float, 2> means;  ///< [P, D]
};

/// Ranks heads by `router` (formulas: Router) over keys[windows], keeps the best, ties: lower head first, and
/// gathers a compact query batch: a routed query is a query with fewer heads. NaN ranks lowest.
/// With `given`, gathers those heads, ranks nothing and writes neither `heads` nor `energies`.
/// With `linear`, the batch has two heads more: q_lin of the heads that are not kept (core/indexer/linear_head.hpp),
/// with its weight, and -q_lin with minus its weight. With `given_linear`, those two are made of it instead.
struct RouteTask {
  static constexpr Primitive kPrimitive = Primitive::route;

  Router router;
  Queries queries;             ///< M rows, H heads
  KeyCache keys;               ///< pooled keys, sampled ones or tokens, as the router wants; or none
  Windows windows;             ///< [M] into `keys`
  View<const float, 2> tails;  ///< [M, D] stands in for the last key of each window; empty: none does
  View<const float, 2> norms;  ///< [M, H] of qnorm
  bool linear = false;         ///< with a linear head
  i64 samples = 0;             ///< most sampled keys that a row sees, of routers that want them
  u64 seed = 0;                ///< of random
  i64 first_row = 0;           ///< of this batch in the whole workload: random must not depend on chunks

  View<const i32, 2> given;  ///< [M, h]; empty: the best heads are gathered
  /// [M, D + 1] numbers that the queries' dtype holds, then the weight; empty: the linear query is made of the lines.
  View<const float, 2> given_linear = {};

  View<i32, 2> heads;             ///< out [M, h], ascending; h may be 0 beside a linear head
  View<double, 2> energies;       ///< out [M, H] what heads were ranked by; empty: not wanted
  Values routed_values;           ///< out [M, h (+ 2), D], dtype of the queries (written through its const views)
  View<float, 2> routed_weights;  ///< out [M, h (+ 2)]
};

/// Scores tokens against query rows.
///
///   logits[m, c] = k_scale(t) * sum over h of weights[m, h] * relu(q[m, h] . key(t)),  t = the token of column c
///
/// Columns are the row's window, or its candidates. All are written, -inf where there is no visible token.
struct ScoreTask {
  static constexpr Primitive kPrimitive = Primitive::score;

  Queries queries;
  KeyCache keys;
  Windows windows;
  std::optional<Candidates> candidates;
  Logits logits;  ///< [M, columns]
};

/// The k best columns of each row: higher score first, ties: lower token first; NaN ranks below every number, and
/// -0 equals +0. Writes tokens relative to windows.begin, ascending, -1 pads last.
struct SelectTask {
  static constexpr Primitive kPrimitive = Primitive::select;

  Logits logits;
  Windows windows;
  std::optional<Candidates> candidates;
  bool force_ends = false;  ///< the first visible column, then the last, come before all scores (HISA)
  View<i32, 2> selected;    ///< out [M, k]
};

/// Reads time where the work happens. Marks are cheap; seconds() waits for the work before them.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual void reset() = 0;
  /// The number of this moment.
  virtual int mark() = 0;
  virtual double seconds(int from, int to) = 0;
};

/// Work that a backend wrote down, to be put on it again as a whole.
class Recording {
 public:
  virtual ~Recording() = default;
  virtual void replay() = 0;
};

/// What this machine can do at most, measured. What was not measured is 0.
struct Roofs {
  struct Peak {
    Dtype dtype = Dtype::f32;
    double flops_per_second = 0;
  };

  double flops_per_second = 0;         ///< in a matrix product of elements that `peaks` does not list
  double bytes_per_second = 0;         ///< reading memory
  double launch_seconds = 0;           ///< of an empty unit of parallel work
  double recorded_launch_seconds = 0;  ///< of one in a recording
  double copy_bytes_per_second = 0;    ///< reading and writing memory, both counted
  std::vector<Peak> peaks = {};        ///< where they depend on the elements

  double flops_of(Dtype dtype) const {
    for (const Peak& peak : peaks) {
      if (peak.dtype == dtype) return peak.flops_per_second;
    }
    return flops_per_second;
  }
};

/// The state of a device at this moment; a field is empty if the driver does not report it.
struct DeviceState {
  std::optional<double> sm_clock_hz, memory_clock_hz, power_watts, temperature_celsius;
  std::vector<std::string> throttled;  ///< what slows its clocks down: "power cap", ...
};

/// What a backend must know to say whether it can run.
struct Shape {
  i64 rows = 0, heads = 0, head_dim = 0;
  i64 keys = 0;        ///< tokens stored
  i64 max_window = 0;  ///< longest row
  Dtype dtype = Dtype::f32;
  bool paged = false;
};

/// The largest tasks that primitives meet in a plan.
struct ScratchShape {
  i64 columns = 0;  ///< of scores
  i64 heads = 0;
  i64 samples = 0;  ///< sampled keys of a row
  i64 ranges = 0;   ///< that are averaged
};

/// What a plan takes for a chunk of rows where the backend asks for nothing else.
constexpr i64 kWorkspaceBytes = i64{256} << 20;

/// The seam: a handful of primitives. Calls may return before the work is done; Clock::seconds, download and the
/// destructor wait. Primitives allocate nothing but the host's scratch_bytes().
class Backend : public Allocator {
 public:
  virtual std::string_view name() const = 0;
  /// One line on the device and the library that does the work.
  virtual std::string description() const = 0;
  /// The element type of its logits.
  virtual Dtype logits_dtype() const = 0;
  /// How far its results on this shape may be from the formulas' (core/agreement/bounds.hpp); nothing where that is not
  /// known.
  virtual std::optional<Arithmetic> arithmetic(const Shape& shape) const = 0;
  /// Why it cannot run an indexer on this shape; nothing when it can. Whoever plans asks before memory is taken: what a
  /// backend lacks is never found out in the middle of a run.
  virtual std::optional<std::string> why_not(const IndexerSpec& spec, const Shape& shape) const = 0;

  virtual void upload(std::byte* to, const std::byte* from, i64 bytes) = 0;
  virtual void download(std::byte* to, const std::byte* from, i64 bytes) = 0;

  /// Each primitive returns the name of the kernel that ran, which is one of its table; empty: there was no work.
  virtual std::string_view pool(const PoolTask& task) = 0;
  virtual std::string_view route(const RouteTask& task) = 0;
  virtual std::string_view score(const ScoreTask& task) = 0;
  virtual std::string_view select(const SelectTask& task) = 0;

  /// True when `score_select` has a fused kernel for this pair; the logits are then never written.
  virtual bool fuses(const ScoreTask& /*score*/, const SelectTask& /*select*/) const { return false; }
  virtual void score_select(const ScoreTask& score_task, const SelectTask& select_task) {
    score(score_task);
    select(select_task);
  }

  virtual std::unique_ptr<Clock> clock() = 0;
  /// Writes down what `work` puts on the backend, its clocks' marks too, without doing it. Null where the backend
  /// records nothing; `work` is not called then.
  virtual std::unique_ptr<Recording> record(const std::function<void()>& /*work*/) { return nullptr; }
  /// Before a run that is timed: what is queued next will not wait for the host, and with `cold` the caches have
  /// forgotten earlier runs. True when they are cold. The first call may allocate.
  virtual bool prepare_run(bool /*cold*/) { return false; }

  /// Measured once per process, in well under a second; nothing where roofs mean nothing (the oracle).
  virtual std::optional<Roofs> roofs() = 0;
  /// Host memory that measuring them takes and gives back.
  virtual i64 roofs_bytes() const { return 0; }
  /// Nothing where no driver tells.
  virtual std::optional<DeviceState> device_state() { return std::nullopt; }
  /// The workspace that a plan takes when it may: more makes chunks of rows larger.
  virtual i64 workspace_bytes() const { return kWorkspaceBytes; }
  /// Host memory that primitives take for themselves and give back, at most, all threads together.
  virtual i64 scratch_bytes(const ScratchShape& /*shape*/) const { return 0; }
  /// Bytes of its own memory that can still be allocated; nothing where it uses the host's.
  virtual std::optional<i64> free_bytes() const { return std::nullopt; }
};

}  // namespace misa
