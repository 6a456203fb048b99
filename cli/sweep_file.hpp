#pragma once

#include <set>
#include <string>
#include <vector>

#include "cli/output.hpp"
#include "core/report/json_parts.hpp"
#include "core/report/sweep_report.hpp"

namespace misa::cli {

/// The records of a sweep: those of an earlier run that is gone on with, and new ones, which are on disk before the
/// next group is measured. Groups are kept whole; what an earlier run has of one that is not whole is measured again.
class SweepFile {
 public:
  /// `header` says what the sweep is (identity_keys) and is written by begin(). With `resume`, the records of the
  /// target that is JSON lines are read, where it exists. Error(usage) MP-E467: no target is such a file; MP-E469:
  /// without `resume` an unfinished sweep would be overwritten. Error(input) MP-E468: it is another sweep.
  SweepFile(const std::vector<Target>& targets, bool resume, Json header);

  /// All cases of a group are there, or known to be skipped.
  bool has(i64 group) const { return whole_.find(group) != whole_.end(); }
  /// Writes the header and what earlier runs measured. `facts` are added to a header that is new.
  void begin(const Json& facts);
  bool begun() const { return begun_; }
  void add(std::vector<Json> records);
  void skip(std::vector<Json> skipped);
  /// The report of all cases, with warnings of the whole sweep before theirs; writes the footer.
  SweepReport finish(bool complete, const std::vector<Warning>& warnings, const Json& timing);

 private:
  void read(const std::string& path);

  StreamedTargets streamed_;
  Json header_;
  std::vector<Json> cases_, skipped_;
  std::set<i64> whole_;
  bool begun_ = false, resumed_ = false;
};

}  // namespace misa::cli
