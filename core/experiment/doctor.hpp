#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/platform/load.hpp"
#include "core/platform/machine_facts.hpp"
#include "core/platform/system.hpp"
#include "core/report/doctor_report.hpp"

namespace misa {

/// A backend of this program on this machine.
struct DoctorBackend {
  std::string name = {}, description = {};
  std::optional<std::string> absent = {};   ///< why
  bool devices = false;                     ///< it runs on one of several
  std::vector<std::string> throttled = {};  ///< what slows its device down now
};

/// What was seen of a machine; plain data, so that tests can make it up.
struct DoctorFacts {
  SystemInfo system = {};
  MachineFacts machine = {};
  std::optional<double> load_average = {};
  std::vector<BusyProcess> busy = {};
  ReportBuild build = {};
  std::vector<DoctorBackend> backends = {};
  std::optional<std::string> no_ranges = {};   ///< why profilers see no NVTX ranges
  std::optional<std::string> nvidia_smi = {};  ///< what kNvidiaSmiQuery printed; empty: it did not run
  std::vector<std::string> profiles = {};      ///< folders of profiles
  std::string python = {};                     ///< the program that was asked
  std::string python_version = {};             ///< empty: there is none
  std::vector<std::pair<std::string, std::optional<std::string>>> variables = {};  ///< that are read; empty: not set
};

/// What NVIDIA's tool is asked, one line for each device.
inline constexpr const char* kNvidiaSmiQuery =
    "--query-gpu=index,name,driver_version,persistence_mode,mig.mode.current,clocks.sm,clocks.max.sm";

/// Judges each fact: ok, a warning, a problem, or not known where the system does not say. Nothing is measured here.
std::vector<DoctorCheck> examine(const DoctorFacts& facts);

}  // namespace misa
