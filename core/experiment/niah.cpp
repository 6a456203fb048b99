#include "core/experiment/niah.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "core/base/error.hpp"
#include "core/base/interrupt.hpp"
#include "core/base/steady_seconds.hpp"
#include "core/experiment/describe.hpp"
#include "core/indexer/plan.hpp"
#include "core/quality/needles.hpp"
#include "core/selection/run_selection.hpp"
#include "core/workload/key_layout.hpp"
#include "core/workload/placement.hpp"

namespace misa {
namespace {

/// The request of one context: row i asks for needle i, of depth i / needles.
SyntheticRequest column_request(const NiahRequest& request, i64 context, u64 seed) {
  SyntheticRequest column = request.drawn;
  column.contexts = {context};
  column.phase = Phase::prefill;
  column.rows = static_cast<i64>(request.depths.size()) * request.needles;
  column.spread = false;
  column.seed = seed;
  column.needles = request.needle;
  column.needles->depths.clear();
  // The generator plants a needle floor(depth * room) keys on: half a key more than the place that is meant.
  const auto room = static_cast<double>(needle_room(column, context - column.rows));
  const auto length = static_cast<double>(needle_keys(column));
  const double beside = static_cast<double>(request.needles - 1) * length;
  for (const double depth : request.depths) {
    for (i64 n = 0; n < request.needles; ++n) {
      const double place = std::floor(depth * (room - beside)) + static_cast<double>(n) * length;
      column.needles->depths.push_back(room > 0 ? std::clamp((place + 0.5) / room, 0.0, 1.0) : 0.0);
    }
  }
  return column;
}

/// What a column's workload is, its tensors without the values that are drawn.
Workload undrawn(const SyntheticRequest& column) {
  Workload workload;
  workload.name = column.name;
  const i64 rows = column.rows, tokens = column.contexts.front(), keys = column.keys_after(tokens);
  const Dtype dtype = element_dtype(column.format);
  make_queries(workload, dtype, rows, column.heads, column.head_dim);
  workload.weights = HostTensor(Dtype::f32, {rows, column.heads});
  workload.q_norm = HostTensor(Dtype::f32, {rows, column.heads});
  workload.compress_ratio = column.compress_ratio;
  make_keys(workload, dtype, keys, column.head_dim);
  if (has_vector_scale(column.format)) workload.q_scale = HostTensor(Dtype::f32, {rows, column.heads});
  std::fill_n(workload.k.storage.data(), workload.k.bytes(), std::byte{});
  std::fill_n(workload.k_block_scale.storage.data(), workload.k_block_scale.bytes(), std::byte{});
  if (!workload.k_scale.empty()) std::fill_n(workload.k_scale.storage.as<float>(), keys, 1.0f);
  workload.metadata["index_topk"] = std::to_string(column.top_k);
  for (i64 m = 0; m < rows; ++m) {
    workload.q_pos.push_back(static_cast<i32>(tokens - rows + m));
    workload.sequence.push_back(0);
    workload.ks.push_back(0);
    workload.ke.push_back(static_cast<i32>(column.keys_after(tokens - rows + m + 1)));
  }
  return workload;
}

class NiahRun {
 public:
  explicit NiahRun(const NiahRequest& request) : request_(request) {
    find_contexts();
    find_variants();
  }

  NiahPlan plan() const {
    NiahPlan plan;
    plan.contexts = contexts_;
    plan.skipped = skipped_;
    for (const NiahVariant* variant : variants_) plan.indexers.push_back(variant->name);
    const auto maps = static_cast<i64>(variants_.size()), columns = static_cast<i64>(contexts_.size());
    plan.runs = columns * maps * static_cast<i64>(request_.seeds.size());
    plan.cells = columns * maps * static_cast<i64>(request_.depths.size());
    return plan;
  }

  NiahReport run() {
    describe();
    for (const NiahPlan::Context& context : contexts_) {
      try {
        map_column(context);
      } catch (const Interrupted&) {
        report_.interrupted = true;
        break;
      }
    }
    report_.interrupted = report_.interrupted || interrupted();
    return std::move(report_);
  }

 private:
  /// The contexts with room for the needles, and the memory that each takes.
  void find_contexts() {
    std::optional<Error> refusal;
    for (const i64 tokens : request_.contexts) {
      const SyntheticRequest column = column_request(request_, tokens, request_.seeds.front());
      try {
        check_request(column);
      } catch (const Error& error) {
        skipped_.push_back({fmt::format("context {}", tokens), std::string(request_.backend.name()), error.what()});
        refusal = error;
        continue;
      }
      contexts_.push_back({.tokens = tokens, .rows = column.rows, .bytes = 0});
    }
    if (contexts_.empty()) {
      throw Error(ErrorKind::nothing, "MP-E552",
                  fmt::format("no needle can be seen in any context: {}", refusal ? refusal->what() : "there is none"),
                  {}, refusal ? refusal->how() : "--context 4k:128k:*2");
    }
  }

  /// The variants that the backend can run. Refuses contexts that the memory cannot hold.
  void find_variants() {
    const Backend& backend = request_.backend;
    std::vector<const NiahVariant*> left;
    for (const NiahVariant& variant : request_.variants) left.push_back(&variant);
    for (NiahPlan::Context& context : contexts_) {
      const Workload workload = undrawn(column_request(request_, context.tokens, request_.seeds.front()));
      const Problem outline = outline_of(workload);
      const i64 placed = Placement::bytes_needed(workload);
      for (const NiahVariant* variant : left) {
        const IndexerSpec spec = variant->spec(workload);
        if (is_skipped(*variant)) continue;
        if (const auto reason = backend.why_not(spec, outline.shape)) {
          skipped_.push_back({variant->name, std::string(backend.name()), *reason});
          continue;
        }
        const PlanBytes bytes = Plan::bytes_needed(backend, spec, outline);
        const i64 host = workload.bytes() + bytes.host + selection_bytes(spec, outline.shape);
        check(host, placed + bytes.least(), context);
      }
    }
    for (const NiahVariant* variant : left) {
      if (!is_skipped(*variant)) variants_.push_back(variant);
    }
    if (!variants_.empty()) return;
    throw Error(ErrorKind::unavailable, "MP-E405",
                fmt::format("backend {} can run none of the indexers: {}: {}", backend.name(), skipped_.back().indexer,
                            skipped_.back().reason),
                {}, "another --backend or other --indexer");
  }

  bool is_skipped(const NiahVariant& variant) const {
    return std::any_of(skipped_.begin(), skipped_.end(),
                       [&](const Refusal& one) { return one.indexer == variant.name; });
  }

  /// `host` and `placed` bytes are alive at once, the latter where the backend has its memory.
  void check(i64 host, i64 placed, NiahPlan::Context& context) const {
    const bool apart = request_.backend.free_bytes().has_value();
    context.bytes = std::max(context.bytes, host + placed);
    const auto refuse = [&](i64 needed, i64 limit, const char* where) {
      if (needed <= limit) return;
      throw Error(
          ErrorKind::runtime, "MP-E502",
          fmt::format("a context of {} needs {} bytes {}, the limit is {}", context.tokens, needed, where, limit), {},
          "a larger --max-memory or shorter contexts");
    };
    refuse(apart ? host : host + placed, request_.memory.host, apart ? "on the host" : "in all");
    if (apart) refuse(placed, request_.memory.of(request_.backend), "on the device");
  }

  void describe() {
    report_.tool_version = request_.origin.tool_version;
    report_.command_line = request_.origin.command_line;
    report_.environment = describe_environment({&request_.backend}, request_.threads, request_.origin);
    report_.warnings = request_.origin.warnings;
    report_.skipped = skipped_;
    report_.contexts = request_.contexts;
    report_.depths = request_.depths;
    report_.seeds = request_.seeds;
    const SyntheticRequest& drawn = request_.drawn;
    report_.inputs = {.model = drawn.model,
                      .preset = drawn.preset,
                      .heads = drawn.heads,
                      .head_dim = drawn.head_dim,
                      .top_k = 0,
                      .compress_ratio = drawn.compress_ratio,
                      .dtype = element_dtype(drawn.format),
                      .mode = std::string(needle_mode_names()[static_cast<std::size_t>(request_.needle.mode)]),
                      .needle_tokens = request_.needle.length,
                      .gain = request_.needle.gain,
                      .needles = request_.needles};
    const Workload longest = undrawn(column_request(request_, contexts_.back().tokens, request_.seeds.front()));
    for (const NiahVariant* variant : variants_) {
      NiahMap& map = report_.maps.emplace_back();
      map.name = variant->name;
      map.spec = variant->spec(longest);
      map.backend = request_.backend.name();
      map.cells.assign(request_.contexts.size(),
                       std::vector<std::optional<NiahCell>>(request_.depths.size(), std::nullopt));
      report_.inputs.top_k = map.spec.top_k;
    }
    for (const NiahPlan::Context& context : contexts_) all_work_ += work_of(context) * (1 + variants());
    all_work_ *= static_cast<double>(request_.seeds.size());
    begun_ = steady_seconds();
  }

  double variants() const { return static_cast<double>(variants_.size()); }
  /// A run takes as long as its tokens and, for what does not depend on them, so many more.
  static double work_of(const NiahPlan::Context& context) { return static_cast<double>(context.tokens + 16384); }

  /// Tells what begins, and counts it as done.
  void tell(std::string_view doing, const NiahPlan::Context& context, u64 seed) {
    stop_if_interrupted();
    const double seconds = steady_seconds() - begun_, done = done_work_ / all_work_;
    if (request_.progress) {
      request_.progress({.doing = doing,
                         .context = context.tokens,
                         .seed = seed,
                         .done = done,
                         .seconds = seconds,
                         .seconds_left = done > 0 ? seconds / done * (1 - done) : 0});
    }
    done_work_ += work_of(context);
  }

  /// Fills the cells of a context in all maps, once all seeds have run.
  void map_column(const NiahPlan::Context& context) {
    std::vector<std::vector<NiahCell>> columns(
        variants_.size(), std::vector<NiahCell>(request_.depths.size(), {.mean = 0, .worst = 1, .needles = 0}));
    for (const u64 seed : request_.seeds) {
      tell("generating", context, seed);
      const Workload workload = generate(column_request(request_, context.tokens, seed));
      const Placement placement(request_.backend, workload);
      for (std::size_t v = 0; v < variants_.size(); ++v) {
        tell(variants_[v]->name, context, seed);
        add_run(variants_[v]->spec(workload), workload, placement, columns[v]);
      }
    }
    const auto at = std::find(request_.contexts.begin(), request_.contexts.end(), context.tokens);
    const auto c = static_cast<std::size_t>(at - request_.contexts.begin());
    for (std::size_t v = 0; v < variants_.size(); ++v) {
      for (std::size_t d = 0; d < columns[v].size(); ++d) {
        NiahCell cell = columns[v][d];
        if (cell.needles == 0) continue;
        cell.mean /= static_cast<double>(cell.needles);
        report_.maps[v].cells[c][d] = cell;
      }
    }
  }

  /// Adds the shares of a workload's needles to a column, whose means are sums by now.
  void add_run(const IndexerSpec& spec, const Workload& workload, const Placement& placement,
               std::vector<NiahCell>& column) {
    const Problem& problem = placement.problem();
    const i64 beside = request_.backend.free_bytes() ? 0 : workload.bytes() + selection_bytes(spec, problem.shape);
    Plan plan(request_.backend, spec, problem,
              {.max_bytes = request_.memory.of(request_.backend) - beside, .fusion = request_.fusion});
    plan.run(nullptr);
    const HostTensor tokens = fetch_tokens(request_.backend, plan);
    for (const NeedleCell& needle : needle_cells(workload, {tokens.span<const i32>(), spec.top_k})) {
      NiahCell& cell = column[static_cast<std::size_t>(needle.row / request_.needles)];
      cell.mean += needle.share();
      cell.worst = std::min(cell.worst, needle.share());
      ++cell.needles;
    }
  }

  const NiahRequest& request_;
  std::vector<NiahPlan::Context> contexts_;
  std::vector<const NiahVariant*> variants_;
  std::vector<Refusal> skipped_;
  NiahReport report_;
  double all_work_ = 0, done_work_ = 0, begun_ = 0;
};

}  // namespace

NiahReport niah(const NiahRequest& request) { return NiahRun(request).run(); }
NiahPlan plan_niah(const NiahRequest& request) { return NiahRun(request).plan(); }
Workload undrawn_column(const NiahRequest& request, i64 context) {
  return undrawn(column_request(request, context, request.seeds.front()));
}

}  // namespace misa
