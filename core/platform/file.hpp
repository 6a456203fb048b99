#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "core/base/types.hpp"

namespace misa {

/// A regular file opened for reading. Reads are explicit (pread): a file that shrinks gives an error, not a signal.
/// Directories, FIFOs and devices are refused without blocking. Every failure is Error(input) naming the path.
class InputFile {
 public:
  explicit InputFile(const std::string& path);
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;
  ~InputFile();

  i64 size() const { return size_; }
  const std::string& path() const { return path_; }
  /// Fills `to` with `bytes` bytes from `offset` on. A short read is an error. Ends by Interrupted.
  void read(std::byte* to, i64 offset, i64 bytes) const;
  /// Throws when size or modification time differ from what they were at opening.
  void check_unchanged() const;

 private:
  std::string path_;
  int handle_ = -1;
  i64 size_ = 0;
  i64 modified_ns_ = 0;
};

/// The whole of a small text file. Error(input) when it is larger than `limit`.
std::string read_text_file(const std::string& path, i64 limit = 16 << 20);

/// Writes a file under a temporary name in the same directory; commit() syncs and renames it. Without commit nothing
/// remains. "-" is standard output, where commit() flushes. An existing FIFO or device (/dev/null, a shell's
/// >(command)) is written in place, a symbolic link is followed. Unbuffered: write large pieces.
///
/// Failures are Error(runtime), a closed pipe on standard output is ClosedPipe; the constructor therefore has the
/// process ignore SIGPIPE.
class OutputFile {
 public:
  explicit OutputFile(const std::string& path);
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;
  ~OutputFile();

  void write(std::string_view text);
  void write(const std::byte* data, i64 bytes);
  void commit();
  /// Syncs what was written so far, gives it its name, as commit() does, and goes on: what is written from now on is in
  /// the file at once, for as long as the process lives and after it was killed. A write that fails is taken back
  /// whole.
  void publish();

 private:
  void sync();
  void rename_temporary();
  [[noreturn]] void fail(const char* action, int error);
  void discard() noexcept;

  std::string path_;       ///< as the user wrote it
  std::string target_;     ///< what commit() renames to; empty: written in place
  std::string temporary_;  ///< empty: written in place
  i64 whole_ = 0;          ///< bytes of the writes that were not cut short
  int handle_ = -1;
  int slot_ = -1;  ///< in the registry of temporary files
};

/// Standard output's reader went away: not an error of ours, the run ends quietly with status 0.
struct ClosedPipe {};

/// Removes the temporary files of all uncommitted OutputFiles; callable from a signal handler.
void discard_uncommitted_files() noexcept;

/// Gives closed standard streams (`>&-`) a handle, so that no file opened later becomes one of them by number. Writing
/// to a standard output that was closed still fails. Call it before anything is opened.
void reserve_standard_streams() noexcept;

/// True when both paths name the same existing file.
bool same_file(const std::string& a, const std::string& b);

/// Why files cannot be written into the folder `path`, which may have to be made first; empty: they can, as far as the
/// nearest folder above it that exists says. Nothing is made.
std::string why_no_folder(const std::string& path);

}  // namespace misa
