#include "core/experiment/child_words.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>
#include <vector>

#include "core/base/error.hpp"
#include "core/base/interrupt.hpp"
#include "core/report/text.hpp"

namespace misa {
namespace {

constexpr std::size_t kLastLines = 6;
constexpr i64 kLineWidth = 200;  // columns

/// A line that cannot be taken for ours, whatever is in it.
std::string in_quotes(std::string_view line) {
  std::string text;
  for (const char c : shortened(printable(line), kLineWidth))
    text += c == '"' ? std::string("\\\"") : std::string(1, c);
  return "\"" + text + "\"";
}

}  // namespace

std::string ending_words(const ChildResult& result, const std::string& word, double limit_seconds,
                         const std::string& where) {
  const std::string place = where.empty() ? "" : " " + where;
  switch (result.end) {
    case ChildEnd::interrupted: throw Interrupted();
    case ChildEnd::not_started:
      throw Error(ErrorKind::unavailable, "MP-E420", "the program '" + word + "' cannot be started: " + result.reason,
                  "--backend", "a program that $PATH finds, or its path");
    case ChildEnd::signalled:
      return fmt::format("crashed with {}{} after {:.1f} s", result.signal, place, result.seconds);
    case ChildEnd::timed_out: return fmt::format("was ended{} after the time limit of {:g} s", place, limit_seconds);
    case ChildEnd::exited: break;
  }
  if (result.status == 0) return {};
  return fmt::format("ended with status {}{} after {:.1f} s", result.status, place, result.seconds);
}

std::string last_words(const CapturedText& errors) {
  std::vector<std::string> lines;
  std::string_view left = errors.tail;
  while (!left.empty()) {
    const std::string_view line = left.substr(0, left.find('\n'));
    left.remove_prefix(std::min(line.size() + 1, left.size()));
    if (line.find_first_not_of(" \t\r") != std::string_view::npos) {
      lines.push_back(in_quotes(line.back() == '\r' ? line.substr(0, line.size() - 1) : line));
    }
  }
  if (lines.empty()) return {};
  if (lines.size() > kLastLines) lines.erase(lines.begin(), lines.end() - kLastLines);
  return "; it wrote " + joined(lines, ", ");
}

}  // namespace misa
