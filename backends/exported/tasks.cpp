#include "backends/exported/tasks.hpp"

#include <cstdint>

namespace misa::exported {
namespace {

constexpr i64 kMost = i64{1} << 40;  // of any extent: products of sizes and strides stay within 64 bits

void require_extent(i64 extent, const char* name, i64 least = 0) {
  if (extent < least || extent > kMost) {
    refuse(std::string(name) + " is " + std::to_string(extent) + ", and at least " + std::to_string(least) +
           " is needed");
  }
}

template <class T>
const T* require_pointer(const void* pointer, const char* name, Pointers pointers) {
  if (pointer == nullptr && pointers == Pointers::needed) refuse(std::string(name) + " is null");
  if (reinterpret_cast<std::uintptr_t>(pointer) % alignof(T) != 0) {
    refuse(std::string(name) + " is not aligned to its elements of " + std::to_string(sizeof(T)) + " bytes");
  }
  return static_cast<const T*>(pointer);
}

/// A stride of bytes in elements.
i64 elements(i64 stride, i64 size, i64 least, const char* name) {
  if (stride % size != 0 || stride < least * size || stride > kMost) {
    refuse(std::string(name) + " is " + std::to_string(stride) + " bytes; it must be a multiple of " +
           std::to_string(size) + ", and " + std::to_string(least * size) + " at least");
  }
  return stride / size;
}

Values values_of(Dtype dtype, const void* data, std::array<i64, 3> shape, std::array<i64, 3> stride, const char* name,
                 Pointers pointers) {
  switch (dtype) {
    case Dtype::f32: return View<const float, 3>(require_pointer<float>(data, name, pointers), shape, stride);
    case Dtype::bf16: return View<const Bf16, 3>(require_pointer<Bf16>(data, name, pointers), shape, stride);
    default: return View<const E4m3, 3>(require_pointer<E4m3>(data, name, pointers), shape, stride);
  }
}

Windows windows_of(const misa_windows& windows, i64 rows, Pointers pointers) {
  const auto view = [&](const i32* data, const char* name) {
    return View<const i32, 1>(require_pointer<i32>(data, name, pointers), {rows});
  };
  return {view(windows.sequence, "windows.sequence"), view(windows.begin, "windows.begin"),
          view(windows.end, "windows.end")};
}

std::optional<Candidates> candidates_of(const misa_candidates& given, i64 rows, Pointers pointers) {
  if (given.runs == nullptr && (pointers == Pointers::needed || given.runs_per_row == 0)) return std::nullopt;
  require_extent(given.runs_per_row, "candidates.runs_per_row", 1);
  require_extent(given.length, "candidates.length", 1);
  const i64 stride = elements(given.runs_stride, 4, given.runs_per_row, "candidates.runs_stride");
  return Candidates{
      {require_pointer<i32>(given.runs, "candidates.runs", pointers), {rows, given.runs_per_row}, {stride, 1}},
      {require_pointer<i32>(given.origin, "candidates.origin", pointers), {rows}},
      given.length};
}

View<float, 2> logits_of(const float* logits, i64 rows, i64 columns, i64 stride, Pointers pointers) {
  require_extent(columns, "columns", 1);
  return {const_cast<float*>(require_pointer<float>(logits, "logits", pointers)),
          {rows, columns},
          {elements(stride, 4, columns, "logits_stride"), 1}};
}

}  // namespace

void refuse(const std::string& what) {
  throw Error(ErrorKind::input, "MP-E430", what, {}, "misa_kernel.h, which says what a task holds");
}

Dtype dtype_of(i32 dtype) {
  switch (dtype) {
    case MISA_F32: return Dtype::f32;
    case MISA_BF16: return Dtype::bf16;
    case MISA_E4M3: return Dtype::e4m3;
    default: refuse("dtype is " + std::to_string(dtype) + ", which is none of MISA_F32, MISA_BF16 and MISA_E4M3");
  }
}

Queries queries_of(const misa_queries& given, Pointers pointers) {
  require_extent(given.rows, "queries.rows");
  require_extent(given.heads, "queries.heads", 1);
  require_extent(given.dim, "queries.dim", 1);
  const std::array<i64, 3> shape{given.rows, given.heads, given.dim}, stride{given.heads * given.dim, given.dim, 1};
  return {values_of(dtype_of(given.dtype), given.values, shape, stride, "queries.values", pointers),
          {require_pointer<float>(given.weights, "queries.weights", pointers), {given.rows, given.heads}}};
}

bool is_paged(const misa_keys& keys) { return keys.block_table != nullptr || keys.max_pages > 0; }

KeyCache keys_of(const misa_keys& given, i64 dim, Pointers pointers) {
  require_extent(given.pages, "keys.pages", 1);
  require_extent(given.page_size, "keys.page_size", 1);
  if (given.dim != dim) {
    refuse("keys.dim is " + std::to_string(given.dim) + ", and queries.dim is " + std::to_string(dim));
  }
  const Dtype dtype = dtype_of(given.dtype);
  const i64 size = dtype_bytes(dtype, 1);
  // The stride of a single page is of no use, so it may be anything.
  const auto page_stride = [&](i64 stride, i64 of, i64 whole, const char* name) {
    return given.pages == 1 ? whole : elements(stride, of, 1, name);
  };
  KeyCache keys;
  keys.values =
      values_of(dtype, given.values, {given.pages, given.page_size, dim},
                {page_stride(given.values_page_stride, size, given.page_size * dim, "keys.values_page_stride"),
                 elements(given.values_token_stride, size, dim, "keys.values_token_stride"), 1},
                "keys.values", pointers);
  if (given.scales != nullptr) {
    keys.scales = {require_pointer<float>(given.scales, "keys.scales", pointers),
                   {given.pages, given.page_size},
                   {page_stride(given.scales_page_stride, 4, given.page_size, "keys.scales_page_stride"),
                    elements(given.scales_token_stride, 4, 1, "keys.scales_token_stride")}};
  }
  if (is_paged(given)) {
    require_extent(given.sequences, "keys.sequences", 1);
    require_extent(given.max_pages, "keys.max_pages", 1);
    keys.block_table = {require_pointer<i32>(given.block_table, "keys.block_table", pointers),
                        {given.sequences, given.max_pages},
                        {elements(given.block_table_stride, 4, given.max_pages, "keys.block_table_stride"), 1}};
  } else {
    require(given.pages == 1, "keys without a block table are one page, and keys.pages is not 1");
  }
  return keys;
}

View<const float, 2> norms_of(const float* norms, const misa_queries& queries) {
  if (norms == nullptr) return {};
  return {require_pointer<float>(norms, "norms", Pointers::needed), {queries.rows, queries.heads}};
}

View<i32, 2> tokens_of(i32* tokens, i64 rows, i64 k, i64 stride, Pointers pointers) {
  require_extent(k, "k", 1);
  return {const_cast<i32*>(require_pointer<i32>(tokens, "tokens", pointers)),
          {rows, k},
          {elements(stride, 4, k, "tokens_stride"), 1}};
}

ScoreTask task_of(const misa_score_task& task, Pointers pointers) {
  const i64 rows = task.queries.rows;
  return {.queries = queries_of(task.queries, pointers),
          .keys = keys_of(task.keys, task.queries.dim, pointers),
          .windows = windows_of(task.windows, rows, pointers),
          .candidates = candidates_of(task.candidates, rows, pointers),
          .logits = logits_of(task.logits, rows, task.columns, task.logits_stride, pointers)};
}

SelectTask task_of(const misa_select_task& task, Pointers pointers) {
  require_extent(task.rows, "rows");
  require_extent(task.force_first, "force_first");
  require_extent(task.force_last, "force_last");
  return {.logits = logits_of(task.logits, task.rows, task.columns, task.logits_stride, pointers),
          .windows = windows_of(task.windows, task.rows, pointers),
          .candidates = candidates_of(task.candidates, task.rows, pointers),
          .forced = task.force_ends != 0 ? Forced{1, 1} : Forced{task.force_first, task.force_last},
          .selected = tokens_of(task.tokens, task.rows, task.k, task.tokens_stride, pointers),
          .is_last = true};
}

RankTask task_of(const misa_route_task& task, i64 most_samples, Pointers pointers) {
  require(task.router != nullptr, "router is null");
  const std::optional<Router> router = find_router(task.router);
  if (!router) refuse("there is no router called '" + std::string(task.router) + "'");
  const bool needs_keys = *router != Router::qnorm && *router != Router::gate && *router != Router::random;
  const i64 rows = task.queries.rows;
  RankTask rank{.router = *router,
                .queries = queries_of(task.queries, pointers),
                .keys = {},
                .windows = windows_of(task.windows, rows, pointers),
                .tails = {},
                .norms = norms_of(task.norms, task.queries),
                .samples = most_samples,
                .seed = task.seed,
                .first_row = task.first_row,
                .heads = {}};
  if (needs_keys) rank.keys = keys_of(task.keys, task.queries.dim, pointers);
  if (task.tails != nullptr) {
    rank.tails = {require_pointer<float>(task.tails, "tails", pointers), {rows, task.queries.dim}};
  }
  require(*router != Router::qnorm || task.norms != nullptr || pointers == Pointers::may_be_null,
          "router qnorm reads norms, and norms is null");
  require(task.active >= 1 && task.active <= task.queries.heads, "active is not between 1 and queries.heads");
  rank.heads = {const_cast<i32*>(require_pointer<i32>(task.heads, "heads", pointers)), {rows, task.active}};
  return rank;
}

}  // namespace misa::exported
