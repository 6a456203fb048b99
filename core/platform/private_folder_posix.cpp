#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "core/base/error.hpp"
#include "core/platform/private_folder.hpp"

namespace misa {
namespace {

constexpr int kFilesOfFolder = 4;

/// What a signal handler removes. Texts are filled before `used` or `files` says that they are.
struct FolderSlot {
  std::atomic<int> used{0}, files{0};
  std::array<char, PATH_MAX> path{};
  std::array<std::array<char, PATH_MAX>, kFilesOfFolder> file{};
};
std::array<FolderSlot, 4> folder_slots;

}  // namespace

PrivateFolder::PrivateFolder() {
  const char* const given = std::getenv("TMPDIR");
  path_ = (given != nullptr && *given != '\0' ? std::string(given) : std::string("/tmp")) + "/misa-prof-XXXXXX";
  if (::mkdtemp(path_.data()) == nullptr) {
    throw Error(ErrorKind::runtime, "MP-E106", "cannot create a folder: " + std::generic_category().message(errno),
                path_, "TMPDIR=DIR, a folder that may be written");
  }
  for (std::size_t i = 0; i < folder_slots.size() && slot_ < 0 && path_.size() < PATH_MAX; ++i) {
    int expected = 0;
    if (!folder_slots[i].used.compare_exchange_strong(expected, 1)) continue;
    slot_ = static_cast<int>(i);
    std::memcpy(folder_slots[i].path.data(), path_.c_str(), path_.size() + 1);
    folder_slots[i].used.store(2);
  }
}

PrivateFolder::~PrivateFolder() {
  std::error_code failure;  // what is left behind is in a folder for temporary files
  std::filesystem::remove_all(path_, failure);
  if (slot_ < 0) return;
  FolderSlot& slot = folder_slots[static_cast<std::size_t>(slot_)];
  slot.files.store(0);
  slot.used.store(0);
}

std::string PrivateFolder::file(const char* name) {
  std::string path = path_ + "/" + name;
  if (slot_ < 0 || path.size() >= PATH_MAX) return path;
  FolderSlot& slot = folder_slots[static_cast<std::size_t>(slot_)];
  const int count = slot.files.load();
  if (count == kFilesOfFolder) return path;
  std::memcpy(slot.file[static_cast<std::size_t>(count)].data(), path.c_str(), path.size() + 1);
  slot.files.store(count + 1);
  return path;
}

void discard_private_folders() noexcept {
  for (FolderSlot& slot : folder_slots) {
    if (slot.used.load() != 2) continue;
    const int count = slot.files.load();
    for (int i = 0; i < count; ++i) ::unlink(slot.file[static_cast<std::size_t>(i)].data());
    ::rmdir(slot.path.data());
  }
}

}  // namespace misa
