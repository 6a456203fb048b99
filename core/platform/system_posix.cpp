#include <sys/utsname.h>

#include <array>
#include <ctime>

#include "core/platform/system.hpp"

namespace misa {

std::string host_name() {
  utsname names{};
  return uname(&names) == 0 ? names.nodename : "";
}

std::string utc_timestamp() { return utc_timestamp(std::time(nullptr)); }

std::string utc_timestamp(i64 seconds) {
  const std::time_t time = seconds;
  std::tm parts{};
  gmtime_r(&time, &parts);
  std::array<char, 64> text{};
  return {text.data(), std::strftime(text.data(), text.size(), "%Y-%m-%dT%H:%M:%SZ", &parts)};
}

}  // namespace misa
