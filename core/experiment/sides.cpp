#include "core/experiment/sides.hpp"

#include <fmt/format.h>

#include <cmath>
#include <vector>

namespace misa {
namespace {

/// A machine on which a smaller difference cannot be told is too noisy to compare times on.
constexpr double kTooCoarse = 0.05;

void warn_of_noise(const std::vector<ReportCase>& cases, std::vector<Warning>& warnings) {
  for (const ReportCase& one : cases) {
    if (!one.change) continue;
    const double told = resolution(*one.change);
    if (one.change->change == Change::faster || one.change->change == Change::slower) {
      warnings.push_back({"MP-W080",
                          fmt::format("A and A differ by {:.1f} %: this machine shows differences that are not "
                                      "there",
                                      100 * (one.change->ratio - 1)),
                          one.spec.name});
    } else if (!(told <= kTooCoarse)) {
      const std::string why = one.change->interval ? fmt::format("no difference below {:.0f} % is told", 100 * told)
                              : one.change->moves  ? "the ratio moved while it was measured"
                                                   : "there are too few samples";
      warnings.push_back({"MP-W079", why + ": a quieter machine, or a longer --budget", one.spec.name});
    }
  }
}

}  // namespace

void judge_sides(Report& report) {
  std::vector<TimeRatio> ratios;
  std::vector<ReportCase*> judged_cases;
  for (std::size_t i = 1; i < report.cases.size(); ++i) {
    const ReportCase& a = report.cases[i - 1];
    ReportCase& b = report.cases[i];
    if (b.side != "B" || !a.end_to_end || !b.end_to_end) continue;
    ratios.push_back(TimeRatio::paired(a.end_to_end->raw, b.end_to_end->raw));
    judged_cases.push_back(&b);
  }
  const std::vector<JudgedRatio> judged = judge_ratios(ratios, report.sides->same_within);
  for (std::size_t i = 0; i < judged.size(); ++i) {
    judged_cases[i]->change = judged[i];
    if (report.sides->max_slowdown) judged_cases[i]->gate = gate_of(judged[i], *report.sides->max_slowdown);
  }
  if (report.sides->b.empty()) warn_of_noise(report.cases, report.warnings);
}

}  // namespace misa
