#include "core/agreement/fault_injection.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>

#include "core/base/suggest.hpp"
#include "core/workload/key_layout.hpp"
#include "core/workload/subset.hpp"

namespace misa {
namespace {

constexpr std::array<MistakeInfo, 13> kMistakes{{
    {Mistake::swapped_token, "swapped-token", "the best token of a row is left out for its worst", "", false,
     Choice::tokens, Verdict::miss, std::nullopt},
    {Mistake::duplicate_token, "duplicate-token", "a token is selected twice", "", false, Choice::tokens,
     Verdict::violation, Fault::duplicate},
    {Mistake::truncated_row, "truncated-row", "a row selects a token too few", "", false, Choice::tokens,
     Verdict::violation, Fault::truncated},
    {Mistake::dropped_candidate, "dropped-candidate", "the best candidate is lost before the re-rank", "misa-dagger",
     false, Choice::candidates, Verdict::miss, std::nullopt},
    {Mistake::dropped_block, "dropped-block", "the last block, which is always kept, is left out", "hisa", false,
     Choice::blocks, Verdict::miss, std::nullopt},
    {Mistake::wrong_head, "wrong-head", "the strongest head is routed away for the weakest", "misa", false,
     Choice::heads, Verdict::miss, std::nullopt},
    {Mistake::stale_linear, "stale-linear", "a linear head is another row's", "misa-lr", false, Choice::linear,
     Verdict::miss, std::nullopt},
    {Mistake::off_by_one_page, "off-by-one-page", "a block table is read one entry further on", "", true,
     Choice::tokens, Verdict::miss, std::nullopt},
    {Mistake::stale_scale, "stale-scale", "a token's scale is another token's", "", false, Choice::scores,
     Verdict::miss, std::nullopt},
    {Mistake::nan_score, "nan-score", "a score is NaN", "", false, Choice::scores, Verdict::violation,
     Fault::not_a_number},
    {Mistake::off_by_one_scale, "off-by-one-scale", "the scale of a block of 32 numbers is a power of two too large",
     "", false, Choice::scores, Verdict::miss, std::nullopt, true},
    {Mistake::token_window, "token-window", "a window counts tokens, and its keys are entries", "", false,
     Choice::tokens, Verdict::violation, Fault::out_of_window, false, true},
    {Mistake::dropped_forced, "dropped-forced", "a forced token is left out for the best that is free", "", false,
     Choice::tokens, Verdict::violation, Fault::forced_missing},
}};

constexpr u8 kLargestRaised = 251;  // 2^125 of 6 is the largest that f32 holds

std::span<i32> row_of(HostTensor& ids, i64 m) {
  const std::size_t width = static_cast<std::size_t>(ids.shape[1]);
  return ids.span<i32>().subspan(static_cast<std::size_t>(m) * width, width);
}

void set_score(HostTensor& scores, i64 at, double value) {
  if (scores.dtype == Dtype::f64) {
    scores.span<double>()[static_cast<std::size_t>(at)] = value;
  } else {
    scores.span<float>()[static_cast<std::size_t>(at)] = static_cast<float>(value);
  }
}

/// Puts the worst id that was not chosen in the place of the best that was; false where there is none.
bool swap_best_for_worst(const Field& field, std::span<i32> row) {
  const auto end = std::find(row.begin(), row.end(), -1);
  std::size_t best = field.ids.size(), worst = best;
  for (std::size_t i = 0; i < field.ids.size(); ++i) {
    const bool chosen = std::binary_search(row.begin(), end, field.ids[i]);
    std::size_t& found = chosen ? best : worst;
    const bool better = found == field.ids.size() ||
                        (chosen ? field.scores[i] > field.scores[found] : field.scores[i] < field.scores[found]);
    if (better) found = i;
  }
  if (best == field.ids.size() || worst == field.ids.size()) return false;
  if (!(field.scores[best] - field.scores[worst] > field.bounds[best] + field.bounds[worst])) return false;
  *std::find(row.begin(), end, field.ids[best]) = field.ids[worst];
  std::sort(row.begin(), end);
  return true;
}

/// The best id that was not chosen; nothing where all were.
std::optional<i32> best_not_chosen(const Field& field, std::span<const i32> row) {
  const auto end = std::find(row.begin(), row.end(), -1);
  std::optional<std::size_t> best;
  for (std::size_t i = 0; i < field.ids.size(); ++i) {
    if (std::binary_search(row.begin(), end, field.ids[i])) continue;
    if (!best || field.scores[i] > field.scores[*best]) best = i;
  }
  return best ? std::optional(field.ids[*best]) : std::nullopt;
}

/// Puts row m of one run of an indexer in the place of another's.
void replace_row(Selection& outcome, const Selection& other, i64 m) {
  for (const Choice choice : kChoices) {
    HostTensor& into = outcome[choice];
    if (into.empty()) continue;
    const i64 bytes = into.bytes() / into.shape[0];
    std::memcpy(into.storage.data() + m * bytes, other[choice].storage.data() + m * bytes,
                static_cast<std::size_t>(bytes));
  }
}

/// A choice on a backend, as a plan follows it.
template <class T>
struct Placed {
  Buffer buffer;
  View<const T, 2> view;

  Placed(Backend& backend, const HostTensor& choice) : buffer(backend, choice.bytes()) {
    backend.upload(buffer.data(), choice.storage.data(), choice.bytes());
    view = View<const T, 2>(buffer.as<const T>(), {choice.shape[0], choice.shape[1]});
  }
};

/// Returns the first byte of the scales of key `token` of row m; null where keys have no scales.
std::byte* scale_bytes_of(Workload& workload, i64 m, i64 token) {
  const std::size_t row = static_cast<std::size_t>(m);
  const KeyLayout layout = key_layout(workload);
  if (layout.scale_bytes == 0) return nullptr;
  i64 slot = workload.ks[row] + token;
  if (workload.paged()) {
    const i64 size = workload.page_size();
    const i64 entry = workload.sequence[row] * workload.block_table.shape[1] + token / size;
    slot = workload.block_table.span<const i32>()[static_cast<std::size_t>(entry)] * size + token % size;
  }
  return key_scales(workload).storage.data() + layout.scales_at(slot);
}

/// Returns the scale of such a key of FP8 or INT8; null where keys are of another dtype.
float* scale_of(Workload& workload, i64 m, i64 token) {
  const bool blocks = key_layout(workload).dtype == Dtype::e2m1;
  return blocks ? nullptr : reinterpret_cast<float*>(scale_bytes_of(workload, m, token));
}

/// Keys that row m would see too many of if its window counted tokens: as far as there are keys behind it.
i64 excess_of_tokens(const Workload& workload, i64 m) {
  const auto row = static_cast<std::size_t>(m);
  const i64 length = workload.ke[row] - workload.ks[row], tokens = workload.q_pos[row] + 1;
  const i64 there = workload.paged() ? ceil_div(length, workload.page_size()) * workload.page_size()
                                     : workload.keys() - workload.ks[row];
  return std::min(tokens, there) - length;
}

}  // namespace

std::span<const MistakeInfo> mistakes() { return kMistakes; }

std::optional<MistakeInfo> find_mistake(std::string_view name) {
  const MistakeInfo* found = find_row(kMistakes, name);
  return found ? std::optional(*found) : std::nullopt;
}

std::optional<Selection> run_with_mistake(Mistake mistake, Backend& backend, const IndexerSpec& spec,
                                          ExactReference& reference, const PlanOptions& options) {
  Workload workload = copy_of(reference.workload());
  const auto length = [&](i64 row) {
    return workload.ke[static_cast<std::size_t>(row)] - workload.ks[static_cast<std::size_t>(row)];
  };
  i64 m = 0;
  for (i64 row = 1; row < workload.rows(); ++row) m = length(row) > length(m) ? row : m;
  const auto run = [&](const Follow& follow = {}) {
    const Placement placement(backend, workload);
    return run_selection(backend, spec, placement.problem(), options, follow);
  };

  Selection outcome = run();
  const std::span<i32> tokens = row_of(outcome[Choice::tokens], m);
  const i64 count = std::find(tokens.begin(), tokens.end(), -1) - tokens.begin(), first = m * spec.top_k;
  if (count == 0) return std::nullopt;
  const auto field = [&] { return reference.row(spec, outcome, m, outcome.arithmetic); };

  const auto best_place = [&] {
    const HostTensor& scores = outcome[Choice::scores];
    i64 best = 0;
    for (i64 i = 1; i < count; ++i) best = score_at(scores, first + i) > score_at(scores, first + best) ? i : best;
    return best;
  };

  switch (mistake) {
    case Mistake::swapped_token:
      if (!swap_best_for_worst(field().tokens, tokens)) return std::nullopt;
      outcome[Choice::scores] = {};  // the scores of a kernel that never writes them
      return outcome;
    case Mistake::duplicate_token:
      if (count < 2) return std::nullopt;
      tokens[1] = tokens[0];
      return outcome;
    case Mistake::truncated_row: tokens[static_cast<std::size_t>(count - 1)] = -1; return outcome;
    case Mistake::dropped_candidate:
      if (outcome[Choice::candidates].empty()) return std::nullopt;
      if (!swap_best_for_worst(field().candidates, row_of(outcome[Choice::candidates], m))) return std::nullopt;
      return run({.candidates = Placed<i32>(backend, outcome[Choice::candidates]).view});
    case Mistake::dropped_block: {
      if (outcome[Choice::blocks].empty()) return std::nullopt;
      const Field blocks = field().blocks;
      const std::span<i32> row = row_of(outcome[Choice::blocks], m);
      const auto end = std::find(row.begin(), row.end(), -1);
      const auto other = std::find_if(blocks.ids.begin(), blocks.ids.end(),
                                      [&](i32 id) { return !std::binary_search(row.begin(), end, id); });
      if (blocks.forced.size() < 2 || other == blocks.ids.end()) return std::nullopt;
      *(end - 1) = *other;
      std::sort(row.begin(), end);
      return run({.blocks = Placed<i32>(backend, outcome[Choice::blocks]).view});
    }
    case Mistake::wrong_head:
      if (outcome[Choice::heads].empty()) return std::nullopt;
      if (!swap_best_for_worst(field().heads, row_of(outcome[Choice::heads], m))) return std::nullopt;
      return run({.heads = Placed<i32>(backend, outcome[Choice::heads]).view});
    case Mistake::stale_linear: {
      if (outcome[Choice::linear].empty() || workload.rows() < 2) return std::nullopt;
      const std::span<const float> other = misa::row_of<float>(outcome[Choice::linear], m == 0 ? 1 : m - 1);
      const std::span<const float> own = misa::row_of<float>(outcome[Choice::linear], m);
      if (std::equal(own.begin(), own.end(), other.begin())) return std::nullopt;
      std::copy(other.begin(), other.end(),
                outcome[Choice::linear].span<float>().begin() + m * outcome[Choice::linear].shape[1]);
      return run({.linear = Placed<float>(backend, outcome[Choice::linear]).view});
    }
    case Mistake::off_by_one_page: {
      if (!workload.paged()) return std::nullopt;
      const i64 used = ceil_div(workload.ke[static_cast<std::size_t>(m)], workload.page_size());
      if (used < 2) return std::nullopt;
      const i64 begin = workload.sequence[static_cast<std::size_t>(m)] * workload.block_table.shape[1];
      const auto table =
          workload.block_table.span<i32>().subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(used));
      std::rotate(table.begin(), table.begin() + 1, table.end());
      return run();
    }
    case Mistake::stale_scale: {
      // The best token of this row alone: with a larger scale it stays selected, so that its score is there to be
      // looked at. In another row its score may be negative, and it would leave the selection.
      if (outcome[Choice::scores].empty()) return std::nullopt;
      const i64 best = best_place();
      float* scale = scale_of(workload, m, tokens[static_cast<std::size_t>(best)]);
      if (scale == nullptr || !(score_at(outcome[Choice::scores], first + best) > 0)) return std::nullopt;
      float other = *scale;
      for (i64 token = 0; token < length(m); ++token) {
        const float candidate = *scale_of(workload, m, token);
        if (std::abs(std::log(candidate / *scale)) > std::abs(std::log(other / *scale))) other = candidate;
      }
      *scale = other > *scale ? other : 2 * *scale;
      replace_row(outcome, run(), m);
      return outcome;
    }
    case Mistake::nan_score:
      if (outcome[Choice::scores].empty()) return std::nullopt;
      set_score(outcome[Choice::scores], first, std::numeric_limits<double>::quiet_NaN());
      return outcome;
    case Mistake::off_by_one_scale: {
      // The best token of this row again, and the first block that raises its score.
      const KeyLayout layout = key_layout(workload);
      if (outcome[Choice::scores].empty() || layout.dtype != Dtype::e2m1) return std::nullopt;
      const i64 best = best_place();
      const double score = score_at(outcome[Choice::scores], first + best);
      std::byte* scales = scale_bytes_of(workload, m, tokens[static_cast<std::size_t>(best)]);
      for (i64 b = 0; b < workload.head_dim() / Mxfp4::kBlock; ++b) {
        auto& byte = reinterpret_cast<u8&>(scales[b]);
        if (byte > kLargestRaised) continue;
        ++byte;
        const Selection wrong = run();
        const auto tokens_now = misa::row_of<i32>(wrong[Choice::tokens], m);
        const bool same = std::equal(tokens.begin(), tokens.end(), tokens_now.begin());
        if (same && score_at(wrong[Choice::scores], first + best) > score) {
          replace_row(outcome, wrong, m);
          return outcome;
        }
        --byte;
      }
      return std::nullopt;
    }
    case Mistake::token_window: {
      for (i64 row = 0; row < workload.rows(); ++row) {
        m = excess_of_tokens(workload, row) > excess_of_tokens(workload, m) ? row : m;
      }
      const i64 excess = excess_of_tokens(workload, m), seen = length(m);
      if (workload.compress_ratio == 1 || excess <= 0) return std::nullopt;
      workload.ke[static_cast<std::size_t>(m)] += static_cast<i32>(excess);
      Selection wrong = run();
      const std::span<const i32> ids = row_of(wrong[Choice::tokens], m);
      if (std::none_of(ids.begin(), ids.end(), [&](i32 id) { return id >= seen; })) return std::nullopt;
      return wrong;
    }
    case Mistake::dropped_forced: {
      const Field found = field().tokens;
      const std::optional<i32> other = best_not_chosen(found, tokens);
      if (found.forced.empty() || !other) return std::nullopt;
      *std::find(tokens.begin(), tokens.end(), found.forced.back()) = *other;
      std::sort(tokens.begin(), tokens.begin() + count);
      outcome[Choice::scores] = {};  // those of other tokens
      return outcome;
    }
  }
  return std::nullopt;
}

std::string occasion_for(const MistakeInfo& info, const IndexerSpec& spec, const Workload& workload) {
  const i64 longest = shape_of(workload).max_window;
  if (longest == 0) return "rows that see tokens";
  const auto above = [](const char* option, i64 most) {
    return most > 1 ? fmt::format("{} below {}", option, most) : std::string("rows that see more tokens");
  };
  const i64 heads = workload.heads();
  const bool all_heads = spec.heads && spec.heads->active >= heads;
  const std::string fewer_heads = heads > 1 ? fmt::format("--active-heads below the workload's {}", heads)
                                            : std::string("a workload of more than 1 head");
  switch (info.mistake) {
    case Mistake::swapped_token: return above("--top-k", longest);
    case Mistake::duplicate_token: return longest > 1 ? "--top-k 2" : "rows that see more tokens";
    case Mistake::truncated_row: return "rows that see tokens";
    case Mistake::dropped_candidate:
      return spec.rerank ? above("--top-k and --candidates", longest) : "--indexer misa-dagger";
    case Mistake::dropped_block: return spec.blocks ? "--blocks 2, and rows that see more blocks" : "--indexer hisa";
    case Mistake::wrong_head:
      if (!spec.heads) return "--indexer misa";
      return all_heads ? fewer_heads : "heads that differ by more than rounding";
    case Mistake::stale_linear:
      if (!spec.heads || !spec.heads->linear) return "--indexer misa-lr";
      return all_heads ? fewer_heads : "rows of different queries";
    case Mistake::off_by_one_page: return workload.paged() ? "rows that see more than a page" : "a decode workload";
    case Mistake::stale_scale: return "a workload of FP8 or INT8 keys with a score above 0; --no-fusion";
    case Mistake::nan_score: return "--no-fusion";
    case Mistake::off_by_one_scale: return "a workload of MXFP4 keys; --no-fusion";
    case Mistake::token_window:
      return workload.compress_ratio > 1 ? "rows that end before the last key"
                                         : "a workload of entries: --compress-ratio 4";
    case Mistake::dropped_forced: return spec.forced.any() ? above("--top-k", longest) : "--force-last 1";
  }
  return {};
}

}  // namespace misa
