// Whatever the bytes, the reader of agreement reports refuses them with Error(input) or gives a command line.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "core/base/error.hpp"
#include "core/report/agreement_report.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const auto words = misa::read_agreement_command({reinterpret_cast<const char*>(data), size}, "input");
    if (!words.empty()) return 0;
  } catch (const misa::Error& error) {
    if (error.kind() == misa::ErrorKind::input && error.id().substr(0, 6) == "MP-E62") return 0;
  }
  std::fputs("broken: a report gives words or is refused as input\n", stderr);
  std::abort();
}
