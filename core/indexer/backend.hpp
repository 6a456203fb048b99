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

/// Mean keys. out[place(i), :] = mean of k_scale(t) * k[t, :] over t in [ranges.begin[i], ranges.end[i]) of sequence
/// ranges.sequence[i]; an empty range gives zeros.
struct PoolTask {
  static constexpr Primitive kPrimitive = Primitive::pool;

  KeyCache keys;
  Windows ranges;        ///< [R]; ranges that share a begin are cheapest when they stand together, shortest first
  View<float, 2> means;  ///< [P, D], P >= R
  View<const i32, 1> places = {};  ///< [R] the row of `means` that each mean is written to; empty: its own, P = R

  constexpr i64 count() const { return ranges.begin.shape[0]; }
  constexpr i64 place(i64 i) const { return places.empty() ? i : places[i]; }
};

/// Ranks heads by `router` (formulas: Router) over keys[windows] and keeps the best, ties: lower head first. NaN ranks
/// lowest. With `slopes`, a linear head shall stand for the heads that are not kept: half of the sampled keys count
/// then, and the slope of each head's line is written (core/indexer/linear_head.hpp).
struct RankTask {
  static constexpr Primitive kPrimitive = Primitive::rank;

  Router router;
  Queries queries;             ///< M rows, H heads
  KeyCache keys;               ///< pooled keys, sampled ones or tokens, as the router reads them; or none
  Windows windows;             ///< [M] into `keys`
  View<const float, 2> tails;  ///< [M, D] replaces the last key of each window; empty: none is replaced
  View<const float, 2> norms;  ///< [M, H] for qnorm
  i64 samples = 0;             ///< most sampled keys that a row sees, for routers that sample keys
  u64 seed = 0;                ///< for random
  i64 first_row = 0;           ///< number of the first row in the whole workload: random must not depend on chunks
  /// [M] the place of each row in its group, 0 in its first row; empty: each row is a group of its own. The rows of a
  /// group keep the heads of the largest sums of their energies, which `energies` has in place of each row's own.
  View<const i32, 1> place = {};

  View<i32, 2> heads;             ///< out [M, h], ascending; h may be 0 beside a linear head
  View<double, 2> energies = {};  ///< out [M, H] what heads were ranked by; empty: not asked for
  View<double, 2> slopes = {};    ///< out [M, H]; empty: there is no linear head
};

/// Gathers a compact query batch: a routed query is a query with fewer heads. With `slopes` or `linear` the batch has
/// two heads more: the linear query q_lin with its weight, and -q_lin with minus its weight.
struct GatherTask {
  static constexpr Primitive kPrimitive = Primitive::gather;

  Queries queries;                    ///< M rows, H heads
  View<const i32, 2> heads;           ///< [M, h] the heads to copy, ascending
  View<const double, 2> slopes = {};  ///< [M, H] q_lin is made of the heads that are not copied
  /// [M, D + 1] q_lin itself in numbers that the batch's dtype represents, then its weight; it comes before `slopes`.
  View<const float, 2> linear = {};

  Values values;           ///< out [M, h (+ 2), D], routed_dtype of the queries (written through its const views)
  View<float, 2> weights;  ///< out [M, h (+ 2)]

  bool has_linear() const { return weights.shape[1] > heads.shape[1]; }
};

/// Both at once, for a kernel that ranks and gathers: gather.heads are rank.heads. It writes no slopes.
struct RankGatherTask {
  static constexpr Primitive kPrimitive = Primitive::rank_gather;

  RankTask rank;
  GatherTask gather;
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
  Forced forced = {};     ///< columns that come before all scores, {1, 1} of HISA's blocks
  View<i32, 2> selected;  ///< out [M, k]
  /// The ids are the result, and not what the next step scores: a backend whose tokens may come in any order
  /// (Primitives::any_order) does such a task, and no other, in that way.
  bool is_last = false;
};

struct Problem;

/// A whole indexer that a backend does by itself, planned for a problem. Its memory is its own.
class IndexRun {
 public:
  virtual ~IndexRun() = default;
  /// Selects the tokens of all rows of the planned problem: [M, k], as SelectTask::selected. Allocates nothing. Returns
  /// the name of the kernel.
  virtual std::string_view run(const View<i32, 2>& selected) = 0;
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
  i64 keys = 0;              ///< tokens stored
  i64 max_window = 0;        ///< longest row
  Dtype dtype = Dtype::f32;  ///< of the queries
  bool paged = false;
  Dtype key_dtype = Dtype::f32;
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

/// What computes. Calls may return before the work is done; Clock::seconds, Memory::download and the destructor wait.
/// Primitives allocate nothing but the host's scratch_bytes(). Each returns the name of the kernel that ran, which is
/// one of the backend's table; empty: there was no work.
class Primitives {
 public:
  virtual ~Primitives() = default;

  virtual std::string_view pool(const PoolTask& task) = 0;
  virtual std::string_view rank(const RankTask& task) = 0;
  virtual std::string_view gather(const GatherTask& task) = 0;
  virtual std::string_view score(const ScoreTask& task) = 0;
  virtual std::string_view select(const SelectTask& task) = 0;

  /// Ranks and gathers in one kernel where the backend has one for this task; empty: it has none, and did nothing.
  virtual std::string_view rank_gather(const RankGatherTask& /*task*/) { return {}; }
  /// True when `score_select` has a fused kernel for this pair; the logits are then never written.
  virtual bool fuses(const ScoreTask& /*score*/, const SelectTask& /*select*/) const { return false; }
  virtual std::string_view score_select(const ScoreTask& score_task, const SelectTask& select_task) {
    score(score_task);
    select(select_task);
    return {};
  }
  /// Plans a whole indexer where the backend does it by itself; null: it does it primitive by primitive. `problem`
  /// outlives what is returned; its first row is number `first_row` of the whole workload.
  virtual std::unique_ptr<IndexRun> plan_index(const IndexerSpec& /*spec*/, const Problem& /*problem*/,
                                               i64 /*first_row*/) {
    return nullptr;
  }
  /// Returns where the scores of `task`, the last one that was scored, are. A kernel may have written to memory of its
  /// own, which stays valid until it scores again; columns beyond a row's window may hold garbage there.
  virtual Logits written(const ScoreTask& task) const { return task.logits; }
  /// Selected tokens come in any order, pads too (SelectTask::is_last): fetch_tokens sorts them.
  virtual bool any_order() const { return false; }
  /// How many tasks kernels that were loaded beside a backend's own have done so far; nothing: there are none.
  virtual std::optional<i64> loaded_runs() const { return std::nullopt; }

  /// The element type of the logits.
  virtual Dtype logits_dtype() const = 0;
  /// How far results on this shape may be from the formulas' (core/agreement/bounds.hpp); nothing where that is not
  /// known.
  virtual std::optional<Arithmetic> arithmetic(const Shape& shape) const = 0;
  /// In what elements the kernel called so computes products of `elements`: whose peak bounds it.
  virtual Dtype product_dtype(std::string_view /*kernel*/, Dtype elements) const { return elements; }
  /// Why the primitives cannot run an indexer on this shape; nothing when they can. Whoever plans asks before memory is
  /// taken: what a backend lacks is never found out in the middle of a run.
  virtual std::optional<std::string> why_not(const IndexerSpec& spec, const Shape& shape) const = 0;
  /// While it is `on`, primitives choose a kernel for their task and do nothing. Returns whether kernels are forced,
  /// so that a task may be refused.
  virtual bool rehearse(bool /*on*/) { return false; }
  /// Host memory that primitives take for themselves and give back, at most, all threads together.
  virtual i64 scratch_bytes(const ScratchShape& /*shape*/) const { return 0; }
};

/// Where tensors live.
class Memory : public Allocator {
 public:
  virtual void upload(std::byte* to, const std::byte* from, i64 bytes) = 0;
  virtual void download(std::byte* to, const std::byte* from, i64 bytes) = 0;
  /// The workspace that a plan takes when it may: more makes chunks of rows larger.
  virtual i64 workspace_bytes() const { return kWorkspaceBytes; }
  /// Bytes of its own memory that can still be allocated; nothing where it uses the host's.
  virtual std::optional<i64> free_bytes() const { return std::nullopt; }
};

/// What is measured, and how. The defaults are a host's.
class Device {
 public:
  virtual ~Device() = default;

  virtual std::unique_ptr<Clock> clock() = 0;
  /// Captures what `work` puts on the device, its clocks' marks too, without doing it. Null where the device captures
  /// nothing; `work` is not called then.
  virtual std::unique_ptr<Recording> record(const std::function<void()>& /*work*/) { return nullptr; }
  /// Prepares a timed run: what is queued next will not wait for the host, and with `cold` the caches hold nothing of
  /// earlier runs. True when they are cold. The first call may allocate.
  virtual bool prepare_run(bool /*cold*/) { return false; }
  /// Measured once per process, in well under a second; nothing where peaks mean nothing (the oracle).
  virtual std::optional<Roofs> roofs() = 0;
  /// Host memory that measuring them takes and gives back.
  virtual i64 roofs_bytes() const { return 0; }
  /// Empty if no driver reports it.
  virtual std::optional<DeviceState> device_state() { return std::nullopt; }
  /// What work is put on, for kernels from elsewhere: a cudaStream_t; null where calls do the work.
  virtual void* stream() const { return nullptr; }
  /// Between these two calls a guest in somebody else's process works. Work is put on `stream` of the caller (a
  /// cudaStream_t, whose null is one too), or on the backend's own; the thread's current device is as before
  /// afterwards. Memory that is released later waits for that work.
  virtual void enter(std::optional<void*> /*stream*/) {}
  virtual void leave() noexcept {}
};

/// The seam between the algorithm and those who compute: primitives, the memory they work on, the device that runs
/// them.
class Backend : public Primitives, public Memory, public Device {
 public:
  virtual std::string_view name() const = 0;
  /// One line on the device and the library that does the work.
  virtual std::string description() const = 0;
  /// The backend that kernels were loaded beside, which does what they do not, in the same memory; null: none were.
  virtual Backend* base() { return nullptr; }
};

}  // namespace misa
