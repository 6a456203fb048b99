#pragma once

#include <array>
#include <optional>
#include <string>

#include "core/indexer/stage.hpp"

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

/// "stage.score", "stage.score+select".
inline const RangeName& stage_range(StageSet stages) {
  thread_local std::array<std::optional<RangeName>, 1u << kStages.size()> names;
  std::optional<RangeName>& name = names.at(stages.bits);
  if (!name) name.emplace(kStageRange + stage_set_name(stages));
  return *name;
}

/// Shows every span to a profiler as a range, and passes it on. The range is the outer one: what it costs is not timed.
class StageRanges final : public Observer {
 public:
  explicit StageRanges(Observer& inner) : inner_(inner) {}

  void begin(StageSet stages) override {
    begin_range(stage_range(stages));
    inner_.begin(stages);
  }
  void ran(Primitive primitive, std::string_view kernel) override { inner_.ran(primitive, kernel); }
  void end() override {
    inner_.end();
    end_range();
  }

 private:
  Observer& inner_;
};

}  // namespace misa
