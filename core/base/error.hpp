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

}  // namespace misa
