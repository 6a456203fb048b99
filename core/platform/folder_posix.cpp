#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <system_error>

#include "core/platform/folder.hpp"

namespace misa {

std::string why_no_folder(const std::string& path) {
  namespace fs = std::filesystem;
  std::error_code failure;
  fs::path folder = fs::absolute(path, failure).lexically_normal();
  while (folder.has_relative_path() && !fs::exists(fs::symlink_status(folder, failure))) folder = folder.parent_path();
  int error = 0;
  if (!fs::is_directory(folder, failure)) {
    error = ENOTDIR;
  } else if (::access(folder.c_str(), W_OK | X_OK) != 0) {
    error = errno;
  }
  return error == 0 ? std::string() : std::error_code(error, std::generic_category()).message();
}

}  // namespace misa
