#pragma once

#include <string>
#include <vector>

namespace misa::chart {

/// Where values lie on an axis.
struct Scale {
  double low = 0, high = 1;  ///< values at the ends, low < high; positive where `log`
  double from = 0, to = 1;   ///< coordinates of the ends
  bool log = false;

  double at(double value) const;
};

/// A scale over all values that are finite (and positive, where `log`), with a margin of a twentieth at both ends. One
/// value alone, or none, gets a range around it.
Scale scale_over(const std::vector<double>& values, double from, double to, bool log);

/// At most `most` (at least 2) round values within the scale, ascending: 1, 2 or 5 times a power of ten. A logarithmic
/// scale has whole decades where it spans many.
std::vector<double> ticks(const Scale& scale, int most);

/// The shortest decimal of at most six digits: "0.25", "1500".
std::string tick_text(double value);

/// In powers of 1024: "4k", "128k", "1m"; others as they are, and rounded above 10k: "5000", "21.5k".
std::string token_text(double tokens);

}  // namespace misa::chart
