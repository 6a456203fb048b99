#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <system_error>

#include "core/base/error.hpp"
#include "core/platform/shared_note.hpp"

namespace misa {

SharedNote::SharedNote(const std::string& path) {
  const int handle = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  void* memory = MAP_FAILED;
  if (handle >= 0 && ::ftruncate(handle, kBytes) == 0) {
    memory = ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED, handle, 0);
  }
  const int error = errno;
  if (handle >= 0) ::close(handle);
  if (memory == MAP_FAILED) {
    throw Error(ErrorKind::runtime, "MP-E106", "cannot create: " + std::generic_category().message(error), path,
                "TMPDIR=DIR, a folder that may be written");
  }
  memory_ = static_cast<char*>(memory);
}

SharedNote::~SharedNote() { ::munmap(memory_, kBytes); }

void SharedNote::set(std::string_view words) noexcept {
  const std::size_t bytes = std::min<std::size_t>(words.size(), kBytes - 1);
  if (bytes > 0) std::memcpy(memory_, words.data(), bytes);
  std::memset(memory_ + bytes, 0, kBytes - bytes);
}

std::string read_note(const std::string& path) {
  std::array<char, SharedNote::kBytes> text{};
  const int handle = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (handle < 0) return {};
  const ssize_t got = ::read(handle, text.data(), text.size() - 1);
  ::close(handle);
  return got > 0 ? std::string(text.data()) : std::string();
}

}  // namespace misa
