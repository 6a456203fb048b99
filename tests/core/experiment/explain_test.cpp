#include "core/experiment/explain.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "core/base/error.hpp"
#include "tests/support/drawn_case.hpp"

using namespace misa;
using namespace misa::testing;

namespace {

/// What the formulas select for all rows of a drawn case, by the indexer and by dsa.
struct Explained {
  DrawnCase drawn;
  Workload workload;
  std::unique_ptr<Backend> oracle = make_backend("oracle", 1);
  IndexerSpec spec;
  Selection own, dsa;

  explicit Explained(const DrawnCase& one)
      : drawn(one), workload(draw_workload(one.workload)), spec(make_indexer(one.indexer, one.settings)) {
    const Placement placement(*oracle, workload);
    own = run_selection(*oracle, spec, placement.problem());
    dsa = run_selection(*oracle, make_indexer("dsa", drawn.settings), placement.problem());
  }

  Explanation row(i64 m) { return explain({*oracle, workload, spec, drawn.settings, m}); }
  bool sees(i64 m) const { return visible(m) > 0; }
  i64 visible(i64 m) const { return workload.ke[at(m)] - workload.ks[at(m)]; }
  static std::size_t at(i64 m) { return static_cast<std::size_t>(m); }

  std::vector<i32> chosen(const Selection& selection, Choice choice, i64 m) const {
    const auto ids = without_pads(row_of<i32>(selection[choice], m));
    return {ids.begin(), ids.end()};
  }

  /// The sum of dsa's scores of some of the tokens that it selects.
  double dsa_scores(const std::vector<i32>& tokens, i64 m) const {
    const std::vector<i32> all = chosen(dsa, Choice::tokens, m);
    double sum = 0;
    for (const i32 token : tokens) {
      const auto found = std::lower_bound(all.begin(), all.end(), token) - all.begin();
      sum += score_at(dsa[Choice::scores], m * spec.top_k + found);
    }
    return sum;
  }
};

constexpr u64 kSeeds = 300;

/// Calls `check` for each row that sees a token, of workloads drawn by seed.
template <class Check>
void for_each_row(const Check& check) {
  for (u64 seed = 1; seed <= kSeeds; ++seed) {
    Explained one(drawn_case(seed));
    for (i64 m = 0; m < one.workload.rows(); ++m) {
      if (!one.sees(m)) continue;
      CAPTURE(one.drawn.describe());
      CAPTURE(m);
      check(one, one.row(m), m);
    }
  }
}

bool near(double a, double b, double size) { return std::abs(a - b) <= 1e-9 * size; }

}  // namespace

TEST_CASE("missed tokens are those of dsa without those that the indexer selects") {
  i64 missed = 0;
  for_each_row([&](const Explained& one, const Explanation& found, i64 m) {
    const std::vector<i32> wanted = one.chosen(one.dsa, Choice::tokens, m);
    const std::vector<i32> own = one.chosen(one.own, Choice::tokens, m);
    std::vector<i32> expected;
    for (const i32 token : wanted) {
      if (std::find(own.begin(), own.end(), token) == own.end()) expected.push_back(token);
    }
    CHECK(found.missed_tokens == expected);
    CHECK(found.quality.wanted == static_cast<i64>(wanted.size()));
    CHECK(found.quality.shared == static_cast<i64>(wanted.size() - expected.size()));
    CHECK(found.missed.size() == std::min<std::size_t>(expected.size(), kMissedListed));
    for (std::size_t i = 1; i < found.missed.size(); ++i) CHECK(found.missed[i - 1].at.rank < found.missed[i].at.rank);
    missed += static_cast<i64>(expected.size());
  });
  CHECK(missed > 1000);
}

TEST_CASE("the heads that are kept are those that a run of the whole workload keeps") {
  i64 dropped = 0;
  for_each_row([&](const Explained& one, const Explanation& found, i64 m) {
    CHECK(found.heads.empty() == !one.spec.heads);
    std::vector<i32> kept;
    for (const ExplainedHead& head : found.heads) {
      if (head.kept) kept.push_back(static_cast<i32>(head.head));
      dropped += head.kept ? 0 : 1;
    }
    std::sort(kept.begin(), kept.end());
    CHECK(kept == one.chosen(one.own, Choice::heads, m));
    if (one.spec.heads && one.spec.heads->router == Router::covariance) return;
    for (const ExplainedHead& head : found.heads) CHECK(head.kept == (head.rank <= static_cast<i64>(kept.size())));
  });
  CHECK(dropped > 1000);
}

TEST_CASE("votes of all heads for missed tokens add up to dsa's scores of them") {
  i64 compared = 0;
  for_each_row([&](const Explained& one, const Explanation& found, i64 m) {
    double sum = 0, size = 0;
    for (const ExplainedHead& head : found.heads) {
      sum += head.votes;
      size += std::abs(head.votes);
    }
    if (found.heads.empty() || !std::isfinite(size)) return;
    CHECK(near(sum, one.dsa_scores(found.missed_tokens, m), size));
    compared += size > 0 ? 1 : 0;
  });
  CHECK(compared > 50);
}

TEST_CASE("votes of kept heads and of the linear head add up to the indexer's own scores") {
  i64 compared = 0, linear = 0;
  for_each_row([&](const Explained&, const Explanation& found, i64) {
    if (found.heads.empty() || found.missed.size() != found.missed_tokens.size()) return;
    double sum = found.linear ? found.linear->votes : 0, size = std::abs(sum), scores = 0;
    for (const ExplainedHead& head : found.heads) {
      sum += head.kept ? head.votes : 0;
      size += head.kept ? std::abs(head.votes) : 0;
    }
    for (const MissedToken& missed : found.missed) {
      REQUIRE(missed.at.own_score);
      scores += *missed.at.own_score;
    }
    if (!std::isfinite(size)) return;
    // The two halves of a linear head cancel: its dot product may be large where its vote is small.
    CHECK(near(sum, scores, found.linear ? size * 1e3 : size));
    compared += size > 0 ? 1 : 0;
    linear += found.linear && found.linear->votes != 0 ? 1 : 0;
  });
  CHECK(compared > 20);
  CHECK(linear > 5);
}

TEST_CASE("shares of energy and of votes add up to 1 wherever there are any") {
  i64 energies = 0, votes = 0;
  for_each_row([&](const Explained&, const Explanation& found, i64) {
    double share = 0, votes_share = 0;
    for (const ExplainedHead& head : found.heads) {
      share += head.share.value_or(0);
      votes_share += std::max(0.0, head.votes_share.value_or(0));
      CHECK(head.share.has_value() == found.heads.front().share.has_value());
      CHECK(head.votes_share.has_value() == found.heads.front().votes_share.has_value());
    }
    if (found.heads.empty()) return;
    if (found.heads.front().share) {
      CHECK(near(share, 1, 1));
      ++energies;
    }
    if (found.heads.front().votes_share) {
      CHECK(near(votes_share, 1, 1));
      ++votes;
    }
    for (const MissedToken& missed : found.missed) {
      CHECK(missed.top_voters.size() <= kVoters);
      for (std::size_t i = 0; i < missed.top_voters.size(); ++i) {
        CHECK(missed.top_voters[i].vote > 0);
        if (i > 0) CHECK(missed.top_voters[i].vote <= missed.top_voters[i - 1].vote);
      }
    }
  });
  CHECK(energies > 50);
  CHECK(votes > 40);
}

TEST_CASE("a missed token was lost where its row says") {
  std::set<Lost> seen;
  for_each_row([&](const Explained& one, const Explanation& found, i64 m) {
    const std::vector<i32> candidates = one.chosen(one.own, Choice::candidates, m);
    for (const MissedToken& missed : found.missed) {
      const bool candidate = std::binary_search(candidates.begin(), candidates.end(), missed.at.token);
      CHECK((missed.lost == Lost::blocks) == (one.spec.blocks && !missed.at.own_rank));
      CHECK((missed.lost == Lost::candidates) == (one.spec.rerank && missed.at.own_rank && !candidate));
      CHECK(missed.block_rank.has_value() == (missed.lost == Lost::blocks));
      if (missed.block_rank) CHECK((*missed.block_rank >= 1 && *missed.block_rank <= found.blocks));
      if (missed.lost == Lost::candidates) CHECK(*missed.at.own_rank > one.spec.rerank->candidates);
      if (missed.lost == Lost::tokens) CHECK(*missed.at.own_rank > one.spec.top_k);
      if (missed.beaten_by && !std::isnan(*missed.beaten_by)) CHECK(*missed.beaten_by >= 0);
      seen.insert(missed.lost);
    }
  });
  CHECK(seen.size() == 3);
}

TEST_CASE("border, counts and parts agree with what was selected") {
  for_each_row([](const Explained& one, const Explanation& found, i64 m) {
    const std::vector<i32> wanted = one.chosen(one.dsa, Choice::tokens, m);
    REQUIRE_FALSE(found.border.empty());
    for (std::size_t i = 0; i < found.border.size(); ++i) {
      const RankedToken& token = found.border[i];
      CHECK(token.rank == found.border.front().rank + static_cast<i64>(i));
      CHECK(std::binary_search(wanted.begin(), wanted.end(), token.token) == (token.rank <= found.quality.wanted));
      if (i > 0) CHECK_FALSE(token.score > found.border[i - 1].score);
    }
    REQUIRE_FALSE(found.found.empty());
    for (std::size_t i = 1; i < found.found.size(); ++i) CHECK(found.found[i - 1].found <= found.found[i].found);
    if (!one.spec.rerank) CHECK(found.found.front().found == found.quality.shared);
    if (found.needed) {
      CHECK((one.spec.rerank && found.missed_tokens.empty()) ==
            (one.spec.rerank && *found.needed <= one.spec.rerank->candidates));
    }
    i64 end = 0, of_dsa = 0, kept = 0;
    for (const ExplainedPart& part : found.parts) {
      CHECK(part.begin == end);
      CHECK(part.end > part.begin);
      end = part.end;
      of_dsa += part.wanted;
      kept += part.found;
    }
    CHECK(end == one.visible(m));
    CHECK(of_dsa == found.quality.wanted);
    CHECK(kept == found.quality.shared);
  });
}

TEST_CASE("the row of lowest recall is the worst of all rows") {
  for (u64 seed = 1; seed <= 40; ++seed) {
    Explained one(drawn_case(seed));
    CAPTURE(one.drawn.describe());
    const auto worst = [&] { return worst_row(*one.oracle, one.workload, one.spec, one.drawn.settings, {}); };
    std::optional<double> lowest;
    for (i64 m = 0; m < one.workload.rows(); ++m) {
      if (one.sees(m)) lowest = std::min(lowest.value_or(1), one.row(m).quality.recall());
    }
    if (lowest) {
      CHECK(one.row(worst()).quality.recall() == *lowest);
    } else {
      CHECK_THROWS_AS(worst(), Error);
    }
  }
}

TEST_CASE("rows that are not there and rows that see nothing are refused") {
  DrawnCase drawn;
  drawn.indexer = "misa";
  drawn.workload.paged = true;
  drawn.workload.next_n = 2;
  drawn.workload.contexts = {1, 30};
  Explained one(drawn);
  const auto id_of = [&](i64 m) {
    try {
      one.row(m);
    } catch (const Error& error) {
      return error.id() + (error.kind() == ErrorKind::nothing ? " nothing" : " usage");
    }
    return std::string("explained");
  };
  CHECK(id_of(-1) == "MP-E450 usage");
  CHECK(id_of(4) == "MP-E450 usage");
  CHECK(id_of(0) == "MP-E451 nothing");
  CHECK(id_of(3) == "explained");
  std::fill(one.workload.ke.begin(), one.workload.ke.end(), 0);
  CHECK_THROWS_AS(worst_row(*one.oracle, one.workload, one.spec, drawn.settings, {}), Error);
}
