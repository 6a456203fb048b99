#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/indexer/runnable.hpp"

// `profile` of a plug-in: the whole measurement runs in a process of its own, which another one watches.

namespace misa::cli {

/// How the process that measured has ended: nothing is left to be said.
struct EndedAs {
  int status = 0;
};

/// Runs `words`, a command line of profile (or of a dry run), in a process of its own. An indexer in which the plug-in
/// crashes, returns an error, or works for longer than `limit_seconds` at a time is measured without it: the process
/// starts again. Throws EndedAs. Error(mismatch) MP-E422: the plug-in crashed where no indexer can be blamed, or after
/// the results were written.
[[noreturn]] void supervise(std::string_view backend, const std::vector<std::string>& words, double limit_seconds);

/// The process that is watched.
class Supervised {
 public:
  /// `folder`: where it meets the one that watches.
  explicit Supervised(const std::string& folder);
  ~Supervised();

  /// Indexers in which the plug-in failed before; `backend` is its name.
  std::vector<Refusal> failed(std::string_view backend) const;
  /// Notes the function of the plug-in that runs, the indexer that it works on, and that results are written; "" where
  /// it does not.
  void note_step(std::string_view function);
  void note_work(std::string_view indexer);
  void note_written();
  /// Hands over what a function of the plug-in returned in words.
  void note_error(const std::string& what) const;

 private:
  struct Notes;
  std::string folder_;
  std::unique_ptr<Notes> notes_;
};

}  // namespace misa::cli
