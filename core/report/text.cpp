#include "core/report/text.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <iterator>
#include <nlohmann/json.hpp>
#include <sstream>

namespace misa {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

/// Calls visit(code, bytes) for each character of `text`, which is well-formed.
template <class F>
void for_each_character(std::string_view text, F&& visit) {
  while (!text.empty()) {
    const u8 lead = static_cast<u8>(text[0]);
    const std::size_t bytes = lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
    u32 code = bytes == 1 ? lead : lead & (0xFFu >> (bytes + 1));
    for (std::size_t i = 1; i < bytes; ++i) code = (code << 6) | (static_cast<u8>(text[i]) & 0x3Fu);
    visit(code, text.substr(0, bytes));
    text.remove_prefix(bytes);
  }
}

bool steers_terminal(u32 code) {
  return code < 0x20 || (code >= 0x7F && code < 0xA0) || code == 0x2028 || code == 0x2029 ||
         (code >= 0x202A && code <= 0x202E) || (code >= 0x2066 && code <= 0x2069);
}

/// `text` with U+FFFD for what is ill-formed, and for each character that `is_bad`.
template <class IsBad>
std::string replaced(std::string_view text, const IsBad& is_bad) {
  std::string safe;
  for_each_character(repaired_utf8(text),
                     [&](u32 code, std::string_view bytes) { safe += is_bad(code) ? kReplacement : bytes; });
  return safe;
}

/// Decimals that leave three significant digits of a value at least 1.
int decimals_of(double magnitude) {
  if (magnitude >= 99.95) return 0;
  return magnitude >= 9.995 ? 1 : 2;
}

}  // namespace

std::string repaired_utf8(std::string_view text) {
  using Repaired = nlohmann::json;  // which repairs what it writes
  return Repaired::parse(Repaired(text).dump(-1, ' ', false, Repaired::error_handler_t::replace)).get<std::string>();
}

std::string printable(std::string_view text) { return replaced(text, steers_terminal); }

std::string xml_characters(std::string_view text) {
  return replaced(text, [](u32 code) {
    return (code < 0x20 && code != '\t' && code != '\n' && code != '\r') || code == 0xFFFE || code == 0xFFFF;
  });
}

i64 display_width(std::string_view text) {
  i64 width = 0;
  for_each_character(repaired_utf8(text), [&](u32, std::string_view) { ++width; });
  return width;
}

std::string shortened(std::string_view text, i64 width) {
  if (display_width(text) <= width) return std::string(text);
  std::string part;
  i64 used = 1;  // the ellipsis
  bool full = width < 1;
  for_each_character(repaired_utf8(text), [&](u32, std::string_view bytes) {
    full = full || ++used > width;
    if (!full) part += bytes;
  });
  return width < 1 ? part : part + "…";
}

std::string padded(std::string_view text, i64 width, bool right) {
  const std::string space(static_cast<std::size_t>(std::max<i64>(0, width - display_width(text))), ' ');
  return right ? space + std::string(text) : std::string(text) + space;
}

std::string short_number(double value) {
  if (!std::isfinite(value)) return "n/a";
  const double magnitude = std::abs(value);
  if (magnitude >= 0.9995) return fmt::format("{:.{}f}", value, decimals_of(magnitude));
  return value == 0 ? "0" : fmt::format("{:.3f}", value);
}

SiPrefix si_prefix(double largest) {
  constexpr std::array<std::string_view, 11> kSymbols{"E", "P", "T", "G", "M", "k", "", "m", "µ", "n", "p"};
  constexpr std::array<double, 11> kFactors{1e18, 1e15, 1e12, 1e9, 1e6, 1e3, 1, 1e-3, 1e-6, 1e-9, 1e-12};
  const double magnitude = std::abs(largest);
  if (!std::isfinite(largest) || magnitude == 0) return {"", 1};
  std::size_t i = 0;
  while (i + 1 < kFactors.size() && magnitude < 0.9995 * kFactors[i]) ++i;  // 999.6 m would be rounded to 1000 m
  return {kSymbols[i], kFactors[i]};
}

std::string si_number(double value, std::string_view unit) {
  const SiPrefix prefix = si_prefix(value);
  return fmt::format("{} {}{}", short_number(value / prefix.factor), prefix.symbol, unit);
}

std::string percent(double fraction) {
  return std::isfinite(fraction) ? fmt::format("{:.1f} %", 100 * fraction) : std::string("n/a");
}

std::string four_decimals(std::optional<double> value) {
  if (!value) return "–";
  return std::isfinite(*value) ? fmt::format("{:.4f}", *value) : std::string("n/a");
}

std::string si_range(double from, double to, std::string_view unit) {
  if (!std::isfinite(from) || !std::isfinite(to)) return "n/a";
  const SiPrefix prefix = si_prefix(to);
  const int decimals = decimals_of(std::abs(to / prefix.factor));
  return fmt::format("{:.{}f}–{:.{}f} {}{}", from / prefix.factor, decimals, to / prefix.factor, decimals,
                     prefix.symbol, unit);
}

std::string counted(i64 count, std::string_view one, std::string_view many) {
  return fmt::format("{} {}", count, count == 1 ? one : many);
}

std::string binary_bytes(i64 bytes) {
  constexpr std::array<std::string_view, 6> kUnits{"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  double value = static_cast<double>(bytes);
  std::size_t unit = 0;
  while (value >= 1023.5 && unit + 1 < kUnits.size()) {
    value /= 1024;
    ++unit;
  }
  return unit == 0 ? fmt::format("{} B", bytes) : fmt::format("{} {}", short_number(value), kUnits[unit]);
}

std::string exact_number(double value) { return std::isfinite(value) ? fmt::format("{}", value) : std::string(); }

std::optional<i64> whole_nanoseconds(double seconds) {
  const double nanoseconds = std::round(seconds * 1e9);
  if (!(std::abs(nanoseconds) < 9e18)) return std::nullopt;
  return static_cast<i64>(nanoseconds);
}

std::vector<std::string> wrapped(const std::vector<std::string>& parts, std::string_view separator, i64 width) {
  width = std::max<i64>(20, width);
  std::vector<std::string> lines;
  for (const std::string& part : parts) {
    if (part.empty()) continue;
    const std::string text = shortened(part, width);
    const bool fits =
        !lines.empty() && display_width(lines.back()) + display_width(separator) + display_width(text) <= width;
    if (fits) {
      lines.back() += separator;
      lines.back() += text;
    } else {
      lines.push_back(text);
    }
  }
  return lines;
}

std::string hanging(std::string_view lead, i64 indent, const std::vector<std::string>& parts,
                    std::string_view separator, i64 width) {
  std::string text;
  for (const std::string& line : wrapped(parts, separator, width - indent)) {
    if (text.empty()) {
      text += lead;
    } else {
      text.append(1, '\n').append(static_cast<std::size_t>(indent), ' ');
    }
    text += line;
  }
  return text;
}

std::vector<std::string> words_of(const std::string& text) {
  std::istringstream stream(text);
  return {std::istream_iterator<std::string>(stream), {}};
}

std::string joined(const std::vector<std::string>& parts, std::string_view separator) {
  std::string text;
  for (const std::string& part : parts) {
    if (part.empty()) continue;
    if (!text.empty()) text += separator;
    text += part;
  }
  return text;
}

std::string warning_line(const Warning& warning) { return "warning: " + printable(text_of(warning)); }

}  // namespace misa
