#include "cli/ranges.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <string_view>

#include "cli/indexer_options.hpp"
#include "core/base/decimal.hpp"
#include "core/base/error.hpp"

namespace misa::cli {
namespace {

constexpr std::size_t kMostCounts = 1024;
constexpr u64 kMostCount = 0x7fffffff;

[[noreturn]] void refuse_counts(const std::string& option, const std::string& what) {
  throw Error(ErrorKind::usage, "MP-E550", option + ": " + what, {}, option + " 4k:128k:*2, or " + option + " 4k,16k");
}

i64 read_count(const std::string& option, std::string_view text) {
  const std::optional<u64> count = count_of(text);
  if (!count || *count > kMostCount) {
    refuse_counts(option, fmt::format("'{}' is not a whole number up to {}, such as 16k", text, kMostCount));
  }
  return static_cast<i64>(*count);
}

/// Appends the counts of "first:last:*factor" or "first:last:+step".
void add_range(const std::string& option, const std::string& text, std::vector<i64>& counts) {
  const std::size_t first_colon = text.find(':'), second = text.find(':', first_colon + 1);
  const std::string step = second == std::string::npos ? std::string() : text.substr(second + 1);
  if (step.size() < 2 || (step.front() != '*' && step.front() != '+')) {
    refuse_counts(option, fmt::format("the range '{}' has no step: FIRST:LAST:*FACTOR or FIRST:LAST:+STEP", text));
  }
  const i64 first = read_count(option, text.substr(0, first_colon));
  const i64 last = read_count(option, text.substr(first_colon + 1, second - first_colon - 1));
  const i64 by = read_count(option, std::string_view(step).substr(1));
  const bool multiplies = step.front() == '*';
  if (first > last) refuse_counts(option, fmt::format("the range '{}' ends before it begins", text));
  if (by < (multiplies ? 2 : 1) || (multiplies && first == 0)) {
    refuse_counts(option, fmt::format("the range '{}' never ends", text));
  }
  for (i64 count = first; count <= last; count = multiplies ? count * by : count + by) {
    counts.push_back(count);
    if (counts.size() > kMostCounts) break;
  }
}

}  // namespace

std::vector<i64> counts_of(const std::string& option, const std::string& text, i64 least) {
  std::vector<i64> counts;
  for (const std::string& part : split_at_commas({text})) {
    if (part.find(':') == std::string::npos) {
      counts.push_back(read_count(option, part));
    } else {
      add_range(option, part, counts);
    }
  }
  if (counts.size() > kMostCounts) refuse_counts(option, fmt::format("more than {} numbers", kMostCounts));
  for (auto count = counts.begin(); count != counts.end(); ++count) {
    if (*count < least) refuse_counts(option, fmt::format("{} is less than {}", *count, least));
    if (std::find(counts.begin(), count, *count) != count)
      refuse_counts(option, fmt::format("{} occurs twice", *count));
  }
  return counts;
}

}  // namespace misa::cli
