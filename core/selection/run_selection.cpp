#include "core/selection/run_selection.hpp"

#include <algorithm>
#include <limits>

#include "core/base/interrupt.hpp"

namespace misa {
namespace {

template <class T>
std::vector<T> fetch_values(Backend& backend, const T* data, i64 count) {
  std::vector<T> values(static_cast<std::size_t>(count));
  if (count > 0) {
    backend.download(reinterpret_cast<std::byte*>(values.data()), reinterpret_cast<const std::byte*>(data),
                     count * static_cast<i64>(sizeof(T)));
  }
  return values;
}

void store(HostTensor& tensor, std::size_t at, double value) {
  if (tensor.dtype == Dtype::f64) {
    tensor.span<double>()[at] = value;
  } else {
    tensor.span<float>()[at] = static_cast<float>(value);
  }
}

/// The linear query of a row of a routed batch, the last but one of its heads, and its weight.
void fetch_linear(Backend& backend, const GatherTask& task, i64 row, std::span<float> into) {
  const i64 head = task.weights.shape[1] - 2;
  std::visit(
      [&](const auto& values) {
        if constexpr (!std::is_same_v<Element<decltype(values)>, Mxfp4>) {  // no batch is
          const auto query = fetch_values(backend, &values(row, head, 0), values.shape[2]);
          std::transform(query.begin(), query.end(), into.begin(), [](auto value) { return to_float(value); });
        }
      },
      task.values);
  into.back() = fetch_values(backend, &task.weights(row, head), 1).front();
}

/// Ascending, pads last.
void sort_ids(std::span<i32> ids) {
  std::sort(ids.begin(), ids.end(), [](i32 a, i32 b) { return static_cast<u32>(a) < static_cast<u32>(b); });
}

}  // namespace

HostTensor fetch_tokens(Backend& backend, const Plan& plan) {
  HostTensor tokens = fetch_ids(backend, plan.tokens());
  if (!backend.any_order()) return tokens;
  const std::span<i32> ids = tokens.span<i32>();
  const std::size_t k = static_cast<std::size_t>(plan.tokens().shape[1]);
  for (std::size_t at = 0; k > 0 && at < ids.size(); at += k) sort_ids(ids.subspan(at, k));
  return tokens;
}

HostTensor fetch_ids(Backend& backend, const View<const i32, 2>& view) {
  if (view.empty()) return {};
  HostTensor tensor(Dtype::int32, {view.shape[0], view.shape[1]});
  backend.download(tensor.storage.data(), reinterpret_cast<const std::byte*>(view.data), tensor.bytes());
  return tensor;
}

std::vector<double> fetch_row(Backend& backend, const Logits& logits, i64 row) {
  return std::visit(
      [&](const auto& view) {
        const auto values = fetch_values(backend, view[row].data, view.shape[1]);
        return std::vector<double>(values.begin(), values.end());
      },
      logits);
}

std::vector<i32> column_tokens(Backend& backend, const Problem& problem, i64 m, i64 row_of_chunk, i64 columns,
                               const std::optional<Candidates>& candidates) {
  const i64 begin = problem.begin[static_cast<std::size_t>(m)], end = problem.end[static_cast<std::size_t>(m)];
  std::vector<i32> tokens(static_cast<std::size_t>(columns), -1);
  if (!candidates) {
    for (i64 c = 0; c < std::min(columns, end - begin); ++c) tokens[static_cast<std::size_t>(c)] = static_cast<i32>(c);
    return tokens;
  }
  const std::vector<i32> runs = fetch_values(backend, &candidates->runs(row_of_chunk, 0), candidates->runs.shape[1]);
  const i64 origin = fetch_values(backend, &candidates->origin(row_of_chunk), 1).front();
  for (i64 c = 0; c < columns; ++c) {
    const i64 run = runs[static_cast<std::size_t>(c / candidates->length)];
    const i64 token = origin + run * candidates->length + c % candidates->length;
    if (run >= 0 && token >= begin && token < end)
      tokens[static_cast<std::size_t>(c)] = static_cast<i32>(token - begin);
  }
  return tokens;
}

i64 selection_bytes(const IndexerSpec& spec, const Shape& shape) {
  const i64 columns = std::max<i64>(1, shape.max_window);
  i64 row = spec.top_k * (4 + 8);
  if (spec.heads) row += spec.heads->kept(shape.heads) * 4;
  if (spec.heads && spec.heads->linear_head(shape.heads)) row += (shape.head_dim + 1) * 4;
  if (spec.blocks) row += std::min(spec.blocks->blocks, columns) * 4;
  if (spec.rerank) row += std::min(spec.rerank->candidates, columns) * 4;
  return shape.rows * row + 4 * spec.top_k;
}

Selection run_selection(Backend& backend, const IndexerSpec& spec, const Problem& problem, PlanOptions options,
                        const Follow& follow) {
  Selection chosen;
  chosen.name = backend.name();
  chosen.description = backend.description();
  chosen.arithmetic = backend.arithmetic(problem.shape);
  const i64 k = spec.top_k;
  bool seen_all = true;
  const Plan* running = nullptr;
  chosen[Choice::scores] = HostTensor(backend.logits_dtype(), {problem.shape.rows, k});
  const bool linear = spec.heads && spec.heads->linear_head(problem.shape.heads);
  const i64 width = problem.shape.head_dim + 1;
  if (linear) chosen[Choice::linear] = HostTensor(Dtype::f32, {problem.shape.rows, width});
  options.after_chunk = [&](const ChunkScores& chunk) {
    if (!chunk.route) chosen[Choice::linear] = {};
    for (i64 i = 0; i < chunk.rows && linear && chunk.route; ++i) {
      fetch_linear(backend, chunk.route->gather, i,
                   chosen[Choice::linear].span<float>().subspan(static_cast<std::size_t>((chunk.first + i) * width),
                                                                static_cast<std::size_t>(width)));
    }
    const auto& logits = chunk.candidates ? chunk.candidates : chunk.tokens;
    const auto& columns = chunk.candidates ? chunk.listed : chunk.within;
    if (!logits) {
      seen_all = false;
      return;
    }
    for (i64 i = 0; i < chunk.rows; ++i) {
      stop_if_interrupted();
      const i64 m = chunk.first + i;
      const std::vector<double> scores = fetch_row(backend, *logits, i);
      const std::vector<i32> found = column_tokens(backend, problem, m, i, static_cast<i64>(scores.size()), columns);
      std::vector<i32> tokens = fetch_values(backend, running->tokens()[m].data, k);
      if (backend.any_order()) sort_ids(tokens);
      // Both ascend, but for faults: what is not found has no score.
      std::size_t c = 0;
      for (i64 j = 0; j < k; ++j) {
        const i32 token = tokens[static_cast<std::size_t>(j)];
        while (c < found.size() && token >= 0 && found[c] < token) ++c;
        const bool here = c < found.size() && found[c] == token;
        const double score = token < 0 ? 0.0 : here ? scores[c] : std::numeric_limits<double>::quiet_NaN();
        store(chosen[Choice::scores], static_cast<std::size_t>(m * k + j), score);
      }
    }
  };
  Plan plan(backend, spec, problem, options);
  running = &plan;
  plan.run(nullptr, follow);
  chosen[Choice::tokens] = fetch_tokens(backend, plan);
  chosen[Choice::heads] = fetch_ids(backend, follow.heads.empty() ? plan.heads() : follow.heads);
  chosen[Choice::blocks] = fetch_ids(backend, follow.blocks.empty() ? plan.blocks() : follow.blocks);
  chosen[Choice::candidates] = fetch_ids(backend, follow.candidates.empty() ? plan.candidates() : follow.candidates);
  if (!seen_all) chosen[Choice::scores] = {};
  return chosen;
}

}  // namespace misa
