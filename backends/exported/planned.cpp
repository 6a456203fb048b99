#include "backends/exported/planned.hpp"

#include <utility>

#include "backends/exported/tasks.hpp"

namespace misa::exported {
namespace {

/// Who asks for nothing takes what the command line does.
IndexerSettings settings_of(const misa_index_plan& plan, i64 longest) {
  IndexerSettings settings{.context = longest};
  const auto set = [](auto& setting, i64 value) {
    if (value != 0) setting = value;
  };
  set(settings.top_k, plan.top_k);
  set(settings.active_heads, plan.active_heads);
  set(settings.block_size, plan.block_size);
  set(settings.candidates, plan.candidates);
  set(settings.blocks, plan.blocks);
  set(settings.samples, plan.samples);
  settings.forced = {plan.force_first, plan.force_last};
  if (plan.seed != 0) settings.seed = plan.seed;
  if (plan.router != nullptr) {
    settings.router = find_router(plan.router);
    if (!settings.router) refuse("there is no router called '" + std::string(plan.router) + "'");
  }
  if (plan.block_window != nullptr) {
    const auto window = find_block_window(plan.block_window);
    if (!window) refuse("block_window is '" + std::string(plan.block_window) + "', not visible or upstream");
    settings.block_window = *window;
  }
  return settings;
}

std::vector<i32> copied(const i32* values, i64 count, const char* name) {
  if (count > 0 && values == nullptr) refuse(std::string(name) + " is null");
  return {values, values + count};
}

void check_windows(const Problem& problem, const misa_index_plan& plan) {
  for (std::size_t m = 0; m < problem.begin.size(); ++m) {
    const i64 sequence = problem.sequence[m];
    const std::string row = "row " + std::to_string(m);
    if (sequence < 0 || (problem.shape.paged && sequence >= plan.sequences)) {
      refuse(row + " is of sequence " + std::to_string(sequence) + ", and there are " + std::to_string(plan.sequences));
    }
    const i64 tokens = problem.shape.paged ? problem.lengths[static_cast<std::size_t>(sequence)] : problem.shape.keys;
    if (problem.begin[m] < 0 || problem.begin[m] > problem.end[m] || problem.end[m] > tokens) {
      refuse(row + " sees [" + std::to_string(problem.begin[m]) + ", " + std::to_string(problem.end[m]) + ") of " +
             std::to_string(tokens) + " tokens");
    }
  }
}

std::string shape_text(const misa_queries& queries) {
  return "[" + std::to_string(queries.rows) + ", " + std::to_string(queries.heads) + ", " +
         std::to_string(queries.dim) + "]";
}

}  // namespace

Asked read_plan(const misa_index_plan& plan) {
  require(plan.indexer != nullptr, "indexer is null");
  // Their shapes are checked as those of each run will be.
  const misa_queries queries{plan.rows, plan.heads, plan.dim, plan.dtype, 0, nullptr, nullptr};
  queries_of(queries, Pointers::may_be_null);
  const Dtype dtype = dtype_of(plan.dtype);
  Asked asked;
  misa_keys& keys = asked.keys;
  keys.pages = plan.pages;
  keys.page_size = plan.page_size;
  keys.dim = plan.dim;
  keys.dtype = plan.dtype;
  keys.values_token_stride = dtype_bytes(dtype, plan.dim);
  keys.values_page_stride = plan.page_size * keys.values_token_stride;
  keys.sequences = plan.sequences;
  keys.max_pages = plan.max_pages;
  keys.block_table_stride = plan.max_pages * 4;
  keys_of(keys, plan.dim, Pointers::may_be_null);

  Problem& problem = asked.problem;
  problem.shape = {.rows = plan.rows,
                   .heads = plan.heads,
                   .head_dim = plan.dim,
                   .keys = plan.pages * plan.page_size,
                   .dtype = dtype,
                   .paged = is_paged(keys),
                   .key_dtype = dtype};
  problem.begin = copied(plan.host_begin, plan.rows, "host_begin");
  problem.end = copied(plan.host_end, plan.rows, "host_end");
  if (problem.shape.paged) {
    problem.sequence = copied(plan.host_sequence, plan.rows, "host_sequence");
    problem.lengths = copied(plan.host_lengths, plan.sequences, "host_lengths");
    for (const i32 length : problem.lengths) {
      require(length >= 0 && length <= plan.max_pages * plan.page_size, "a sequence is longer than its pages");
    }
  } else {
    problem.sequence = plan.host_sequence == nullptr ? std::vector<i32>(problem.begin.size(), 0)
                                                     : copied(plan.host_sequence, plan.rows, "host_sequence");
  }
  check_windows(problem, plan);
  for (std::size_t m = 0; m < problem.begin.size(); ++m) {
    problem.shape.max_window = std::max<i64>(problem.shape.max_window, problem.end[m] - problem.begin[m]);
  }
  asked.spec = make_indexer(plan.indexer, settings_of(plan, problem.shape.max_window));
  return asked;
}

Planned::Planned(Backend& backend, Asked asked) : asked_(std::move(asked)) {
  Problem& problem = asked_.problem;
  const i64 rows = problem.shape.rows;
  if (rows == 0) return;
  windows_ = Buffer(backend, 3 * rows * 4);
  if (asked_.spec.heads && asked_.spec.heads->router == Router::qnorm) {
    problem.norms = {windows_.as<const float>(), {rows, problem.shape.heads}};  // a promise: each run has its own
  }
  plan_.emplace(backend, asked_.spec, problem, PlanOptions{.keeps_tokens = false});
  // The upload is the last thing to wait for: what was allocated before it is there for every stream.
  std::vector<i32> all = problem.sequence;
  all.insert(all.end(), problem.begin.begin(), problem.begin.end());
  all.insert(all.end(), problem.end.begin(), problem.end.end());
  backend.upload(windows_.data(), reinterpret_cast<const std::byte*>(all.data()), windows_.bytes());
  const i32* placed = windows_.as<const i32>();
  problem.windows = {{placed, {rows}}, {placed + rows, {rows}}, {placed + 2 * rows, {rows}}};
}

void Planned::run(const misa_index_task& task) {
  Problem& problem = asked_.problem;
  const Shape& shape = problem.shape;
  const misa_queries planned{shape.rows, shape.heads, shape.head_dim, asked_.keys.dtype, 0, nullptr, nullptr};
  if (task.queries.rows != planned.rows || task.queries.heads != planned.heads || task.queries.dim != planned.dim) {
    refuse("queries are " + shape_text(task.queries) + ", and " + shape_text(planned) + " was planned");
  }
  require(task.queries.dtype == planned.dtype && task.keys.dtype == planned.dtype, "dtype is not as planned");
  require(task.keys.pages == asked_.keys.pages && task.keys.page_size == asked_.keys.page_size,
          "pages or page_size of the keys is not as planned");
  require(is_paged(task.keys) == shape.paged && (!shape.paged || (task.keys.sequences == asked_.keys.sequences &&
                                                                  task.keys.max_pages == asked_.keys.max_pages)),
          "the block table is not as planned");
  const View<i32, 2> tokens = tokens_of(task.tokens, shape.rows, asked_.spec.top_k, task.tokens_stride,
                                        shape.rows > 0 ? Pointers::needed : Pointers::may_be_null);
  if (!plan_) return;
  const bool reads_norms = !problem.norms.empty();
  require(!reads_norms || task.norms != nullptr, "router qnorm reads norms, and norms is null");
  problem.queries = queries_of(task.queries, Pointers::needed);
  problem.keys = keys_of(task.keys, shape.head_dim, Pointers::needed);
  if (reads_norms) problem.norms = norms_of(task.norms, task.queries);
  plan_->run_into(tokens);
}

}  // namespace misa::exported
