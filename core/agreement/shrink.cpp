#include "core/agreement/shrink.hpp"

#include <algorithm>
#include <numeric>
#include <vector>

#include "core/base/error.hpp"
#include "core/base/interrupt.hpp"
#include "core/workload/subset.hpp"

namespace misa {
namespace {

/// A part of a workload by what is kept of it; groups are rows, or the rows of a paged sequence.
struct Part {
  std::vector<i64> groups, heads;
  i64 window = 0;
};

std::vector<i64> numbered(i64 count) {
  std::vector<i64> all(static_cast<std::size_t>(count));
  std::iota(all.begin(), all.end(), i64{0});
  return all;
}

/// `from` without `count` of its entries, at each place.
std::vector<std::vector<i64>> without(const std::vector<i64>& from, std::size_t count) {
  std::vector<std::vector<i64>> all;
  for (std::size_t at = 0; at + count <= from.size() && count < from.size(); at += count) {
    std::vector<i64> kept(from.begin(), from.begin() + static_cast<std::ptrdiff_t>(at));
    kept.insert(kept.end(), from.begin() + static_cast<std::ptrdiff_t>(at + count), from.end());
    all.push_back(std::move(kept));
  }
  return all;
}

}  // namespace

Workload shrink(const Workload& workload, const std::function<bool(const Workload&)>& fails, i64 tries) {
  const i64 per_group = workload.paged() ? workload.next_n : 1;
  const auto cut = [&](const Part& part) {
    std::vector<i64> rows;
    for (const i64 group : part.groups) {
      for (i64 j = 0; j < per_group; ++j) rows.push_back(group * per_group + j);
    }
    return take(workload, rows, part.heads, part.window);
  };
  Part part{numbered(workload.rows() / per_group), numbered(workload.heads()), 1};
  for (std::size_t m = 0; m < workload.ks.size(); ++m) {
    part.window = std::max<i64>(part.window, workload.ke[m] - workload.ks[m]);
  }

  const auto still_fails = [&](const Part& smaller) {
    if (tries-- <= 0) return false;
    try {
      if (!fails(cut(smaller))) return false;
    } catch (const Error&) {
      return false;
    } catch (const Interrupted&) {
      tries = 0;  // what is left by now still fails
      return false;
    }
    part = smaller;
    return true;
  };
  const auto shrink_list = [&](std::vector<i64> Part::*list) {
    bool smaller = false;
    for (std::size_t count = (part.*list).size() / 2; count >= 1; count /= 2) {
      for (bool again = true; again;) {
        again = false;
        for (std::vector<i64>& kept : without(part.*list, count)) {
          Part next = part;
          next.*list = std::move(kept);
          if (!still_fails(next)) continue;
          smaller = again = true;
          break;
        }
      }
    }
    return smaller;
  };
  const auto shrink_window = [&] {
    bool smaller = false;
    for (i64 step = part.window / 2; step >= 1; step /= 2) {
      while (part.window > step) {
        Part next = part;
        next.window -= step;
        if (!still_fails(next)) break;
        smaller = true;
      }
    }
    return smaller;
  };
  for (bool smaller = true; smaller && tries > 0;) {
    smaller = shrink_list(&Part::groups);
    smaller = shrink_window() || smaller;
    smaller = shrink_list(&Part::heads) || smaller;
  }
  return cut(part);
}

}  // namespace misa
