#pragma once

#include <string>

namespace misa {

/// Something that a user must know about a run that goes on. It travels as data, from whoever notices it to every
/// format of a report, and never becomes an error.
///
/// Shown as  `<id>: <what>; <where>`  where an empty `where` is left out.
struct Warning {
  std::string id;          ///< stable ("MP-W001") and listed in docs/errors.md; never empty
  std::string what;        ///< the numbers that were meant and that were taken, lower case
  std::string where = {};  ///< a file, or the indexers it holds for; empty: the whole run

  bool operator==(const Warning&) const = default;
};

inline std::string text_of(const Warning& warning) {
  return warning.id + ": " + warning.what + (warning.where.empty() ? "" : "; " + warning.where);
}

}  // namespace misa
