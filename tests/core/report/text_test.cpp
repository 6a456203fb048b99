#include "core/report/text.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstdlib>
#include <limits>
#include <string>

namespace misa {

TEST_CASE("ill-formed UTF-8 is replaced, one mark for each maximal part") {
  CHECK(repaired_utf8("µ–█ 漢 😀") == "µ–█ 漢 😀");
  CHECK(repaired_utf8("a\xff") == "a\uFFFD");
  CHECK(repaired_utf8("\xc3") == "\uFFFD");                                // cut short
  CHECK(repaired_utf8("\xe2\x82z") == "\uFFFDz");                          // one part, then a letter
  CHECK(repaired_utf8("\xc0\xaf") == "\uFFFD\uFFFD");                      // overlong
  CHECK(repaired_utf8("\xed\xa0\x80") == "\uFFFD\uFFFD\uFFFD");            // surrogate
  CHECK(repaired_utf8("\xf4\x90\x80\x80") == "\uFFFD\uFFFD\uFFFD\uFFFD");  // above U+10FFFF
  CHECK(repaired_utf8("\xf0\x9f\x98") == "\uFFFD");
  CHECK(repaired_utf8("").empty());
}

TEST_CASE("repair is idempotent on any bytes") {
  std::string bytes;
  u32 state = 1;
  for (int i = 0; i < 20000; ++i) {
    state = state * 1664525u + 1013904223u;
    bytes += static_cast<char>(state >> 24);
  }
  const std::string once = repaired_utf8(bytes);
  CHECK(repaired_utf8(once) == once);
  CHECK(printable(printable(bytes)) == printable(bytes));
}

TEST_CASE("controls and bidirectional overrides are not printable") {
  CHECK(printable("a\tb\nc\x7f") == "a\uFFFDb\uFFFDc\uFFFD");
  CHECK(printable("\u0085\u202E\u2066\u2028x") == "\uFFFD\uFFFD\uFFFD\uFFFDx");
}

TEST_CASE("width counts columns, not bytes") {
  CHECK(display_width("abc") == 3);
  CHECK(display_width("1.19–1.30 µs █▌×") == 16);
  CHECK(display_width("漢字") == 2);
  CHECK(padded("µs", 4, true) == "  µs");
  CHECK(padded("漢", 4, false) == "漢   ");
  CHECK(padded("long", 2, true) == "long");
}

TEST_CASE("shortening fits and shows that something is missing") {
  CHECK(shortened("abcdef", 6) == "abcdef");
  CHECK(shortened("abcdefg", 6) == "abcde…");
  CHECK(shortened("漢字漢字", 3) == "漢字…");
  CHECK(shortened("abc", 1) == "…");
  CHECK(shortened("abc", 0).empty());
}

TEST_CASE("numbers have three significant digits and never an exponent") {
  CHECK(short_number(0) == "0");
  CHECK(short_number(1.234) == "1.23");
  CHECK(short_number(12.34) == "12.3");
  CHECK(short_number(123.4) == "123");
  CHECK(short_number(9.996) == "10.0");
  CHECK(short_number(99.96) == "100");
  CHECK(short_number(1234567) == "1234567");
  CHECK(short_number(0.01234) == "0.012");
  CHECK(short_number(-1.5) == "-1.50");
  CHECK(short_number(std::nan("")) == "n/a");
}

TEST_CASE("SI prefixes keep numbers below a thousand") {
  CHECK(si_number(1.23e-3, "s") == "1.23 ms");
  CHECK(si_number(45.6e9, "FLOP/s") == "45.6 GFLOP/s");
  CHECK(si_number(999.6e-6, "s") == "1.00 ms");
  CHECK(si_number(999.4e-6, "s") == "999 µs");
  CHECK(si_number(0, "s") == "0 s");
  CHECK(si_number(8.28e-12, "s") == "8.28 ps");
  CHECK(si_number(1.308e15, "FLOP/s") == "1.31 PFLOP/s");
  CHECK(si_number(std::numeric_limits<double>::infinity(), "s") == "n/a s");
  CHECK(si_range(1.19e-3, 1.3e-3, "s") == "1.19–1.30 ms");
  CHECK(si_range(0.98e-3, 10.1e-3, "s") == "1.0–10.1 ms");
  CHECK(si_range(98.2e-3, 101e-3, "s") == "98–101 ms");
  CHECK(binary_bytes(16'777'216'000) == "15.6 GiB");
  CHECK(binary_bytes(512) == "512 B");
}

TEST_CASE("numbers for machines read back as the same number") {
  for (double value : {0.1, 1.0 / 3, 1e300, 5e-324, 123456789.125})
    CHECK(std::strtod(exact_number(value).c_str(), nullptr) == value);
  CHECK(exact_number(std::nan("")).empty());
}

TEST_CASE("parts wrap between, not within") {
  const std::vector<std::string> parts{"aaaaaaaa", "", "bbbbbbbb", "cccccccc"};
  CHECK(wrapped(parts, " · ", 20) == std::vector<std::string>{"aaaaaaaa · bbbbbbbb", "cccccccc"});
  CHECK(wrapped({}, " · ", 20).empty());
  CHECK(joined(parts, ", ") == "aaaaaaaa, bbbbbbbb, cccccccc");
}

}  // namespace misa
