#include "backends/cpu/cpu.hpp"

namespace misa {

std::optional<std::string> cpu_why_not() { return std::nullopt; }

}  // namespace misa
