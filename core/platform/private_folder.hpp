#pragma once

#include <string>

namespace misa {

/// A folder of this process alone, which nobody else may enter, in $TMPDIR or else in /tmp. Goes away with everything
/// in it. Error(runtime) MP-E106 where it cannot be made.
class PrivateFolder {
 public:
  PrivateFolder();
  PrivateFolder(const PrivateFolder&) = delete;
  PrivateFolder& operator=(const PrivateFolder&) = delete;
  ~PrivateFolder();

  const std::string& path() const { return path_; }
  /// The path of a file in it. Removed even where a signal ends the process at once, unlike other files in the folder.
  std::string file(const char* name);

 private:
  std::string path_;
  int slot_ = -1;
};

/// Removes the files that were named, and the folders where no other is left; callable from a signal handler.
void discard_private_folders() noexcept;

}  // namespace misa
