#include <filesystem>

#include "core/platform/executable.hpp"

namespace misa {

std::string executable_path() {
  std::error_code failure;
  const std::filesystem::path path = std::filesystem::read_symlink("/proc/self/exe", failure);
  return failure ? std::string() : path.string();
}

}  // namespace misa
