#include <fmt/format.h>

#include <cmath>

#include "core/report/text.hpp"
#include "core/report/writers.hpp"

namespace misa {
namespace {

std::string number(double value, int digits) {
  return std::isfinite(value) ? fmt::format("{:.{}g}", value, digits) : std::string("n/a");
}

std::string place(const ChoiceAgreement& choice, const std::string& side) {
  return std::string(choice_name(choice.choice)) + " of " + printable(side);
}

Fact describe_miss(const ChoiceAgreement& choice, const Miss& miss) {
  Fact fact{.name = "miss", .parts = {place(choice, miss.side), fmt::format("row {}", miss.row)}};
  // f32 scores in full, differences in short.
  const std::string missed = number(miss.missed_score, 9), taken = number(miss.taken_score, 9);
  const std::string apart =
      fmt::format("{} apart, rounding explains {}", number(std::abs(miss.missed_score - miss.taken_score), 3),
                  number(miss.bound, 3));
  if (choice.choice == Choice::scores) {
    fact.parts.push_back(fmt::format("token {}: {} against {}", miss.missed, missed, taken));
    fact.parts.push_back(apart);
  } else {
    fact.parts.push_back(fmt::format("missed {} (exact {}, rank {})", miss.missed, missed, miss.rank));
    fact.parts.push_back(fmt::format("took {} (exact {})", miss.taken, taken));
    if (miss.forced) {
      fact.parts.push_back("it belongs to every selection, whatever it scores");
      return fact;
    }
    fact.parts.push_back(apart);
    fact.parts.push_back(fmt::format("{} above the last that belongs", number(miss.to_last, 3)));
    fact.parts.push_back(fmt::format("{} of the row's score mass", number(miss.mass_lost, 3)));
  }
  return fact;
}

Fact describe_difference(const ChoiceAgreement& choice, const Difference& difference) {
  const std::string called = difference.id == difference.token ? "" : fmt::format(", its id {}", difference.id);
  const std::string gap = number(difference.last_score - difference.score, 3);
  const std::string bound = difference.bound ? "rounding explains " + number(*difference.bound, 3)
                                             : std::string("what rounding explains is not known");
  return {
      .name = "differs",
      .parts = {std::string(choice_name(choice.choice)), fmt::format("row {}", difference.row),
                fmt::format("{} taken that {} not belong", difference.tokens, difference.tokens == 1 ? "does" : "do"),
                fmt::format("the lowest is {}{} (exact {}, rank {})", difference.token, called,
                            number(difference.score, 9), difference.rank),
                gap + " below the last that belongs", bound}};
}

Fact describe_violation(const ChoiceAgreement& choice, const Violation& violation) {
  return {.name = "violation",
          .parts = {place(choice, violation.side), fmt::format("row {}, column {}", violation.row, violation.column),
                    fmt::format("{}: {}", violation.id, fault_name(violation.fault))}};
}

/// GitHub's toolkit, packages/core/src/command.ts.
std::string escaped_command(std::string_view text, bool property) {
  std::string escaped;
  for (char c : xml_characters(text)) {
    const bool special = c == '%' || c == '\r' || c == '\n' || (property && (c == ':' || c == ','));
    escaped += special ? fmt::format("%{:02X}", static_cast<unsigned>(c)) : std::string(1, c);
  }
  return escaped;
}

}  // namespace

std::string github_annotations(const AgreementReport& report) {
  std::string text;
  for (const AgreementCase& one : report.cases) {
    if (one.verdict == Conclusion::passed) continue;
    const std::string why = one.explanation.empty() ? std::string(conclusion_name(one.verdict)) : one.explanation;
    text += fmt::format("::error title={}::{}\n", escaped_command("misa-prof compare " + one.indexer, true),
                        escaped_command(joined({why, one.reproduce}, "\n"), false));
  }
  for (const Warning& warning : report.warnings) {
    text += fmt::format("::warning title={}::{}\n", escaped_command("misa-prof compare " + warning.id, true),
                        escaped_command(joined({warning.what, warning.where}, "; "), false));
  }
  return text;
}

std::string case_name(const AgreementCase& one) {
  std::string name = printable(one.indexer);
  if (one.router && *one.router != "pooled") name += " (" + printable(*one.router) + ")";
  return name;
}

std::string side_name(const ReportSide& side) {
  return printable(side.name) + " (" + (side.arithmetic.empty() ? "arithmetic unknown" : printable(side.arithmetic)) +
         ")";
}

std::string case_reason(const AgreementCase& one) {
  return one.explanation.empty() ? std::string(conclusion_name(one.verdict)) : printable(one.explanation);
}

std::vector<Fact> describe_findings(std::span<const ChoiceAgreement> choices, i64 limit) {
  std::vector<Fact> misses, violations;
  i64 missed = 0, violated = 0;
  const auto full = [&](const std::vector<Fact>& facts) { return static_cast<i64>(facts.size()) >= limit; };
  for (const ChoiceAgreement& choice : choices) {
    missed += choice.missed;
    violated += choice.violated;
    for (const Miss& miss : choice.misses) {
      if (!full(misses)) misses.push_back(describe_miss(choice, miss));
    }
    for (const Violation& violation : choice.violations) {
      if (!full(violations)) violations.push_back(describe_violation(choice, violation));
    }
  }
  Fact more{.name = "more", .parts = {}};
  const auto rest = [&](i64 count, const std::vector<Fact>& shown, std::string_view one, std::string_view many) {
    const i64 left = count - static_cast<i64>(shown.size());
    if (left > 0) more.parts.push_back(counted(left, one, many));
  };
  rest(missed, misses, "miss", "misses");
  rest(violated, violations, "violation", "violations");
  misses.insert(misses.end(), violations.begin(), violations.end());
  if (!more.parts.empty()) misses.push_back(std::move(more));
  return misses;
}

std::vector<Fact> describe_differences(std::span<const ChoiceAgreement> choices, i64 limit) {
  std::vector<Fact> facts;
  i64 differing = 0;
  for (const ChoiceAgreement& choice : choices) {
    differing += choice.differing;
    for (const Difference& difference : choice.differences) {
      if (static_cast<i64>(facts.size()) < limit) facts.push_back(describe_difference(choice, difference));
    }
  }
  const i64 left = differing - static_cast<i64>(facts.size());
  if (left > 0) facts.push_back({.name = "more", .parts = {counted(left, "row differs", "rows differ")}});
  return facts;
}

Fact describe_quality(const Quality& quality, std::optional<double> minimum_recall) {
  const Recall& recall = quality.recall;
  Fact fact{.name = "quality",
            .parts = {fmt::format("recall of {} {}", printable(quality.reference), four_decimals(recall.mean)),
                      "median " + four_decimals(recall.median), "p1 " + four_decimals(recall.p1),
                      "worst " + four_decimals(recall.worst) +
                          (recall.worst_row ? fmt::format(" in row {}", *recall.worst_row) : std::string()),
                      "IoU " + four_decimals(quality.iou)}};
  if (quality.forced.any()) {
    fact.parts.push_back("of what was free to choose: recall " + four_decimals(quality.free_recall.mean));
    fact.parts.push_back("IoU " + four_decimals(quality.free_iou));
  }
  if (quality.attention_mass) fact.parts.push_back("attention mass " + four_decimals(*quality.attention_mass));
  if (quality.needle_hit_rate) {
    fact.parts.push_back(quality.shows_needles() ? "needles " + four_decimals(*quality.needle_hit_rate)
                                                 : unshown_needles(quality));
  }
  if (minimum_recall) fact.parts.push_back(fmt::format("at least {} was asked for", four_decimals(*minimum_recall)));
  return fact;
}

}  // namespace misa
