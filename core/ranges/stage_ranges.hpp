#pragma once

#include <array>
#include <string>

#include "core/indexer/stage.hpp"
#include "core/ranges/ranges.hpp"

namespace misa {

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
