#pragma once

#include <array>
#include <cstddef>
#include <string>
#include <string_view>

#include "core/base/types.hpp"
#include "core/indexer/kernel.hpp"

namespace misa {

/// The steps of the one algorithm, in their order. Names are the algorithm's, never a backend's.
enum class Stage : u8 { pool, route, score, select, rerank };

constexpr std::array<Stage, 5> kStages{Stage::pool, Stage::route, Stage::score, Stage::select, Stage::rerank};

constexpr std::string_view stage_name(Stage stage) {
  constexpr std::array<std::string_view, 5> kNames{"pool", "route", "score", "select", "rerank"};
  return kNames[static_cast<std::size_t>(stage)];
}

/// What one span of work covers: a plain kernel one stage, a fused kernel several. Never split by formula.
struct StageSet {
  u8 bits = 0;

  constexpr StageSet() = default;
  constexpr StageSet(Stage stage) : bits(static_cast<u8>(1u << static_cast<u8>(stage))) {}  // NOLINT

  constexpr bool has(Stage stage) const { return ((bits >> static_cast<u8>(stage)) & 1u) != 0; }
  friend constexpr StageSet operator|(StageSet a, StageSet b) {
    a.bits = static_cast<u8>(a.bits | b.bits);
    return a;
  }
  friend constexpr bool operator==(StageSet, StageSet) = default;
};

/// "score", or "score+select" for a fused span.
inline std::string stage_set_name(StageSet set) {
  std::string name;
  for (Stage stage : kStages) {
    if (!set.has(stage)) continue;
    if (!name.empty()) name += '+';
    name += stage_name(stage);
  }
  return name;
}

/// Told where spans begin and end while a plan runs: a timer, a profiler's ranges, or nobody.
class Observer {
 public:
  virtual ~Observer() = default;
  virtual void begin(StageSet stages) = 0;
  /// Inside a span: `kernel` of `primitive` ran.
  virtual void ran(Primitive /*primitive*/, std::string_view /*kernel*/) {}
  virtual void end() = 0;
};

}  // namespace misa
