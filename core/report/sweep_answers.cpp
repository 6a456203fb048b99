#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/report/sweep_report.hpp"
#include "core/report/text.hpp"

namespace misa {
namespace {

std::string ratio_text(double ratio) { return short_number(ratio) + "×"; }

/// "6100": a length that was estimated has three digits.
i64 rounded(double length) {
  const double unit = std::pow(10, std::max(0.0, std::floor(std::log10(length)) - 2));
  return static_cast<i64>(std::llround(length / unit) * static_cast<i64>(unit));
}

const SweepCase* case_at(const SweepReport& report, const SweepCrossover& one, i64 context) {
  for (const SweepCase& candidate : report.cases) {
    if (candidate.setting == one.setting && candidate.name == one.of && candidate.context == context) return &candidate;
  }
  return nullptr;
}

/// "1.38× as fast as dsa at 4096 tokens (recall 0.979)"
std::string at_length(const SweepReport& report, const SweepCrossover& one, const LengthRatio& at) {
  std::string text =
      fmt::format("{} as fast as {} at {} tokens", ratio_text(at.ratio.median), printable(one.over), at.context);
  if (at.ratio.low) text += fmt::format(" ({}–{}", short_number(*at.ratio.low), short_number(*at.ratio.high));
  const SweepCase* measured = case_at(report, one, at.context);
  if (measured != nullptr && measured->recall) {
    text += fmt::format("{}recall {:.3f}", at.ratio.low ? "; " : " (", *measured->recall);
    text += measured->attention_mass ? fmt::format(", attention mass {:.3f})", *measured->attention_mass) : ")";
  } else if (at.ratio.low) {
    text += ")";
  }
  return text;
}

/// The lengths whose ratio has this verdict.
std::vector<i64> lengths_with(const Crossover& found, SpeedupVerdict verdict) {
  std::vector<i64> lengths;
  for (const LengthRatio& one : found.ratios) {
    if (speedup_verdict(one.ratio) == verdict) lengths.push_back(one.context);
  }
  return lengths;
}

std::string answer(const SweepReport& report, const SweepCrossover& one) {
  const Crossover& found = one.crossover;
  const std::string of = printable(one.of), over = printable(one.over);
  if (found.ratios.empty()) return fmt::format("{}: {}", of, found.reason);
  const LengthRatio &first = found.ratios.front(), &last = found.ratios.back();
  const auto ends = [&](const LengthRatio& a, const LengthRatio& b) {
    const std::string at_first = at_length(report, one, a);
    return a.context == b.context ? at_first : at_first + ", " + at_length(report, one, b);
  };
  const auto near = [&] {
    return fmt::format("{} tokens (between {} and {}, {:.0f} %)", rounded(*found.context), *found.low, *found.high,
                       100 * found.confidence);
  };
  const auto at = [&](i64 context) -> const LengthRatio& {
    return *std::find_if(found.ratios.begin(), found.ratios.end(),
                         [&](const LengthRatio& ratio) { return ratio.context == context; });
  };
  switch (found.verdict) {
    case CrossoverVerdict::faster:
      if (first.context == last.context) return fmt::format("{} pays at this length: {}", of, ends(first, last));
      return fmt::format("{} pays from {} tokens on, the shortest length measured: {}", of, first.context,
                         ends(first, last));
    case CrossoverVerdict::slower:
      return fmt::format("{} does not pay between {} and {} tokens, it is slower than {} throughout: {}", of,
                         first.context, last.context, over, ends(first, last));
    case CrossoverVerdict::crossover:
      if (found.rising) return fmt::format("{} pays from {} on: {}", of, near(), ends(at(*found.high), last));
      return fmt::format("{} pays up to {}: {}", of, near(), ends(first, at(*found.low)));
    case CrossoverVerdict::inconclusive: break;
  }
  constexpr const char* kTry = "; try: a larger --budget, or a machine that does nothing else";
  const std::vector<i64> faster = lengths_with(found, SpeedupVerdict::faster);
  const std::vector<i64> slower = lengths_with(found, SpeedupVerdict::slower);
  if (!faster.empty() && slower.empty() &&
      at(faster.front()).context == (found.ratios.end() - faster.size())->context) {
    return fmt::format("{} pays from {} tokens on at the latest: {}; shorter lengths are not decided: {}{}", of,
                       faster.front(), ends(at(faster.front()), last), found.reason, kTry);
  }
  std::string text = fmt::format("no answer for {}: {}", of, found.reason);
  if (!faster.empty()) text += fmt::format("; faster than {} at {}", over, fmt::join(faster, ", "));
  if (!slower.empty()) text += fmt::format("; slower at {}", fmt::join(slower, ", "));
  return text + kTry;
}

}  // namespace

std::string crossover_text(const SweepCrossover& one) {
  const Crossover& found = one.crossover;
  switch (found.verdict) {
    case CrossoverVerdict::faster: return "faster throughout";
    case CrossoverVerdict::slower: return "slower throughout";
    case CrossoverVerdict::crossover:
      return fmt::format("faster {} {} tokens ({} to {}, {:.0f} %)", found.rising ? "from" : "up to",
                         rounded(*found.context), *found.low, *found.high, 100 * found.confidence);
    case CrossoverVerdict::inconclusive: break;
  }
  return "inconclusive: " + found.cause;
}

std::vector<std::string> answers(const SweepReport& report) {
  std::vector<std::string> texts;
  bool several = false, loaded = false;
  for (const SweepCrossover& one : report.crossovers) several |= one.setting != report.crossovers.front().setting;
  for (const SweepCrossover& one : report.crossovers) {
    if (one.over != "dsa") continue;
    texts.push_back((several ? printable(one.setting) + ": " : "") + answer(report, one));
    loaded |= one.loaded;
  }
  if (count_at(report.document, "shard.count").value_or(1) > 1) {
    return {"this is a part of a sweep: misa-prof merge puts the parts together"};
  }
  if (texts.empty()) texts.emplace_back("no answer: only dsa was measured; try: --indexer dsa,misa");
  if (loaded) {
    texts.emplace_back(
        "other work shared the cores while this was measured: measure again on a quiet machine before you rely on it");
  }
  return texts;
}

}  // namespace misa
