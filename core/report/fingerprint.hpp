#pragma once

#include <string>

#include "core/report/report.hpp"

namespace misa {

/// 16 hexadecimal digits that are the same where times may be compared: processor, instruction sets, cores, quota,
/// governor, the backends' devices, drivers and libraries, compiler, flags and build type. The commit, threads, memory,
/// kernel and names of the machine do not count. Not cryptographic. Source: ours (splitmix64 chain over the texts).
std::string fingerprint(const ReportEnvironment& environment);

}  // namespace misa
