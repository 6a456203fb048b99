#include "core/agreement/offer.hpp"

namespace misa {
namespace {

void limit_to_blocks(ExactReference& reference, const IndexerSpec& spec, const Selection& side, i64 m, i64 window,
                     Offer& found) {
  const std::size_t at = static_cast<std::size_t>(m);
  const BlockLayout& layout = reference.blocks(spec.blocks->block_size, spec.block_window);
  found.limited = true;
  found.from = without_pads(row_of<i32>(side[Choice::blocks], m));
  found.run = spec.blocks->block_size;
  found.shift = layout.origin[at] - reference.problem().begin[at];
  found.count = 0;
  for (const i32 block : found.from) {
    const i64 begin = found.shift + block * found.run;
    found.count += std::max<i64>(0, std::min(begin + found.run, window) - std::max<i64>(begin, 0));
  }
}

void limit_to_given(const Problem& problem, i64 m, Offer& found) {
  const Candidates& given = *problem.given;
  found.limited = true;
  found.run = given.length;
  found.shift = 0;
  found.from = without_pads({&given.runs(m, 0), static_cast<std::size_t>(given.runs.shape[1])});
  found.count = problem.given_keys[static_cast<std::size_t>(m)];
}

/// The tokens on offer that every selection of them holds.
std::vector<i32> forced_of(const Offer& offered, const Forced& all) {
  if (offered.count <= offered.wanted) return {};
  const Forced forced = all.within(offered.wanted);
  std::vector<i32> tokens;
  for (i64 token = 0, left = forced.first; left > 0; ++token) {
    if (!offered.holds(token)) continue;
    tokens.push_back(static_cast<i32>(token));
    --left;
  }
  for (i64 token = offered.limit - 1, left = forced.last; left > 0; --token) {
    if (!offered.holds(token)) continue;
    tokens.push_back(static_cast<i32>(token));
    --left;
  }
  return tokens;
}

/// True when a page of the key cache holds the token.
bool reachable(const Problem& problem, i64 m, i64 token) {
  const KeyCache& keys = problem.keys;
  if (keys.block_table.data == nullptr) return true;
  const auto [pages, size] = std::visit(
      [](const auto& values) {
        return std::pair{values.shape[0], values.shape[1]};
      },
      keys.values);
  const i64 column = token / size;
  if (column >= keys.block_table.shape[1]) return false;
  const i64 page = keys.block_table(problem.sequence[static_cast<std::size_t>(m)], column);
  return page >= 0 && page < pages;
}

}  // namespace

Offer offer_of(ExactReference& reference, const IndexerSpec& spec, const Selection& side, Choice choice, i64 m) {
  const std::size_t at = static_cast<std::size_t>(m);
  const Problem& problem = reference.problem();
  const i64 window = std::max<i64>(0, problem.end[at] - problem.begin[at]);
  Offer found{.limit = window, .count = window, .from = {}, .forced = {}};
  switch (choice) {
    case Choice::heads:
      found.limit = found.count = problem.shape.heads;
      found.wanted = spec.heads->kept(found.count);
      return found;
    case Choice::blocks: {
      const BlockLayout& layout = reference.blocks(spec.blocks->block_size, spec.block_window);
      found.limit = found.count = layout.last[at] - layout.first[at];
      found.wanted = std::min(spec.blocks->blocks, found.count);
      return found;
    }
    case Choice::tokens:
      if (spec.rerank) {
        found.from = without_pads(row_of<i32>(side[Choice::candidates], m));
        found.limited = !side[Choice::candidates].empty();
        if (found.limited) found.count = static_cast<i64>(found.from.size());
        break;
      }
      [[fallthrough]];
    default:
      if (spec.blocks && !side[Choice::blocks].empty()) limit_to_blocks(reference, spec, side, m, window, found);
      if (spec.given) limit_to_given(problem, m, found);
      break;
  }
  found.wanted = std::min(choice == Choice::candidates ? spec.rerank->candidates : spec.top_k, found.count);
  found.forced = forced_of(found, spec.forced_tokens());
  return found;
}

std::vector<i32> missing_forced(const Offer& offered, std::span<const i32> chosen) {
  std::vector<i32> missing = offered.forced;
  std::erase_if(missing, [&](i32 id) { return std::binary_search(chosen.begin(), chosen.end(), id); });
  return missing;
}

std::vector<Violation> violations_of(const Problem& problem, const Selection& side, Choice choice, i64 m,
                                     const Offer& offered) {
  const std::span<const i32> ids = row_of<i32>(side[choice], m);
  std::vector<Violation> violations;
  const auto add = [&](i64 column, i64 id, Fault fault) { violations.push_back({side.name, m, column, id, fault}); };
  const bool token = choice == Choice::candidates || choice == Choice::tokens;
  const i64 stored = token ? problem.shape.keys : offered.limit;
  i64 count = 0, last = -1;
  for (std::size_t c = 0; c < ids.size(); ++c) {
    const i64 id = ids[c], column = static_cast<i64>(c);
    if (id == -1) continue;
    if (id < 0 || id >= stored) {
      add(column, id, id < 0 ? Fault::padding : Fault::out_of_range);
      continue;
    }
    if (count < column) add(column, id, Fault::padding);
    ++count;
    if (id <= last) {
      const auto before = ids.begin() + column;
      add(column, id, std::find(ids.begin(), before, ids[c]) != before ? Fault::duplicate : Fault::order);
    } else if (id >= offered.limit) {
      add(column, id, Fault::out_of_window);
    } else if (!offered.holds(id)) {
      add(column, id, Fault::not_offered);
    } else if (token && !reachable(problem, m, id)) {
      add(column, id, Fault::unreachable);
    }
    last = std::max(last, id);
  }
  if (violations.empty() && count < offered.wanted) add(count, -1, Fault::truncated);
  if (!violations.empty()) return violations;
  const auto own = ids.first(static_cast<std::size_t>(count));
  for (const i32 id : missing_forced(offered, own)) {
    add(std::lower_bound(own.begin(), own.end(), id) - own.begin(), id, Fault::forced_missing);
  }
  return violations;
}

}  // namespace misa
