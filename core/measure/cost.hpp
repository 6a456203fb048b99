#pragma once

#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "core/indexer/backend.hpp"
#include "core/indexer/problem.hpp"
#include "core/indexer/spec.hpp"
#include "core/indexer/stage.hpp"

namespace misa {

/// What a stage must do at least, whoever does it.
struct StageCost {
  StageSet stages;
  i64 flops = 0;         ///< a multiplication, an addition, a comparison with 0 in ReLU: 1 each
  i64 bytes = 0;         ///< memory traffic at least
  i64 logits_bytes = 0;  ///< of `bytes`: scores that pass through memory between score and select
};

/// (row, token) pairs that are visible: sum over rows of end - begin. The n in "seconds per pair", for every indexer.
i64 visible_pairs(const Problem& problem);

/// The stages of `spec` on `problem`, in the algorithm's order; only those it has. Source: ours.
///
/// M rows, H heads, h active heads (route: those kept as they are), D head_dim. q bytes per query value and e bytes per
/// key value, each by its own dtype, for they may differ; s = 4 where keys have a scale, else 0; K = e * D + s bytes of
/// a key. Means are f32, whatever the keys are. n[m] visible tokens and b[m] visible blocks of row m; N visible tokens
/// (a token that several rows see counts once); P block means that rows share; T rows whose last block is a mean of its
/// own (block window `visible`, of the means that heads are ranked over). All counts are exact.
///
///   stage    when            flops                               bytes, each thing once
///   pool     router pooled   V * D * (1, or 2 with scales)       read V * K, write (P + T) * D * 4
///            or blocks         + (P + T) * D                       V tokens under the means; cached: P those that
///                                                                  changed, T all rows' last blocks, V under these
///   route    pooled          R * H * (2 D + 3)                   read q, w and (P + T) * D * 4; write gathered
///            oracle          N' * H * (2 D + 3)                  read q, w and N * K; write gathered
///            selfk           M * H * (2 D + 3)                   read q, w and min(M, N) * K; write gathered
///            gate            M * H                               read w and h rows of q; write gathered
///            qnorm, random   0                                   as gate (qnorm + M * H * 4); write gathered
///            linear-residual L * H * (2 D + 1) + L * H * 4       read q, w and P * D * 4; write gathered
///            covariance        + L * H * (H + 1)                 as linear-residual
///            linear head     (L * H * (2 D + 3) + L' * H * 12    ... with L' for L in covariance), write gathered and
///                              + M * (H - h) * 2 D                 M * 2 * (D * q + 4)
///            blocks          R * H * (2 D + 3)                   read q, w and (P + T) * D * 4, logits R * 4 twice,
///                                                                write M * m * 4
///   score                    S * h * (2 D + 3)                   read q', w' and U * K; write S * 4 of logits
///   select                   0                                   read S * 4 of logits, write M * k * 4 (k': re-rank)
///   rerank                   C * H * (2 D + 3)                   read q, w, C * 4 ids and U' * K; logits C * 4 twice,
///                                                                write M * k * 4
///
///   R  sum of b[m];  N' = sum of n[m] = visible_pairs
///   L  samples, sum over rows of those they see; L' of ceil(half of a row's). Sampled keys are pooled as blocks are,
///      2 D + 1 per head: dot product and ReLU; 4: mean and variance; 3 and 12: weight and sum, line and residual
///   S  tokens scored: sum of n[m], or with m blocks chosen of b[m] > m: n[m] - (b[m] - m) * B, for the first and the
///      last block, which alone may be partial, are always chosen (m = 1: the first)
///   C  sum of min(k', tokens scored)
///   U  N, or with blocks chosen, U' always: per sequence the largest count of one row, for all rows may want the same
///   q  M * H * D * q bytes, w  M * H * 4; gathered: M * h * (D * q + 4 + 4) for queries, weights and head ids
///
/// More heads, blocks or candidates than there are count as those there are. 2 D + 3 per head: the dot product, then
/// ReLU, weight and sum. Bytes are a floor: chunks of rows that read the keys again and the -inf columns of a dense
/// logits tensor are what an implementation adds.
std::vector<StageCost> stage_costs(const IndexerSpec& spec, const Problem& problem);

/// The cost of a span labelled `label`: the sum of its stages, and for a fused score+select without the logits, which
/// then never reach memory. Nothing when a stage of the label has no cost.
std::optional<StageCost> cost_of(StageSet label, std::span<const StageCost> costs);

/// What keeps a stage from being faster on this machine.
enum class Bound { compute, memory, latency };

constexpr std::string_view bound_name(Bound bound) {
  constexpr std::string_view kNames[]{"compute", "memory", "latency"};
  return kNames[static_cast<int>(bound)];
}

struct Roofline {
  double floor_seconds = 0;  ///< the largest of flops / peak, bytes / bandwidth and one launch
  double fraction = 0;       ///< floor_seconds / seconds: 1 is as fast as this machine can be
  Bound bound = Bound::compute;
  Dtype peak = Dtype::f32;  ///< the elements whose peak it is
};

/// Work on elements of `dtype`. The launch is one of a recording where runs are recorded. Nothing when `seconds` or a
/// roof that the cost needs is not a positive number. Bound: the largest floor; ties: in the order of Bound. A fraction
/// above 1 means that the work ran from a cache faster than memory, or that a roof was measured too low.
std::optional<Roofline> roofline(double seconds, const StageCost& cost, const Roofs& roofs, Dtype dtype,
                                 bool recorded = false);

}  // namespace misa
