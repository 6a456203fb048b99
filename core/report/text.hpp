#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/error.hpp"
#include "core/base/types.hpp"

namespace misa {

/// Text as it may be written: every ill-formed UTF-8 sequence becomes U+FFFD, one per maximal subpart (Unicode 15,
/// section 3.9, as the Web's decoders do).
std::string repaired_utf8(std::string_view text);

/// repaired_utf8 without what could steer a terminal or reorder a line: controls (C0, DEL, C1), line separators and
/// bidirectional overrides become U+FFFD.
std::string printable(std::string_view text);

/// repaired_utf8 without what XML 1.0 cannot hold (section 2.2): C0 controls other than tab, line feed and carriage
/// return, U+FFFE and U+FFFF become U+FFFD. Not escaped.
std::string xml_characters(std::string_view text);

/// Columns that repaired text takes in a terminal: one for each character, as in the scripts that names are written in.
i64 display_width(std::string_view text);

/// At most `width` columns, the end replaced by an ellipsis where it does not fit.
std::string shortened(std::string_view text, i64 width);

/// `text` with spaces up to `width` columns.
std::string padded(std::string_view text, i64 width, bool right);

/// Three significant digits, no exponent: "1.23", "45.6", "789", "0.012". Not finite: "n/a".
std::string short_number(double value);

/// With an SI prefix: si_number(4.56e10, "FLOP/s") is "45.6 GFLOP/s", si_number(1.2e-5, "s") is "12.0 µs".
std::string si_number(double value, std::string_view unit);

/// "12.3 %".
std::string percent(double fraction);

/// Recall and its like, for differences in the third decimal matter: "0.9123"; empty: "–".
std::string four_decimals(std::optional<double> value);

/// Seconds from one to the other in the unit of the larger: "1.19–1.30 ms".
std::string si_range(double from, double to, std::string_view unit);

/// The prefix, and its factor, that suits a column whose largest value is `largest`.
struct SiPrefix {
  std::string_view symbol;
  double factor = 1;
};
SiPrefix si_prefix(double largest);

/// "1 row", "2 rows".
std::string counted(i64 count, std::string_view one, std::string_view many);

/// In powers of 1024: "15.6 GiB".
std::string binary_bytes(i64 bytes);

/// The shortest decimal that reads back as the same number, for machines; empty when it is not finite.
std::string exact_number(double value);

/// Rounded; nothing when that is no number or does not fit.
std::optional<i64> whole_nanoseconds(double seconds);

/// The non-empty parts with the separator between them, on lines of at most `width` columns (at least 20). A part that
/// is longer than a line is shortened.
std::vector<std::string> wrapped(const std::vector<std::string>& parts, std::string_view separator, i64 width);

/// The same as text, without a line break at its end: `lead`, which takes `indent` columns, in front of the first line,
/// spaces in front of the others. Empty when all parts are.
std::string hanging(std::string_view lead, i64 indent, const std::vector<std::string>& parts,
                    std::string_view separator, i64 width);

/// What white space divides.
std::vector<std::string> words_of(const std::string& text);

/// The non-empty parts with the separator between them.
std::string joined(const std::vector<std::string>& parts, std::string_view separator);

/// "warning: MP-W001: what; where", printable: how every text for people shows one.
std::string warning_line(const Warning& warning);

}  // namespace misa
