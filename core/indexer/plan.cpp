#include "core/indexer/plan.hpp"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "core/base/error.hpp"
#include "core/indexer/blocks.hpp"
#include "core/indexer/effective.hpp"

namespace misa {
namespace {

constexpr i64 kTileRows = 32;  // chunks of this many rows fill the tiles of every kernel

/// A labelled span of work, from construction to destruction.
class Span {
 public:
  Span(Observer* observer, StageSet stages) : observer_(observer) {
    if (observer_ != nullptr) observer_->begin(stages);
  }
  ~Span() {
    if (observer_ != nullptr) observer_->end();
  }
  void ran(Primitive primitive, std::string_view kernel) const {
    if (observer_ != nullptr) observer_->ran(primitive, kernel);
  }
  Span(const Span&) = delete;
  Span& operator=(const Span&) = delete;

 private:
  Observer* observer_;
};

/// Backend memory of [rows, columns] i32 or f32.
template <class T>
struct Matrix {
  Buffer buffer;
  View<T, 2> view;

  void allocate(Backend& backend, i64 rows, i64 columns) {
    buffer = Buffer(backend, rows * columns * static_cast<i64>(sizeof(T)));
    view = View<T, 2>(buffer.as<T>(), {rows, columns});
  }
  /// The first `count` rows; empty where nothing was allocated.
  View<T, 2> rows(i64 count) const { return view.empty() ? view : view.slice(0, count); }
};

/// Host indices, on the backend.
struct IndexVector {
  Buffer buffer;
  View<const i32, 1> view;

  void upload(Backend& backend, const std::vector<i32>& values) {
    const i64 count = static_cast<i64>(values.size());
    buffer = Buffer(backend, count * static_cast<i64>(sizeof(i32)));
    if (count > 0) {
      backend.upload(buffer.data(), reinterpret_cast<const std::byte*>(values.data()), buffer.bytes());
    }
    view = View<const i32, 1>(buffer.as<const i32>(), {count});
  }
};

struct LogitsBuffer {
  Buffer buffer;
  Dtype dtype = Dtype::f32;

  void allocate(Backend& backend, i64 rows, i64 columns) {
    dtype = backend.logits_dtype();
    buffer = Buffer(backend, dtype_bytes(dtype, rows * columns));
  }
  Logits view(i64 rows, i64 columns) const {
    if (dtype == Dtype::f64) return View<double, 2>(buffer.as<double>(), {rows, columns});
    return View<float, 2>(buffer.as<float>(), {rows, columns});
  }
};

/// Token ranges, on the backend.
struct Ranges {
  IndexVector sequence, begin, end;

  void upload(Backend& backend, const std::vector<i32>& sequences, const std::vector<i32>& begins,
              const std::vector<i32>& ends) {
    sequence.upload(backend, sequences);
    begin.upload(backend, begins);
    end.upload(backend, ends);
  }
  Windows view() const { return {sequence.view, begin.view, end.view}; }
};

/// Pooled or sampled keys: where the blocks lie, and their means, once for all rows.
struct PooledKeys {
  BlockLayout layout;
  bool heads;          ///< that are ranked over them, not blocks
  Ranges ranges;       ///< that a run pools
  IndexVector places;  ///< of their means, where these are not all
  IndexVector row_sequence, row_first, row_last, row_origin, tail_begin;
  Matrix<float> means;  ///< [P, D]

  PooledKeys(BlockLayout blocks, bool ranks_heads) : layout(std::move(blocks)), heads(ranks_heads) {}

  /// Heads are ranked over the row's own last mean; blocks are not, since a row keeps its last one whatever its score.
  bool own_tails() const { return heads && !layout.tail_begin.empty(); }

  void allocate(Backend& backend, const Problem& problem, Pooling pooling) {
    ranges.upload(backend, layout.sequence, layout.begin, layout.end);
    row_sequence.upload(backend, std::vector<i32>(layout.first.size(), 0));
    row_first.upload(backend, layout.first);
    row_last.upload(backend, layout.last);
    row_origin.upload(backend, layout.origin);
    tail_begin.upload(backend, layout.tail_begin);
    means.allocate(backend, layout.pooled(), problem.shape.head_dim);
    if (pooling == Pooling::fresh) return;
    backend.pool(task(problem));
    const std::vector<i32> changed = changed_keys(layout, problem, own_tails());
    const auto of_changed = [&](const std::vector<i32>& all) {
      std::vector<i32> some;
      for (const i32 p : changed) some.push_back(all[static_cast<std::size_t>(p)]);
      return some;
    };
    ranges.upload(backend, of_changed(layout.sequence), of_changed(layout.begin), of_changed(layout.end));
    places.upload(backend, changed);
  }

  /// What a run pools.
  PoolTask task(const Problem& problem) const { return {problem.keys, ranges.view(), means.view, places.view}; }
  Windows windows() const { return {row_sequence.view, row_first.view, row_last.view}; }
  /// The means are a key cache of their own: contiguous, f32, unscaled.
  KeyCache keys() const {
    const View<float, 2>& m = means.view;
    return {View<const float, 3>(m.data, {1, m.shape[0], m.shape[1]}), {}, {}};
  }
};

/// Bytes of the indices of a layout of `pooled` keys and `rows` rows.
i64 index_bytes(i64 pooled, i64 rows) { return (4 * pooled + 5 * rows) * 4; }

/// Every step that an indexer takes.
StageSet all_stages(const IndexerSpec& spec) {
  StageSet all = StageSet(Stage::score) | Stage::select;
  if (spec.pools()) all = all | Stage::pool;
  if (spec.blocks || spec.heads) all = all | Stage::route;
  return spec.rerank ? all | Stage::rerank : all;
}

/// Whether the scores of `task` are elsewhere.
bool moved(const ScoreTask& task, const Logits& written) {
  const auto data = [](const Logits& logits) {
    return std::visit([](const auto& view) -> const void* { return view.data; }, logits);
  };
  return data(task.logits) != data(written);
}

/// What a plan is made of: its indexer, with as many heads, blocks and candidates as there are, and how large what it
/// allocates is.
struct Sizes {
  IndexerSpec spec;
  std::optional<BlockCount> head_blocks, token_blocks;
  PlanBytes bytes;
};

Sizes sizes_of(const Backend& backend, IndexerSpec spec, const Problem& problem, bool energies) {
  const i64 rows = problem.shape.rows, heads = problem.shape.heads, head_dim = problem.shape.head_dim;
  const i64 score = dtype_bytes(backend.logits_dtype(), 1);
  const i64 top_k = spec.top_k;  // the columns asked for, padded where there are fewer tokens
  spec = effective(std::move(spec), problem);
  spec.top_k = top_k;
  Sizes sizes;
  PlanBytes& bytes = sizes.bytes;
  i64 pooled = 0, samples = 0;
  const auto add_pooled = [&](const BlockCount& count) {
    pooled = std::max(pooled, count.pooled);
    bytes.fixed += index_bytes(count.pooled, rows) + count.pooled * head_dim * 4;
    bytes.host += 2 * index_bytes(count.pooled, rows);  // the layout, and a second one for the cost model
  };
  bytes.columns = problem.shape.max_window;
  bytes.fixed += rows * spec.top_k * 4;
  if (spec.heads) {
    const HeadRouting& routing = *spec.heads;
    if (routing.router == Router::pooled) {
      sizes.head_blocks = count_blocks(problem, routing.block_size, spec.block_window);
      if (spec.block_window == BlockWindow::visible) bytes.per_row += head_dim * 4;  // tails
    } else if (samples_keys(routing.router)) {
      sizes.head_blocks = count_samples(problem, routing.samples);
      samples = sizes.head_blocks->longest;
    }
    if (sizes.head_blocks) add_pooled(*sizes.head_blocks);
    bytes.fixed += rows * routing.kept(heads) * 4;
    bytes.per_row += routing.active * (dtype_bytes(routed_dtype(problem.shape.dtype), head_dim) + 4);
    if (energies || routing.group > 1) bytes.per_row += heads * 8;
    if (routing.group > 1) bytes.fixed += rows * 4;
    if (routing.linear_head(heads)) bytes.per_row += heads * 8;  // slopes
  }
  if (spec.blocks) {
    sizes.token_blocks = count_blocks(problem, spec.blocks->block_size, spec.block_window);
    // Ids ascend, so that no token's column is beyond its distance from the origin.
    bytes.columns = std::min(spec.blocks->blocks * spec.blocks->block_size, sizes.token_blocks->reach);
    add_pooled(*sizes.token_blocks);
    bytes.fixed += rows * spec.blocks->blocks * 4;
    bytes.per_row += sizes.token_blocks->longest * score;
  }
  if (spec.given) bytes.columns = problem.given_runs * problem.given_length;
  bytes.per_row += bytes.columns * score;
  if (spec.rerank) {
    bytes.fixed += rows * spec.rerank->candidates * 4;
    bytes.per_row += spec.rerank->candidates * score;
  }
  bytes.per_row = std::max<i64>(bytes.per_row, 1);
  bytes.host += backend.scratch_bytes(
      {.columns = problem.shape.max_window, .heads = heads, .samples = samples, .ranges = std::max(pooled, rows)});
  if (!backend.free_bytes()) bytes.fixed += std::exchange(bytes.host, 0);
  sizes.spec = std::move(spec);
  return sizes;
}

}  // namespace

struct Plan::State {
  Backend& backend;
  const Problem& problem;
  PlanOptions options;
  Sizes sizes;
  IndexerSpec& spec = sizes.spec;
  i64 rows, heads, head_dim, chunk = 0, workspace = 0;

  std::optional<PooledKeys> head_blocks, token_blocks;
  IndexVector places;  ///< of rows in their groups
  Matrix<float> tails, routed_weights;
  Matrix<double> energies, slopes;
  Buffer routed_values;
  LogitsBuffer block_logits, logits, candidate_logits;
  Matrix<i32> kept_tokens, selected_heads, selected_blocks, selected_candidates;
  View<i32, 2> selected_tokens;     ///< of this run: kept_tokens, or the caller's
  std::unique_ptr<IndexRun> whole;  ///< the indexer, where the backend does it by itself

  State(Backend& where, const IndexerSpec& what, const Problem& on, PlanOptions how)
      : backend(where),
        problem(on),
        options(std::move(how)),
        sizes(sizes_of(where, what, on, static_cast<bool>(options.after_chunk))),
        rows(on.shape.rows),
        heads(on.shape.heads),
        head_dim(on.shape.head_dim) {
    if (const auto reason = backend.why_not(spec, problem.shape)) {
      throw Error(ErrorKind::unavailable, "MP-E401",
                  "backend " + std::string(backend.name()) + " cannot run " + spec.name + ": " + *reason, {},
                  "another --backend, or fewer of what is too many");
    }
    if (spec.heads && spec.heads->router == Router::qnorm && problem.norms.empty()) {
      throw Error(ErrorKind::unavailable, "MP-E402",
                  "router qnorm needs the norm of the unquantised queries, and this workload has neither q_norm nor "
                  "q_scale",
                  {}, "another --router, or a trace that records q_norm");
    }
    if (spec.given && !problem.given) {
      throw Error(ErrorKind::unavailable, "MP-E565",
                  spec.name + " scores the candidates that the workload brings, and this one brings none", {},
                  "a trace with the tensor candidates, or another --indexer");
    }
    if (options.fusion && !spec.given) whole = backend.plan_index(what, problem, options.first_row);
    if (whole) {
      chunk = rows;
      allocate_tokens();
      workspace = kept_tokens.buffer.bytes();
      return;
    }
    choose_chunk();
    lay_out();
    allocate();
  }

  bool pools_heads() const { return sizes.head_blocks.has_value(); }
  bool groups() const { return spec.heads && spec.heads->group > 1; }

  void choose_chunk() {
    const i64 fixed = sizes.bytes.fixed, per_row = sizes.bytes.per_row;
    const i64 together = groups() ? std::clamp<i64>(rows, 1, spec.heads->group) : 1;  // rows of one chunk at least
    i64 most = std::max<i64>(1, backend.workspace_bytes() / per_row);
    if (options.max_bytes > 0) {
      const i64 room = options.max_bytes - problem.bytes - fixed;
      if (room < per_row * together) {
        throw Error(ErrorKind::runtime, "MP-E502",
                    spec.name + " needs at least " + std::to_string(problem.bytes + fixed + per_row * together) +
                        " bytes (workload " + std::to_string(problem.bytes) + ", outputs, block means and scratch " +
                        std::to_string(fixed) + (together == 1 ? ", one row " : ", the rows of a group ") +
                        std::to_string(per_row * together) + "), the limit is " + std::to_string(options.max_bytes),
                    {},
                    "a larger --max-memory, fewer indexers at once (they share it), fewer --rows or a shorter context");
      }
      most = std::min(most, room / per_row);
    }
    if (options.rows_per_chunk > 0) most = std::min(most, options.rows_per_chunk);
    chunk = std::clamp<i64>(rows, 1, most);
    if (options.rows_per_chunk == 0 && kTileRows <= chunk && chunk < rows) {
      const i64 even = ceil_div(rows, ceil_div(rows, chunk));  // no small one at the end
      chunk = std::min(ceil_div(even, kTileRows), chunk / kTileRows) * kTileRows;
    }
    if (chunk < rows) chunk = std::max(together, chunk / together * together);
    workspace = fixed + chunk * per_row;
  }

  void lay_out() {
    if (pools_heads()) {
      const HeadRouting& routing = *spec.heads;
      head_blocks.emplace(routing.router == Router::pooled
                              ? layout_blocks(problem, routing.block_size, spec.block_window)
                              : layout_samples(problem, routing.samples),
                          true);
    }
    if (spec.blocks) token_blocks.emplace(layout_blocks(problem, spec.blocks->block_size, spec.block_window), false);
  }

  void allocate() {
    if (pools_heads()) {
      head_blocks->allocate(backend, problem, spec.pooling);
      if (head_blocks->own_tails()) tails.allocate(backend, chunk, head_dim);
    }
    if (spec.heads) {
      routed_values =
          Buffer(backend, dtype_bytes(routed_dtype(problem.shape.dtype), chunk * spec.heads->active * head_dim));
      routed_weights.allocate(backend, chunk, spec.heads->active);
      selected_heads.allocate(backend, rows, spec.heads->kept(heads));
      if (options.after_chunk || groups()) energies.allocate(backend, chunk, heads);
      if (groups()) place_rows();
      if (spec.heads->linear_head(heads)) slopes.allocate(backend, chunk, heads);
    }
    if (spec.blocks) {
      token_blocks->allocate(backend, problem, spec.pooling);
      block_logits.allocate(backend, chunk, sizes.token_blocks->longest);
      selected_blocks.allocate(backend, rows, spec.blocks->blocks);
    }
    logits.allocate(backend, chunk, sizes.bytes.columns);
    if (spec.rerank) {
      selected_candidates.allocate(backend, rows, spec.rerank->candidates);
      candidate_logits.allocate(backend, chunk, spec.rerank->candidates);
    }
    allocate_tokens();
  }

  void place_rows() {
    std::vector<i32> place;
    for (i64 m = 0; m < rows; ++m) place.push_back(static_cast<i32>(m - group_of(problem, spec.heads->group, m).first));
    places.upload(backend, place);
  }

  void allocate_tokens() {
    if (options.keeps_tokens) kept_tokens.allocate(backend, rows, spec.top_k);
    selected_tokens = kept_tokens.view;
  }

  /// Routed queries of `count` rows.
  Values routed_view(i64 count) const {
    return std::visit(
        [&](const auto& view) -> Values {
          using T = const Routed<Element<decltype(view)>>;
          return View<T, 3>(routed_values.as<T>(), {count, spec.heads->active, head_dim});
        },
        problem.queries.values);
  }

  Queries route_heads(i64 first, i64 count, const Queries& queries, const Windows& windows, const Follow& follow,
                      ChunkScores& seen, Observer* observer) {
    RankTask rank{.router = spec.heads->router,
                  .queries = queries,
                  .keys = problem.keys,
                  .windows = windows,
                  .tails = {},
                  .norms = problem.norms.empty() ? problem.norms : problem.norms.slice(first, count),
                  .samples = pools_heads() ? sizes.head_blocks->longest : 0,
                  .seed = spec.seed,
                  .first_row = options.first_row + first,
                  .place = groups() ? places.view.slice(first, count) : places.view,
                  .heads = selected_heads.view.slice(first, count),
                  .energies = energies.rows(count),
                  .slopes = slopes.rows(count)};
    if (pools_heads()) {
      rank.keys = head_blocks->keys();
      rank.windows = slice(head_blocks->windows(), first, count);
      if (head_blocks->own_tails()) {
        rank.tails = tails.rows(count);
        const Span span(observer, Stage::pool);
        span.ran(Primitive::pool,
                 backend.pool({problem.keys,
                               {windows.sequence, head_blocks->tail_begin.view.slice(first, count), windows.end},
                               tails.rows(count)}));
      }
    }
    const Span span(observer, Stage::route);
    const GatherTask gather{.queries = queries,
                            .heads = follow.heads.empty() ? rank.heads : follow.heads.slice(first, count),
                            .slopes = rank.slopes,
                            .linear = follow.linear.empty() ? follow.linear : follow.linear.slice(first, count),
                            .values = routed_view(count),
                            .weights = routed_weights.rows(count)};
    const bool apart = groups() || !follow.heads.empty() || !follow.linear.empty();
    if (const std::string_view both = apart ? "" : backend.rank_gather({rank, gather}); !both.empty()) {
      span.ran(Primitive::rank_gather, both);
    } else {
      span.ran(Primitive::rank, backend.rank(rank));
      span.ran(Primitive::gather, backend.gather(gather));
    }
    seen.route = {rank, gather};
    return {gather.values, gather.weights};
  }

  /// Scores, and returns where the scores are. Where the kernel keeps them in memory of its own, `seen` loses earlier
  /// ones, which it has overwritten.
  Logits score_into(const Span& span, const ScoreTask& task, ChunkScores& seen) {
    span.ran(Primitive::score, backend.score(task));
    const Logits written = backend.written(task);
    if (moved(task, written)) seen.blocks = seen.tokens = std::nullopt;
    return written;
  }

  Candidates choose_blocks(i64 first, i64 count, const Queries& queries, const Follow& follow, ChunkScores& seen,
                           Observer* observer) {
    const Span span(observer, Stage::route);
    const Windows windows = slice(token_blocks->windows(), first, count);
    const Logits scores = block_logits.view(count, sizes.token_blocks->longest);
    const View<i32, 2> chosen = selected_blocks.view.slice(first, count);
    seen.blocks = score_into(span, {queries, token_blocks->keys(), windows, {}, scores}, seen);
    span.ran(Primitive::select, backend.select({*seen.blocks, windows, {}, spec.forced_blocks(), chosen}));
    return {follow.blocks.empty() ? chosen : follow.blocks.slice(first, count),
            token_blocks->row_origin.view.slice(first, count), spec.blocks->block_size};
  }

  void run_chunk(i64 first, i64 count, const Follow& follow, Observer* observer) {
    ChunkScores seen;
    seen.first = first;
    seen.rows = count;
    choose(first, count, follow, seen, observer);
    if (!options.after_chunk) return;
    options.after_chunk(seen);
  }

  void choose(i64 first, i64 count, const Follow& follow, ChunkScores& seen, Observer* observer) {
    const Queries queries = slice(problem.queries, first, count);
    const Windows windows = slice(problem.windows, first, count);
    const View<i32, 2> tokens = selected_tokens.slice(first, count);

    const Queries scoring = spec.heads ? route_heads(first, count, queries, windows, follow, seen, observer) : queries;
    std::optional<Candidates>& within = seen.within;
    i64 columns = 0;
    if (spec.blocks) {
      within = choose_blocks(first, count, queries, follow, seen, observer);
      columns = sizes.bytes.columns;
    } else if (spec.given) {
      within = {problem.given->runs.slice(first, count), windows.begin, problem.given->length};
      columns = sizes.bytes.columns;
    } else {
      for (i64 m = first; m < first + count; ++m) {
        columns = std::max<i64>(columns,
                                problem.end[static_cast<std::size_t>(m)] - problem.begin[static_cast<std::size_t>(m)]);
      }
    }

    const ScoreTask score{scoring, problem.keys, windows, within, logits.view(count, columns)};
    const View<i32, 2> kept = spec.rerank ? selected_candidates.view.slice(first, count) : tokens;
    SelectTask select{score.logits, windows, within, spec.forced, kept, !spec.rerank};
    if (options.fusion && backend.fuses(score, select)) {
      const Span span(observer, StageSet(Stage::score) | Stage::select);
      span.ran(Primitive::score_select, backend.score_select(score, select));
    } else {
      {
        const Span span(observer, Stage::score);
        select.logits = score_into(span, score, seen);
        seen.tokens = select.logits;
      }
      const Span span(observer, Stage::select);
      span.ran(Primitive::select, backend.select(select));
    }
    if (!spec.rerank) return;

    const Span span(observer, Stage::rerank);
    seen.listed = {follow.candidates.empty() ? kept : follow.candidates.slice(first, count), windows.begin, 1};
    const Logits scores = candidate_logits.view(count, seen.listed->columns());
    seen.candidates = score_into(span, {queries, problem.keys, windows, seen.listed, scores}, seen);
    span.ran(Primitive::select, backend.select({*seen.candidates, windows, seen.listed, spec.forced, tokens, true}));
  }

  void run_whole(Observer* observer) {
    {
      const Span span(observer, all_stages(spec));
      span.ran(Primitive::index, whole->run(selected_tokens));
    }
    ChunkScores seen;
    seen.rows = rows;
    if (options.after_chunk) options.after_chunk(seen);
  }

  void run(const Follow& follow, Observer* observer) {
    if (whole) return run_whole(observer);
    for (const std::optional<PooledKeys>* keys : {&head_blocks, &token_blocks}) {
      if (!*keys) continue;
      const PoolTask task = (*keys)->task(problem);
      if (task.count() == 0) continue;
      const Span span(observer, Stage::pool);
      span.ran(Primitive::pool, backend.pool(task));
    }
    for (i64 first = 0; first < rows; first += chunk) {
      run_chunk(first, std::min(chunk, rows - first), follow, observer);
    }
  }
};

PlanBytes Plan::bytes_needed(const Backend& backend, const IndexerSpec& spec, const Problem& problem,
                             bool after_chunk) {
  return sizes_of(backend, spec, problem, after_chunk).bytes;
}

Plan::Plan(Backend& backend, const IndexerSpec& spec, const Problem& problem, PlanOptions options)
    : state_(std::make_unique<State>(backend, spec, problem, std::move(options))) {}
Plan::~Plan() = default;
Plan::Plan(Plan&&) noexcept = default;

void Plan::run(Observer* observer, const Follow& follow) { state_->run(follow, observer); }
void Plan::run_into(const View<i32, 2>& tokens) {
  state_->selected_tokens = tokens;
  state_->run({}, nullptr);
  state_->selected_tokens = state_->kept_tokens.view;
}
const IndexerSpec& Plan::spec() const { return state_->spec; }
i64 Plan::rows_per_chunk() const { return state_->chunk; }
i64 Plan::workspace_bytes() const { return state_->workspace; }
View<const i32, 2> Plan::tokens() const { return state_->kept_tokens.view; }
View<const i32, 2> Plan::heads() const { return state_->selected_heads.view; }
View<const i32, 2> Plan::blocks() const { return state_->selected_blocks.view; }
View<const i32, 2> Plan::candidates() const { return state_->selected_candidates.view; }

}  // namespace misa
