#include "core/report/fingerprint.hpp"

#include <fmt/format.h>

#include "core/base/mix.hpp"

namespace misa {
namespace {

/// Depends on every byte of each text, and on where one ends and the next begins.
class TextHash {
 public:
  void add(std::string_view text) {
    word(text.size());
    for (const char byte : text) word(static_cast<unsigned char>(byte));
  }
  void add(i64 number) { word(static_cast<u64>(number)); }
  u64 value() const { return state_; }

 private:
  void word(u64 bits) { state_ = mix64(state_ + kGolden + bits); }

  u64 state_ = 0;
};

}  // namespace

std::string fingerprint(const ReportEnvironment& environment) {
  TextHash hash;
  const SystemInfo& machine = environment.machine;
  for (const std::string& text : {machine.cpu, machine.isa, machine.governor}) hash.add(text);
  hash.add(machine.cores);
  hash.add(machine.cpu_quota ? fmt::format("{}", *machine.cpu_quota) : std::string("none"));
  const ReportBuild& build = environment.build;
  for (const std::string& text : {build.compiler, build.type, build.flags, build.kernel_flags}) hash.add(text);
  hash.add(static_cast<i64>(build.libraries.size()));
  for (const ReportLibrary& library : build.libraries) {
    hash.add(library.name);
    hash.add(library.version);
  }
  for (const ReportBackend& backend : environment.backends) {
    hash.add(backend.name);
    hash.add(backend.description);
  }
  return fmt::format("{:016x}", hash.value());
}

}  // namespace misa
