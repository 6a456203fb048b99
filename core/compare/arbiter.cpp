#include "core/compare/arbiter.hpp"

#include <algorithm>
#include <limits>
#include <numeric>

namespace misa {
namespace {

std::vector<i32> numbered(std::size_t count) {
  std::vector<i32> ids(count);
  std::iota(ids.begin(), ids.end(), 0);
  return ids;
}

/// Row m of a recorded choice, as wide as a plan wants it; what is cut off are pads.
Buffer place_row(Backend& backend, const HostTensor& choice, i64 m, i64 width, View<const i32, 2>& view) {
  if (choice.empty() || width == 0) return {};
  std::vector<i32> row(static_cast<std::size_t>(width), -1);
  const i64 given = choice.shape[1];
  const auto from = choice.span<const i32>().subspan(static_cast<std::size_t>(m * given));
  std::copy_n(from.begin(), std::min(width, given), row.begin());
  Buffer buffer(backend, width * static_cast<i64>(sizeof(i32)));
  backend.upload(buffer.data(), reinterpret_cast<const std::byte*>(row.data()), buffer.bytes());
  view = View<const i32, 2>(buffer.as<const i32>(), {1, width});
  return buffer;
}

i64 width_of(const View<const i32, 2>& view) { return view.empty() ? 0 : view.shape[1]; }

}  // namespace

const Field& ExactRow::operator[](Choice choice) const {
  switch (choice) {
    case Choice::heads: return heads;
    case Choice::blocks: return blocks;
    case Choice::candidates: return candidates;
    case Choice::tokens:
    case Choice::scores: break;
  }
  return tokens;
}

Arbiter::Arbiter(Backend& exact, const Workload& workload)
    : exact_(exact), workload_(workload), placement_(exact, workload), bounds_(placement_.problem()) {}

const BlockLayout& Arbiter::blocks(i64 block_size, BlockWindow window) {
  const auto [found, inserted] = layouts_.try_emplace({block_size, window});
  if (inserted) found->second = layout_blocks(problem(), block_size, window);
  return found->second;
}

ExactRow Arbiter::row(const IndexerSpec& spec, const Outcome& side, i64 m,
                      const std::optional<Arithmetic>& arithmetic) {
  const Problem row = slice(problem(), m, 1);
  const std::size_t at = static_cast<std::size_t>(m);
  const i32 sequence = problem().sequence[at], begin = problem().begin[at];
  const std::span<const i32> own_heads =
      side.heads.empty() ? std::span<const i32>()
                         : side.heads.span<const i32>().subspan(at * static_cast<std::size_t>(side.heads.shape[1]),
                                                                static_cast<std::size_t>(side.heads.shape[1]));
  const Arithmetic formulas = *exact_.arithmetic(problem().shape);
  const auto both = [&](auto&& bound) { return arithmetic ? bound(*arithmetic) + bound(formulas) : 0.0; };

  ExactRow found;
  const auto take_tokens = [&](const Logits& logits, const std::optional<Candidates>& columns,
                               std::span<const i32> heads) {
    Field field;
    const std::vector<double> scores = fetch_row(exact_, logits, 0);
    const std::vector<i32> tokens = column_tokens(exact_, row, 0, 0, static_cast<i64>(scores.size()), columns);
    for (std::size_t c = 0; c < tokens.size(); ++c) {
      if (tokens[c] < 0) continue;
      field.ids.push_back(tokens[c]);
      field.scores.push_back(scores[c]);
      field.bounds.push_back(both([&](const Arithmetic& a) {
        return bounds_.score(a, m, heads, bounds_.key_norm(sequence, begin + tokens[c]));
      }));
    }
    return field;
  };

  PlanOptions options;
  options.fusion = false;
  options.first_row = m;
  options.after_chunk = [&](const ChunkScores& chunk) {
    if (!chunk.energies.empty()) {
      found.heads.ids = numbered(static_cast<std::size_t>(chunk.energies.shape[1]));
      found.heads.scores.assign(&chunk.energies(0, 0), &chunk.energies(0, 0) + chunk.energies.shape[1]);
      found.heads.bounds.assign(found.heads.ids.size(), 0.0);
      if (arithmetic) {
        const BlockLayout* layout =
            spec.heads->router == Router::pooled ? &blocks(spec.heads->block_size, spec.block_window) : nullptr;
        for (const Arithmetic& a : {*arithmetic, formulas}) {
          const std::vector<double> bounds = bounds_.energies(a, m, spec.heads->router, layout, spec.heads->block_size);
          for (std::size_t h = 0; h < bounds.size(); ++h) found.heads.bounds[h] += bounds[h];
        }
      }
    }
    if (chunk.blocks) {
      const BlockLayout& layout = blocks(spec.blocks->block_size, spec.block_window);
      const i64 first = layout.first[at], count = layout.last[at] - first;
      found.blocks.scores = fetch_row(exact_, *chunk.blocks, 0);
      found.blocks.scores.resize(static_cast<std::size_t>(count));
      found.blocks.ids = numbered(static_cast<std::size_t>(count));
      for (i64 b = first; b < first + count; ++b) {
        const std::size_t p = static_cast<std::size_t>(b);
        found.blocks.bounds.push_back(
            both([&](const Arithmetic& a) { return bounds_.block_score(a, m, layout.begin[p], layout.end[p]); }));
      }
      // The first and the last are chosen whatever they score.
      for (const i64 forced : {i64{0}, count - 1}) {
        if (forced < 0) continue;
        found.blocks.scores[static_cast<std::size_t>(forced)] = std::numeric_limits<double>::infinity();
        found.blocks.bounds[static_cast<std::size_t>(forced)] = 0;
      }
    }
    Field first_pass = take_tokens(*chunk.tokens, chunk.within, own_heads);
    if (chunk.candidates) {
      found.candidates = std::move(first_pass);
      found.tokens = take_tokens(*chunk.candidates, chunk.listed, {});
    } else {
      found.tokens = std::move(first_pass);
    }
  };
  Plan plan(exact_, spec, row, options);
  Follow follow;
  const Buffer heads = place_row(exact_, side.heads, m, width_of(plan.heads()), follow.heads);
  const Buffer chosen = place_row(exact_, side.blocks, m, width_of(plan.blocks()), follow.blocks);
  const Buffer candidates = place_row(exact_, side.candidates, m, width_of(plan.candidates()), follow.candidates);
  plan.run(nullptr, follow);
  return found;
}

}  // namespace misa
