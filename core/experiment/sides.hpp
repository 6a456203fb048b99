#pragma once

#include "core/report/report.hpp"

namespace misa {

/// Judges every case of side B beside the case of side A before it: their times round by round, all of them together.
/// Where side B is side A again, warns of a machine on which only large differences are told, and of one that is not
/// there.
void judge_sides(Report& report);

}  // namespace misa
