#pragma once

#include <optional>
#include <vector>

#include "core/experiment/memory.hpp"
#include "core/indexer/backend.hpp"
#include "core/quality/quality.hpp"

namespace misa {

/// Why an indexer misses tokens of one row that dsa keeps. `exact` is the backend of the formulas.
struct ExplainRequest {
  Backend& exact;
  const Workload& workload;
  IndexerSpec spec;
  IndexerSettings settings;
  i64 row = 0;
  MemoryLimits memory = {};
};

/// A head of the row. Its vote for a token is its part of that token's score by all heads,
///
///   vote[h] = k_scale * weight[h] * relu(q[h] . key)
///
/// which is negative where its weight is: it votes against the token then.
struct ExplainedHead {
  i64 head = 0;
  double weight = 0;
  double energy = 0;                       ///< what the router ranked it by; of covariance: the margin
  i64 rank = 0;                            ///< by energy, from 1; the heads that are kept come first where it is equal
  std::optional<double> share = {};        ///< of the sum of all energies; empty of margins and of negative energies
  bool kept = false;                       ///< the indexer scores with it
  double votes = 0;                        ///< for all missed tokens together
  std::optional<double> votes_share = {};  ///< of the sum of all positive `votes`; empty if that is 0 or not finite
};

/// What stands for the heads that are not kept.
struct ExplainedLinear {
  double votes = 0;    ///< its part of the indexer's scores of the missed tokens
  double dropped = 0;  ///< the votes of the heads that it stands for
};

/// A token, with its rank among all visible ones by dsa's score, and its rank and score by the first pass of the
/// indexer, which are empty where that did not look at it. Ranks count from 1, forced tokens first; ties: the lower
/// token first; NaN last.
struct RankedToken {
  i64 token = 0;
  i64 rank = 0;
  double score = 0;
  std::optional<i64> own_rank = {};
  std::optional<double> own_score = {};
};

/// At which choice a token was lost.
enum class Lost : u8 {
  blocks,      ///< its block was not chosen
  candidates,  ///< the first pass did not make it a candidate
  tokens,      ///< it was scored in the last pass, and others scored more
};

struct HeadVote {
  i64 head = 0;
  double vote = 0;
  std::optional<double> share = {};  ///< of the token's positive votes; empty if their sum is not finite
};

struct MissedToken {
  RankedToken at;
  Lost lost = Lost::tokens;
  std::optional<double> beaten_by = {};   ///< own score of the last token that was let through, less that of this one
  std::optional<i64> block_rank = {};     ///< where lost by blocks: of its block by score, from 1
  std::vector<HeadVote> top_voters = {};  ///< the heads of largest positive votes, at most kVoters, largest first
};

/// How many of dsa's tokens the first pass has among its `best` best.
struct FoundAmong {
  i64 best = 0, found = 0;
};

/// Tokens [begin, end) of the row, with how many of them dsa keeps and the indexer keeps of those.
struct ExplainedPart {
  i64 begin = 0, end = 0;
  i64 wanted = 0, found = 0;
};

constexpr i64 kMissedListed = 10, kVoters = 3, kParts = 10;

struct Explanation {
  i64 row = 0, rows = 0;
  i64 sequence = 0, visible = 0;
  i64 offered = 0;  ///< tokens that the first pass scored
  i64 blocks = 0;   ///< of the row, if the indexer chooses blocks
  IndexerSpec spec;
  RowQuality quality = {};
  std::vector<ExplainedHead> heads = {};  ///< by rank; empty if the indexer does not route
  std::optional<ExplainedLinear> linear = {};
  std::vector<RankedToken> border = {};  ///< dsa's ranks k - 2 to k + 3, as far as there are such
  std::vector<FoundAmong> found = {};    ///< among the best k, 2 k and 4 k, as far as tokens were offered
  std::optional<i64> needed = {};        ///< own rank of the last of dsa's tokens; empty: one was not offered
  std::vector<i32> missed_tokens = {};   ///< all, ascending
  std::vector<MissedToken> missed = {};  ///< the first kMissedListed, in dsa's order
  std::vector<ExplainedPart> parts = {};
};

/// Runs dsa and the indexer on that row alone. Source: ours.
/// Error(usage) MP-E450: there is no such row. Error(nothing) MP-E451: it sees no token; MP-E030: there are no rows.
Explanation explain(const ExplainRequest& request);

/// The row of lowest recall, all rows run on `backend`. Error(nothing) MP-E451: no row sees a token.
i64 worst_row(Backend& backend, const Workload& workload, const IndexerSpec& spec, const IndexerSettings& settings,
              const MemoryLimits& memory);

}  // namespace misa
