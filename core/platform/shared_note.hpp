#pragma once

#include <string>
#include <string_view>

namespace misa {

/// A few words in a file that another process reads at any time, whatever has ended this one. Setting them costs as
/// much as copying them.
class SharedNote {
 public:
  static constexpr int kBytes = 256;

  /// Error(runtime) MP-E106: the file cannot be made.
  explicit SharedNote(const std::string& path);
  SharedNote(const SharedNote&) = delete;
  SharedNote& operator=(const SharedNote&) = delete;
  ~SharedNote();

  /// Words beyond kBytes - 1 bytes are cut.
  void set(std::string_view words) noexcept;

 private:
  char* memory_ = nullptr;
};

/// What the note at `path` holds; empty: nothing was noted.
std::string read_note(const std::string& path);

}  // namespace misa
