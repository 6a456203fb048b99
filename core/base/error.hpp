#pragma once

#include <stdexcept>
#include <string>
#include <utility>

namespace misa {

/// Why a run ended; the value is the exit status (docs/cli.md).
enum class ErrorKind {
  mismatch = 1,
  usage = 2,
  input = 3,
  unavailable = 4,
  nothing = 5,
  slower = 6,
  inconclusive = 7,
  runtime = 10,
  internal = 70,
};

/// The one exception of the project, caught once, in main.
///
/// Printed as  `misa-prof: error: <id>: <what>; <where>; try: <how>`  where empty parts are left out.
/// `id` is stable ("MP-E101") and listed in docs/errors.md.
class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, std::string id, const std::string& what, std::string where = {}, std::string how = {})
      : std::runtime_error(what), kind_(kind), id_(std::move(id)), where_(std::move(where)), how_(std::move(how)) {}

  ErrorKind kind() const { return kind_; }
  const std::string& id() const { return id_; }
  const std::string& where() const { return where_; }
  const std::string& how() const { return how_; }

 private:
  ErrorKind kind_;
  std::string id_, where_, how_;
};

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
