#pragma once

#include <algorithm>
#include <charconv>
#include <optional>
#include <string_view>

#include "core/base/types.hpp"

namespace misa {

// Every number that a user types is read here, and is decimal: digits, of which leading ones may be 0 ("010" is 10).
// There is no sign, blank, exponent, separator or other base.

/// The number that `text` writes in digits alone; nothing for other text or what does not fit.
inline std::optional<u64> whole_number_of(std::string_view text) {
  u64 value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

/// The same, where a k at the end stands for 1024 and an m for 1024 * 1024: "4096", "16k", "1M".
inline std::optional<u64> count_of(std::string_view text) {
  u64 unit = 1;
  if (!text.empty() && (text.back() == 'k' || text.back() == 'K')) unit = u64{1} << 10;
  if (!text.empty() && (text.back() == 'm' || text.back() == 'M')) unit = u64{1} << 20;
  const std::optional<u64> value = whole_number_of(unit == 1 ? text : text.substr(0, text.size() - 1));
  if (!value || *value > ~u64{0} / unit) return std::nullopt;
  return *value * unit;
}

/// The number that `text` writes in digits, with or without a point and more digits: "2", "0.25". Neither ".5" nor
/// "5.".
inline std::optional<double> decimal_number_of(std::string_view text) {
  const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
  const auto plain = [&](char c) { return is_digit(c) || c == '.'; };
  if (text.empty() || !is_digit(text.front()) || !is_digit(text.back())) return std::nullopt;
  if (!std::all_of(text.begin(), text.end(), plain)) return std::nullopt;
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, std::chars_format::fixed);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

}  // namespace misa
