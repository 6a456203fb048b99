#include "cli/explain_text.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "core/report/json_parts.hpp"
#include "core/report/text.hpp"
#include "core/report/text_table.hpp"

namespace misa::cli {
namespace {

constexpr std::size_t kDroppedListed = 10;
constexpr i64 kBarWidth = 40;

std::string five_digits(std::optional<double> value) {
  if (!value) return "–";
  return std::isfinite(*value) ? fmt::format("{:.5g}", *value) : "n/a";
}

std::string three_digits(double value) { return std::isfinite(value) ? fmt::format("{:.3g}", value) : "n/a"; }

std::string share_or_blank(std::optional<double> share) { return share ? percent(*share) : std::string(); }

std::string rank_or_dash(std::optional<i64> rank) { return rank ? fmt::format("{}", *rank) : "–"; }

/// Text of an explanation, part by part.
class ExplainText {
 public:
  ExplainText(const ExplainedRow& row, int width, bool colour)
      : row_(row), at_(row.explanation), width_(width), colour_(colour) {}

  std::string text() {
    add_row();
    if (at_.spec.name == "dsa") {
      say("dsa is the reference that indexers are compared with: it misses nothing.");
    } else {
      add_heads();
    }
    add_border();
    add_missed();
    add_parts();
    for (const Warning& warning : row_.warnings) out_ += warning_line(warning) + "\n";
    return std::move(out_);
  }

 private:
  void title(std::string_view text) { out_ += "\n" + styled(text, Style::strong, colour_) + "\n"; }
  void say(const std::string& text) { out_ += hanging("  ", 2, words_of(text), " ", width_) + "\n"; }
  void add(const TextTable& table) { out_ += table.text(width_, colour_); }

  i64 missed() const { return static_cast<i64>(at_.missed_tokens.size()); }

  void add_row() {
    const RowQuality& quality = at_.quality;
    const std::string first = fmt::format("Row {} of {} on {}{}", at_.row, at_.spec.name, printable(row_.workload),
                                          row_.chosen ? ": the row of lowest recall" : "");
    out_ += styled(first, Style::strong, colour_) + "\n";
    say(fmt::format("Rows are 0 to {}. This one is of sequence {}, sees {} and keeps {} of them.", at_.rows - 1,
                    at_.sequence, counted(at_.visible, "token", "tokens"), quality.selected));
    std::string mass;
    if (quality.attention_mass) mass = fmt::format(", attention mass kept {}", four_decimals(quality.attention_mass));
    say(fmt::format("recall {}, IoU {}{}: {} of the {} that dsa keeps are missed.", four_decimals(quality.recall()),
                    four_decimals(quality.iou()), mass, missed(), counted(quality.wanted, "token", "tokens")));
  }

  void add_heads() {
    if (at_.heads.empty()) {
      title("Heads");
      say(fmt::format("{} scores with all heads: it routes none.", at_.spec.name));
      return;
    }
    const Router router = at_.spec.heads->router;
    std::vector<const ExplainedHead*> shown, dropped;
    for (const ExplainedHead& head : at_.heads) (head.kept ? shown : dropped).push_back(&head);
    title(fmt::format("Heads: {} of {} are kept, by router {}", shown.size(), at_.heads.size(), router_name(router)));
    std::stable_sort(dropped.begin(), dropped.end(),
                     [](const ExplainedHead* a, const ExplainedHead* b) { return a->votes > b->votes; });
    const auto listed = static_cast<std::ptrdiff_t>(std::min(dropped.size(), kDroppedListed));
    shown.insert(shown.end(), dropped.begin(), dropped.begin() + listed);
    dropped.erase(dropped.begin(), dropped.begin() + listed);
    const bool margins = router == Router::covariance;
    TextTable table({{"head"},
                     {"", false},
                     {"rank"},
                     {margins ? "margin" : "energy"},
                     {"share"},
                     {"weight", true, 1},
                     {"mean vote"},
                     {"share of votes for missed tokens"}});
    for (const ExplainedHead* head : shown) {
      const bool ranked = head->kept || !margins;
      table.add({{fmt::format("{}", head->head)},
                 state(head->kept),
                 {ranked ? fmt::format("{}", head->rank) : ""},
                 {ranked ? three_digits(head->energy) : ""},
                 {share_or_blank(head->share)},
                 {three_digits(head->weight)},
                 {mean_vote(head->votes)},
                 {head->votes > 0 ? share_or_blank(head->votes_share) : ""}});
    }
    if (!dropped.empty()) {
      ExplainedHead rest{.share = 0, .votes_share = 0};
      for (const ExplainedHead* head : dropped) {
        rest.votes += head->votes;
        rest.share = *rest.share + head->share.value_or(NAN);
        rest.votes_share = *rest.votes_share + (head->votes > 0 ? head->votes_share.value_or(NAN) : 0);
      }
      table.add({{fmt::format("{} more", dropped.size())},
                 state(false),
                 {},
                 {},
                 {std::isnan(*rest.share) ? "" : percent(*rest.share)},
                 {},
                 {mean_vote(rest.votes)},
                 {std::isnan(*rest.votes_share) || *rest.votes_share == 0 ? "" : percent(*rest.votes_share)}});
    }
    add(table);
    if (margins) say("A margin says how much more the loss of this head would cost than that of any head dropped.");
    add_votes();
  }

  static Cell state(bool kept) { return {kept ? "kept" : "dropped", kept ? Style::good : Style::bad}; }

  std::string mean_vote(double votes) const {
    return missed() == 0 ? "" : three_digits(votes / static_cast<double>(missed()));
  }

  void add_votes() {
    if (missed() == 0) return;
    double kept = 0, dropped = 0, cast = 0, of_dropped = 0;
    for (const ExplainedHead& head : at_.heads) {
      (head.kept ? kept : dropped) += head.votes;
      if (!(head.votes > 0)) continue;
      cast += head.votes;
      of_dropped += head.kept ? 0 : head.votes;
    }
    say("A vote is what a head adds to a token's dsa score, here on average over the missed tokens; heads of negative "
        "weight vote against tokens.");
    std::string sums = fmt::format("Kept heads add {}, dropped heads {}", mean_vote(kept), mean_vote(dropped));
    if (at_.linear) sums += fmt::format(", and the linear head that stands for these {}", mean_vote(at_.linear->votes));
    if (cast > 0 && std::isfinite(cast)) {
      sums += fmt::format(". Of the votes for missed tokens {} come from dropped heads", percent(of_dropped / cast));
    }
    say(sums + ".");
  }

  void add_border() {
    const i64 k = at_.quality.wanted;
    const bool is_dsa = at_.spec.name == "dsa";
    const std::string own = at_.spec.name + (at_.spec.rerank ? "'s first pass" : "");
    title(fmt::format("Border: where dsa stops, at its rank {}{}", k, is_dsa ? "" : "; own: by the scores of " + own));
    TextTable table({{"dsa rank"}, {"token"}, {"dsa score"}, {"own rank"}, {"own score"}, {"", false}});
    for (const RankedToken& token : at_.border) {
      table.add({{fmt::format("{}", token.rank)},
                 {fmt::format("{}", token.token)},
                 {five_digits(token.score)},
                 {is_dsa ? "" : rank_or_dash(token.own_rank)},
                 {is_dsa ? "" : five_digits(token.own_score)},
                 {token.rank == k ? "the last that dsa keeps" : ""}});
    }
    add(table);
    if (at_.visible == k) say("dsa keeps every token that the row sees.");
    if (is_dsa) return;
    std::vector<std::string> parts;
    for (const FoundAmong& one : at_.found) {
      if (one.found < k) parts.push_back(fmt::format("{} among its best {}", one.found, one.best));
    }
    if (at_.needed) parts.push_back(fmt::format("{}all among its best {}", parts.empty() ? "" : "and ", *at_.needed));
    std::string text = fmt::format("Of dsa's {}, {} has {}", k, own, joined(parts, ", "));
    if (!at_.needed) text += fmt::format("; it scored {} of the {} visible tokens", at_.offered, at_.visible);
    say(text + ".");
  }

  std::string lost_text(Lost lost) const {
    const auto first = std::find_if(at_.missed.begin(), at_.missed.end(),
                                    [&](const MissedToken& missed) { return missed.lost == lost; });
    if (first == at_.missed.end()) return {};
    switch (lost) {
      case Lost::blocks:
        return fmt::format("Lost: tokens in blocks that are not among the {} chosen of {}.", at_.spec.blocks->blocks,
                           at_.blocks);
      case Lost::candidates:
        return fmt::format("Lost: tokens that are not among the {} candidates of the first pass.",
                           at_.spec.rerank->candidates);
      case Lost::tokens: break;
    }
    return "Lost: tokens that the indexer scored, and others scored more.";
  }

  void add_missed() {
    if (missed() == 0) return;
    title(fmt::format("Missed tokens: {} of {}, those that dsa ranks highest", at_.missed.size(), missed()));
    TextTable table({{"token"},
                     {"dsa rank"},
                     {"dsa score"},
                     {"own rank"},
                     {"beaten by"},
                     {"block rank"},
                     {"heads with most of the votes for it", false}});
    for (const MissedToken& missed : at_.missed) {
      std::vector<std::string> voters;
      for (const HeadVote& vote : missed.top_voters) {
        voters.push_back(fmt::format("{}{}{}", vote.head, kept(vote.head) ? " (kept)" : "",
                                     vote.share ? fmt::format(" {:.0f} %", 100 * *vote.share) : ""));
      }
      table.add({{fmt::format("{}", missed.at.token)},
                 {fmt::format("{}", missed.at.rank)},
                 {five_digits(missed.at.score)},
                 {missed.at.own_rank ? fmt::format("{}", *missed.at.own_rank) : ""},
                 {missed.beaten_by ? three_digits(*missed.beaten_by) : ""},
                 {missed.block_rank ? fmt::format("{}", *missed.block_rank) : ""},
                 {fmt::format("{}", fmt::join(voters, ", "))}});
    }
    add(table);
    for (const Lost lost : {Lost::blocks, Lost::candidates, Lost::tokens}) {
      if (const std::string text = lost_text(lost); !text.empty()) say(text);
    }
  }

  bool kept(i64 head) const {
    return std::any_of(at_.heads.begin(), at_.heads.end(),
                       [&](const ExplainedHead& one) { return one.head == head && one.kept; });
  }

  void add_parts() {
    title("Where: the visible tokens in equal parts");
    i64 most = 1;
    for (const ExplainedPart& part : at_.parts) most = std::max(most, part.wanted);
    TextTable table({{"tokens"}, {"dsa"}, {"found"}, {"missed"}, {"found ■, missed □", false, 1}});
    for (const ExplainedPart& part : at_.parts) {
      const i64 missed = part.wanted - part.found;
      // No missed token is hidden by rounding.
      const i64 length = ceil_div(part.wanted * kBarWidth, most), hollow = ceil_div(missed * kBarWidth, most);
      std::string bar;
      for (i64 i = 0; i < length; ++i) bar += i < length - hollow ? "■" : "□";
      table.add({{fmt::format("{}–{}", part.begin, part.end - 1)},
                 {fmt::format("{}", part.wanted)},
                 {fmt::format("{}", part.found)},
                 {fmt::format("{}", missed)},
                 {bar}});
    }
    add(table);
  }

  const ExplainedRow& row_;
  const Explanation& at_;
  int width_;
  bool colour_;
  std::string out_;
};

constexpr std::string_view kNoShare = "the sum is no positive number, or of other than parts";

Json token_json(const RankedToken& token) {
  Json json{{"token", token.token}, {"rank", token.rank}};
  put(json, "score", token.score);
  json["own_rank"] = or_null(token.own_rank);
  put(json, "own_score", token.own_score, "the indexer did not score it");
  return json;
}

Json head_json(const ExplainedHead& head) {
  Json json{{"head", head.head}, {"rank", head.rank}, {"kept", head.kept}};
  put(json, "weight", head.weight);
  put(json, "energy", head.energy);
  put(json, "share", head.share, kNoShare);
  put(json, "votes", head.votes);
  put(json, "votes_share", head.votes_share, kNoShare);
  return json;
}

Json missed_json(const MissedToken& missed) {
  constexpr std::array<std::string_view, 3> kLost{"blocks", "candidates", "tokens"};
  Json json = token_json(missed.at);
  json["lost_in"] = kLost[static_cast<std::size_t>(missed.lost)];
  put(json, "beaten_by", missed.beaten_by, "the indexer did not score it");
  json["block_rank"] = or_null(missed.block_rank);
  json["top_voters"] = array_of(missed.top_voters, [](const HeadVote& vote) {
    Json one{{"head", vote.head}};
    put(one, "vote", vote.vote);
    put(one, "share", vote.share, kNoShare);
    return one;
  });
  return json;
}

}  // namespace

std::string explain_text(const ExplainedRow& row, int width, bool colour) {
  return ExplainText(row, width, colour).text();
}

std::string explain_json(const ExplainedRow& row) {
  const Explanation& at = row.explanation;
  const RowQuality& quality = at.quality;
  Json json{{"workload", row.workload},     {"indexer", at.spec.name},  {"row", at.row},
            {"lowest_recall", row.chosen},  {"rows", at.rows},          {"sequence", at.sequence},
            {"visible", at.visible},        {"top_k", at.spec.top_k},   {"wanted", quality.wanted},
            {"selected", quality.selected}, {"shared", quality.shared}, {"missed", at.missed_tokens.size()}};
  put(json, "recall", quality.recall());
  put(json, "iou", quality.iou());
  put(json, "attention_mass", quality.attention_mass, "not recorded");
  json["router"] = at.spec.heads ? Json(router_name(at.spec.heads->router)) : Json();
  json["heads"] = array_of(at.heads, head_json);
  json["linear_head"] = Json();
  if (at.linear) {
    Json linear = Json::object();
    put(linear, "votes", at.linear->votes);
    put(linear, "dropped_votes", at.linear->dropped);
    json["linear_head"] = std::move(linear);
  }
  json["border"] = array_of(at.border, token_json);
  json["offered"] = at.offered;
  json["found_among_own_best"] = array_of(at.found, [](const FoundAmong& one) {
    return Json{{"best", one.best}, {"found", one.found}};
  });
  json["own_best_with_all"] = or_null(at.needed);
  json["missed_listed"] = array_of(at.missed, missed_json);
  json["missed_tokens"] = at.missed_tokens;
  json["parts"] = array_of(at.parts, [](const ExplainedPart& part) {
    return Json{{"begin", part.begin}, {"end", part.end}, {"wanted", part.wanted}, {"found", part.found}};
  });
  json["warnings"] = warnings_json(row.warnings);
  return text_of(json, 2);
}

}  // namespace misa::cli
