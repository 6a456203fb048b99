#pragma once

#include <optional>
#include <string>

namespace misa {

/// What profilers know our ranges by: their domain, and names. A run is a range "case INDEXER BACKEND WORKLOAD", in it
/// lies kWarmUpRange or kMeasureRange, and in the latter a range for each span: kStageRange and its stages.
inline constexpr const char* kRangeDomain = "misa-prof";
inline constexpr const char* kWarmUpRange = "warmup";
inline constexpr const char* kMeasureRange = "measure";
inline constexpr const char* kStageRange = "stage.";

/// The name of ranges, made known to a profiler once: filters and captures of Nsight go by such names.
class RangeName {
 public:
  explicit RangeName(const std::string& text);
  /// NVTX's handle of it.
  void* registered() const { return registered_; }

 private:
  void* registered_ = nullptr;
};

/// Ranges of one thread nest. Without a profiler they take nanoseconds, in a build without NVTX nothing.
void begin_range(const RangeName& name);
void end_range();

/// A range from construction to destruction.
class Range {
 public:
  explicit Range(const RangeName& name) { begin_range(name); }
  ~Range() { end_range(); }
  Range(const Range&) = delete;
  Range& operator=(const Range&) = delete;
};

/// Why no profiler will see them; nothing when it will.
std::optional<std::string> ranges_why_not();

}  // namespace misa
