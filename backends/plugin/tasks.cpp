#include "backends/plugin/tasks.hpp"

namespace misa::plugin {
namespace {

constexpr i64 kFloat = sizeof(float), kId = sizeof(i32);

static_assert(MISA_F32 == 0 && MISA_BF16 == 1 && MISA_E4M3 == 2, "the order of Values");
int32_t dtype_number(const Values& values) { return static_cast<int32_t>(values.index()); }

const void* data_of(const Values& values) {
  return std::visit(
      [](const auto& view) -> const void* {
        if constexpr (std::is_same_v<Element<decltype(view)>, Mxfp4>) {
          return view.codes.data;  // never handed out: see has_values
        } else {
          return view.data;
        }
      },
      values);
}

misa_queries queries_of(const Queries& queries) {
  return {.rows = rows_of(queries),
          .heads = heads_of(queries),
          .dim = head_dim_of(queries),
          .dtype = dtype_number(queries.values),
          .reserved = 0,
          .values = data_of(queries.values),
          .weights = queries.weights.data};
}

misa_keys keys_of(const KeyCache& keys) {
  misa_keys task{};
  std::visit(
      [&](const auto& view) {
        task.pages = view.shape[0];
        task.page_size = view.shape[1];
        task.dim = view.shape[2];
        if constexpr (!std::is_same_v<Element<decltype(view)>, Mxfp4>) {
          constexpr i64 kElement = sizeof(*view.data);
          task.values_page_stride = view.stride[0] * kElement;
          task.values_token_stride = view.stride[1] * kElement;
        }
      },
      keys.values);
  task.dtype = dtype_number(keys.values);
  task.values = data_of(keys.values);
  task.scales = keys.scales.data;
  task.scales_page_stride = keys.scales.stride[0] * kFloat;
  task.scales_token_stride = keys.scales.stride[1] * kFloat;
  task.block_table = keys.block_table.data;
  task.sequences = keys.block_table.shape[0];
  task.max_pages = keys.block_table.shape[1];
  task.block_table_stride = keys.block_table.stride[0] * kId;
  return task;
}

misa_windows windows_of(const Windows& windows) {
  return {.sequence = windows.sequence.data, .begin = windows.begin.data, .end = windows.end.data};
}

misa_candidates candidates_of(const std::optional<Candidates>& candidates) {
  if (!candidates) return {};
  return {.runs = candidates->runs.data,
          .runs_per_row = candidates->runs.shape[1],
          .runs_stride = candidates->runs.stride[0] * kId,
          .origin = candidates->origin.data,
          .length = candidates->length};
}

/// True of routers that rank heads without a key.
bool reads_no_key(Router router) {
  return router == Router::qnorm || router == Router::gate || router == Router::random;
}

}  // namespace

bool has_dtype(Dtype dtype) { return dtype == Dtype::f32 || dtype == Dtype::bf16 || dtype == Dtype::e4m3; }

bool has_values(const Queries& queries, const KeyCache& keys) {
  return has_dtype(dtype_of(queries.values)) && has_dtype(dtype_of(keys.values));
}

misa_score_task task_of(const ScoreTask& task) {
  const auto& logits = std::get<View<float, 2>>(task.logits);
  return {.size = sizeof(misa_score_task),
          .queries = queries_of(task.queries),
          .keys = keys_of(task.keys),
          .windows = windows_of(task.windows),
          .candidates = candidates_of(task.candidates),
          .columns = logits.shape[1],
          .logits = logits.data,
          .logits_stride = logits.stride[0] * kFloat};
}

misa_select_task task_of(const SelectTask& task) {
  const auto& logits = std::get<View<float, 2>>(task.logits);
  return {.size = sizeof(misa_select_task),
          .rows = logits.shape[0],
          .columns = logits.shape[1],
          .logits = logits.data,
          .logits_stride = logits.stride[0] * kFloat,
          .windows = windows_of(task.windows),
          .candidates = candidates_of(task.candidates),
          .k = task.selected.shape[1],
          .force_ends = task.forced == Forced{1, 1} ? 1 : 0,
          .reserved = 0,
          .tokens = task.selected.data,
          .tokens_stride = task.selected.stride[0] * kId,
          .force_first = task.forced.first,
          .force_last = task.forced.last};
}

misa_route_task task_of(const RankTask& task) {
  return {.size = sizeof(misa_route_task),
          .router = router_name(task.router).data(),
          .queries = queries_of(task.queries),
          .keys = reads_no_key(task.router) ? misa_keys{} : keys_of(task.keys),
          .windows = windows_of(task.windows),
          .tails = task.tails.data,
          .norms = task.norms.data,
          .first_row = task.first_row,
          .seed = task.seed,
          .active = task.heads.shape[1],
          .heads = task.heads.data};
}

misa_index_plan plan_of(const IndexerSpec& spec, const Problem& problem) {
  const misa_keys keys = keys_of(problem.keys);
  misa_index_plan plan{};
  plan.size = sizeof plan;
  plan.indexer = spec.name.c_str();
  plan.rows = problem.shape.rows;
  plan.heads = problem.shape.heads;
  plan.dim = problem.shape.head_dim;
  plan.dtype = dtype_number(problem.queries.values);
  plan.pages = keys.pages;
  plan.page_size = keys.page_size;
  plan.sequences = keys.sequences;
  plan.max_pages = keys.max_pages;
  plan.host_sequence = problem.sequence.data();
  plan.host_begin = problem.begin.data();
  plan.host_end = problem.end.data();
  plan.host_lengths = problem.lengths.empty() ? nullptr : problem.lengths.data();
  plan.top_k = spec.top_k;
  if (spec.heads) {
    plan.active_heads = spec.heads->active;
    plan.block_size = spec.heads->block_size;
    plan.samples = spec.heads->samples;
    plan.router = router_name(spec.heads->router).data();
  }
  if (spec.blocks) {
    plan.blocks = spec.blocks->blocks;
    plan.block_size = spec.blocks->block_size;
  }
  if (spec.rerank) plan.candidates = spec.rerank->candidates;
  plan.block_window = block_window_name(spec.block_window).data();
  plan.seed = spec.seed;
  plan.force_first = spec.forced.first;
  plan.force_last = spec.forced.last;
  return plan;
}

misa_index_task task_of(const IndexerSpec& spec, const Problem& problem, const View<i32, 2>& selected) {
  const bool by_norm = spec.heads && spec.heads->router == Router::qnorm;
  return {.size = sizeof(misa_index_task),
          .queries = queries_of(problem.queries),
          .keys = keys_of(problem.keys),
          .windows = windows_of(problem.windows),
          .norms = by_norm ? problem.norms.data : nullptr,
          .tokens = selected.data,
          .tokens_stride = selected.stride[0] * kId};
}

}  // namespace misa::plugin
