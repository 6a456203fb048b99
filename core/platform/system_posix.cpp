#include <sys/utsname.h>

#include <array>
#include <chrono>
#include <cstdio>

#include "core/platform/system.hpp"

namespace misa {

std::string host_name() {
  utsname names{};
  return uname(&names) == 0 ? names.nodename : "";
}

std::string utc_timestamp() {
  const auto since_epoch = std::chrono::system_clock::now().time_since_epoch();
  return utc_timestamp(std::chrono::duration_cast<std::chrono::seconds>(since_epoch).count());
}

std::string utc_timestamp(i64 seconds) {
  using namespace std::chrono;
  const sys_seconds time{std::chrono::seconds(seconds)};
  const sys_days day = floor<days>(time);
  const year_month_day date{day};
  const hh_mm_ss clock{time - day};
  std::array<char, 64> text{};
  const int size = std::snprintf(text.data(), text.size(), "%04d-%02u-%02uT%02d:%02d:%02dZ",
                                 static_cast<int>(date.year()), static_cast<unsigned>(date.month()),
                                 static_cast<unsigned>(date.day()), static_cast<int>(clock.hours().count()),
                                 static_cast<int>(clock.minutes().count()), static_cast<int>(clock.seconds().count()));
  return {text.data(), static_cast<std::size_t>(size)};
}

}  // namespace misa
