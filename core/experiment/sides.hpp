#pragma once

#include "core/report/report.hpp"

namespace misa {

/// Judges every case of side B beside the case of side A before it: their times round by round, all of them together.
/// Where side B is side A again, it warns of a machine on which only large differences are told, and of a difference
/// that was told although there is none.
void judge_sides(Report& report);

}  // namespace misa
