#include "cli/gate.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "core/base/error.hpp"
#include "core/report/diff_report.hpp"
#include "core/report/text.hpp"

namespace misa::cli {

void end_as_gated(const std::vector<Gated>& gated, double max_slowdown, const std::string& how) {
  const auto end = [&](Gate gate, ErrorKind kind, const char* id, const char* what, const std::string& hint) {
    const auto is = [&](const Gated& one) { return one.gate == gate; };
    const i64 count = std::count_if(gated.begin(), gated.end(), is);
    if (count == 0) return;
    const auto worst = std::max_element(gated.begin(), gated.end(), [&](const Gated& one, const Gated& other) {
      return std::pair(is(one), one.time.ratio) < std::pair(is(other), other.time.ratio);
    });
    std::string detail = slowdown_text(worst->time.ratio);
    if (worst->time.interval) {
      detail += fmt::format(" ({} to {})", slowdown_text(worst->time.interval->low),
                            slowdown_text(worst->time.interval->high));
    }
    if (!worst->reason.empty()) detail += ": " + worst->reason;
    throw Error(kind, id,
                fmt::format("{} of {} {} {}: {} is {}", count, counted(static_cast<i64>(gated.size()), "case", "cases"),
                            what, percent(max_slowdown), worst->name, detail),
                {}, hint);
  };
  end(Gate::failed, ErrorKind::slower, "MP-E491", "slower by more than", "");
  end(Gate::inconclusive, ErrorKind::inconclusive, "MP-E492", "may or may not be slower by more than", how);
}

}  // namespace misa::cli
