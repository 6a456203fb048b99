#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <system_error>
#include <utility>

#include "core/base/error.hpp"
#include "core/base/interrupt.hpp"
#include "core/platform/file.hpp"

namespace misa {
namespace {

constexpr const char* kOtherCopy = "again, or a copy of the file on another disk";

/// What may help against an error of the system.
const char* advice(int error, const char* otherwise) {
  switch (error) {
    case ENOSPC:
    case EDQUOT: return "free some space or write elsewhere";
    case EFBIG: return "a larger limit of file sizes (ulimit -f)";
    case ENOTDIR: return "a path whose folders are folders and not files";
    case ENAMETOOLONG: return "a shorter path";
    case EPIPE: return "a reader that stays until the end";
    case ELOOP: return "the file itself: its symbolic links go round in circles";
    case EISDIR: return "a file name, not a directory";
    case EMFILE:
    case ENFILE: return "a larger limit on open files (ulimit -n)";
    default: return otherwise;
  }
}

std::string reason(int error) { return std::generic_category().message(error); }

/// Interrupted calls are repeated.
template <class Call>
auto retry(Call call) {
  auto result = call();
  while (result < 0 && errno == EINTR) result = call();
  return result;
}

i64 modified_ns(const struct stat& status) {
  return static_cast<i64>(status.st_mtim.tv_sec) * 1'000'000'000 + status.st_mtim.tv_nsec;
}

const char* kind_of_file(mode_t mode) {
  if (S_ISDIR(mode)) return "a directory";
  if (S_ISFIFO(mode)) return "a pipe";
  if (S_ISSOCK(mode)) return "a socket";
  return "a device";
}

// Paths of temporary files, kept where a signal handler may read them. A slot is filled before it becomes `ready`.
enum SlotState { kFree, kFilling, kReady };
struct Slot {
  std::atomic<int> state{kFree};
  std::array<char, PATH_MAX> path{};
};
constexpr int kSlots = 32;
std::array<Slot, kSlots> slots;
static_assert(std::atomic<int>::is_always_lock_free, "the signal handler reads it");

/// -1 when all slots are taken or the path is too long.
int register_temporary(const std::string& path) {
  if (path.size() >= PATH_MAX) return -1;
  for (int i = 0; i < kSlots; ++i) {
    Slot& slot = slots[static_cast<std::size_t>(i)];
    int expected = kFree;
    if (!slot.state.compare_exchange_strong(expected, kFilling)) continue;
    std::memcpy(slot.path.data(), path.c_str(), path.size() + 1);
    slot.state.store(kReady);
    return i;
  }
  return -1;
}

void release_temporary(int slot) {
  if (slot >= 0) slots[static_cast<std::size_t>(slot)].state.store(kFree);
}

/// Follows symbolic links of an existing path, so that the link stays and its target is replaced.
std::string resolved(const std::string& path) {
  const std::unique_ptr<char, decltype(&std::free)> real(::realpath(path.c_str(), nullptr), &std::free);
  return real ? std::string(real.get()) : path;
}

}  // namespace

InputFile::InputFile(const std::string& path) : path_(path) {
  if (path.empty() || path.find('\0') != std::string::npos) {
    throw Error(ErrorKind::input, "MP-E101", "cannot open a file: the path is empty or holds a NUL", path,
                "the path of a file");
  }
  // O_NONBLOCK: opening a FIFO would wait for its writer. It changes nothing for regular files.
  const int handle = retry([&] { return ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY); });
  if (handle < 0) {
    const int error = errno;
    throw Error(ErrorKind::input, "MP-E101", "cannot open the file: " + reason(error), path,
                error == ENOENT                     ? "check the spelling and the current directory"
                : error == EACCES || error == EPERM ? "a file that may be read: chmod u+r"
                                                    : advice(error, kOtherCopy));
  }
  struct stat status {};
  if (::fstat(handle, &status) != 0) {
    const int error = errno;
    ::close(handle);
    throw Error(ErrorKind::input, "MP-E101", "cannot examine the file: " + reason(error), path, kOtherCopy);
  }
  if (!S_ISREG(status.st_mode)) {
    ::close(handle);
    throw Error(ErrorKind::input, "MP-E102", std::string("not a regular file but ") + kind_of_file(status.st_mode),
                path, "a regular file; write a pipe's contents to one first");
  }
  handle_ = handle;
  size_ = static_cast<i64>(status.st_size);
  modified_ns_ = modified_ns(status);
}

InputFile::~InputFile() { ::close(handle_); }

void InputFile::read(std::byte* to, i64 offset, i64 bytes) const {
  constexpr i64 kMostRead = i64{1} << 24;
  i64 done = 0;
  while (done < bytes) {
    stop_if_interrupted();
    const auto want = static_cast<std::size_t>(std::min(kMostRead, bytes - done));
    const auto got = retry([&] { return ::pread(handle_, to + done, want, static_cast<off_t>(offset + done)); });
    if (got < 0) {
      throw Error(ErrorKind::input, "MP-E103", "cannot read the file: " + reason(errno),
                  path_ + ", byte " + std::to_string(offset + done), kOtherCopy);
    }
    if (got == 0) {
      throw Error(ErrorKind::input, "MP-E103",
                  "the file ends early: " + std::to_string(bytes) + " bytes wanted, " + std::to_string(done) + " there",
                  path_ + ", byte " + std::to_string(offset), "it shrank while it was read, or a copy is incomplete");
    }
    done += static_cast<i64>(got);
  }
}

void InputFile::check_unchanged() const {
  struct stat status {};
  if (::fstat(handle_, &status) != 0) {
    throw Error(ErrorKind::input, "MP-E103", "cannot examine the file: " + reason(errno), path_, kOtherCopy);
  }
  if (static_cast<i64>(status.st_size) != size_ || modified_ns(status) != modified_ns_) {
    throw Error(ErrorKind::input, "MP-E104",
                "the file changed while it was read: " + std::to_string(size_) + " bytes at first, " +
                    std::to_string(status.st_size) + " now, or written again",
                path_, "again when nothing writes to it");
  }
}

std::string read_text_file(const std::string& path, i64 limit) {
  const InputFile file(path);
  if (file.size() > limit) {
    throw Error(
        ErrorKind::input, "MP-E105",
        "the file has " + std::to_string(file.size()) + " bytes, at most " + std::to_string(limit) + " are read", path,
        "a smaller file; is this the right one?");
  }
  std::string text(static_cast<std::size_t>(file.size()), '\0');
  file.read(reinterpret_cast<std::byte*>(text.data()), 0, file.size());
  file.check_unchanged();
  return text;
}

OutputFile::OutputFile(const std::string& path) : path_(path) {
  std::signal(SIGPIPE, SIG_IGN);
  if (path == "-") {
    std::fflush(stdout);
    handle_ = STDOUT_FILENO;
    return;
  }
  if (path.empty() || path.find('\0') != std::string::npos) {
    throw Error(ErrorKind::runtime, "MP-E106", "cannot write a file: the path is empty or holds a NUL", path,
                "the path of a file to write, or '-' for standard output");
  }
  struct stat status {};
  if (::stat(path.c_str(), &status) == 0) {
    if (S_ISDIR(status.st_mode)) fail("cannot write", EISDIR);
    if (!S_ISREG(status.st_mode)) {
      handle_ = retry([&] { return ::open(path.c_str(), O_WRONLY | O_CLOEXEC | O_NOCTTY); });
      if (handle_ < 0) fail("cannot open", errno);
      return;
    }
    if (::access(path.c_str(), W_OK) != 0) fail("cannot write", errno);  // a rename would not ask
  } else if (errno == ENAMETOOLONG) {
    fail("cannot create", errno);  // the temporary name is shorter
  }
  target_ = resolved(path);
  const std::size_t name_at = target_.rfind('/') + 1;  // 0 without a '/'
  static std::atomic<int> counter{0};
  for (int attempt = 0; attempt < 100; ++attempt) {
    // The prefix of the name only: the whole of it may already have the greatest length a file name can have.
    temporary_ = target_.substr(0, name_at) + "." + target_.substr(name_at, 64) + "." + std::to_string(::getpid()) +
                 "." + std::to_string(counter.fetch_add(1)) + ".tmp";
    slot_ = register_temporary(temporary_);
    if (slot_ < 0) fail("too many or too long output files", ENAMETOOLONG);
    handle_ = retry([&] { return ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666); });
    if (handle_ >= 0) break;
    const int error = errno;
    release_temporary(slot_);
    slot_ = -1;
    if (error != EEXIST) fail("cannot create", error);
  }
  if (handle_ < 0) fail("cannot create", EEXIST);
  if (S_ISREG(status.st_mode)) (void)::fchmod(handle_, status.st_mode & 07777);
}

OutputFile::~OutputFile() { discard(); }

void OutputFile::discard() noexcept {
  if (handle_ >= 0 && handle_ != STDOUT_FILENO) ::close(handle_);
  handle_ = -1;
  if (slot_ >= 0) {
    ::unlink(temporary_.c_str());
    release_temporary(slot_);
    slot_ = -1;
  }
}

void OutputFile::fail(const char* action, int error) {
  const bool standard_output = path_ == "-";
  discard();
  if (standard_output && error == EPIPE) throw ClosedPipe();
  const char* how = advice(error, "another place, on a disk without errors");
  if (error == EBADF && standard_output) how = "an open standard output, or -o FILE";
  if (error == ENOENT) how = "create the directory first";
  if (error == EACCES || error == EROFS || error == EPERM) how = "a path that may be written";
  throw Error(ErrorKind::runtime, "MP-E106", std::string(action) + ": " + reason(error),
              standard_output ? "standard output" : path_, how);
}

void OutputFile::write(std::string_view text) {
  write(reinterpret_cast<const std::byte*>(text.data()), static_cast<i64>(text.size()));
}

void OutputFile::write(const std::byte* data, i64 bytes) {
  constexpr i64 kMostWritten = i64{1} << 30;
  const i64 end = whole_ + bytes;
  while (bytes > 0) {
    const auto put =
        retry([&] { return ::write(handle_, data, static_cast<std::size_t>(std::min(kMostWritten, bytes))); });
    if (put < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {  // standard output may be a non-blocking pipe
      struct pollfd writable {
        handle_, POLLOUT, 0
      };
      (void)::poll(&writable, 1, -1);
      continue;
    }
    if (put < 0) {
      const int error = errno;
      if (!target_.empty()) (void)::ftruncate(handle_, whole_);  // a published file ends with its last whole write
      fail("cannot write", error);
    }
    data += put;
    bytes -= static_cast<i64>(put);
  }
  whole_ = end;
}

void OutputFile::rename_temporary() {
  if (::rename(temporary_.c_str(), target_.c_str()) != 0) fail("cannot rename the finished file", errno);
  release_temporary(std::exchange(slot_, -1));
  temporary_.clear();
}

void OutputFile::sync() {
  const bool regular = !target_.empty();
  if (regular && retry([&] { return ::fsync(handle_); }) != 0 && errno != EINVAL && errno != ENOTSUP) {
    fail("cannot write", errno);
  }
}

void OutputFile::publish() {
  sync();
  if (!temporary_.empty()) rename_temporary();
}

void OutputFile::commit() {
  if (handle_ == STDOUT_FILENO) {
    if (std::fflush(stdout) != 0) fail("cannot write", errno);
    return;
  }
  sync();
  const int handle = std::exchange(handle_, -1);
  if (::close(handle) != 0 && errno != EINTR) fail("cannot write", errno);
  if (!temporary_.empty()) rename_temporary();
}

void discard_uncommitted_files() noexcept {
  for (Slot& slot : slots) {
    if (slot.state.load() == kReady) ::unlink(slot.path.data());
  }
}

void reserve_standard_streams() noexcept {
  for (const int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (::fcntl(stream, F_GETFD) != -1 || errno != EBADF) continue;
    // The lowest free number, which is `stream`: the ones below are taken by now.
    (void)::open("/dev/null", stream == STDERR_FILENO ? O_WRONLY : O_RDONLY);
  }
}

bool same_file(const std::string& a, const std::string& b) {
  struct stat first {
  }, second{};
  return ::stat(a.c_str(), &first) == 0 && ::stat(b.c_str(), &second) == 0 && first.st_dev == second.st_dev &&
         first.st_ino == second.st_ino;
}

std::string why_no_folder(const std::string& path) {
  namespace fs = std::filesystem;
  std::error_code failure;
  fs::path folder = fs::absolute(path, failure).lexically_normal();
  while (folder.has_relative_path() && !fs::exists(fs::symlink_status(folder, failure))) folder = folder.parent_path();
  if (!fs::is_directory(folder, failure)) return reason(ENOTDIR);
  return ::access(folder.c_str(), W_OK | X_OK) == 0 ? std::string() : reason(errno);
}

}  // namespace misa
