#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <system_error>

#include "core/base/interrupt.hpp"
#include "core/base/steady_seconds.hpp"
#include "core/platform/child.hpp"

extern char** environ;

namespace misa {
namespace {

constexpr std::size_t kKept = 64 << 10;    // bytes of each stream
constexpr int kLook = 20;                  // milliseconds between two looks at a child that writes nothing
constexpr int kMostPieces = 64;            // read between two looks
constexpr double kDrainSeconds = 0.2;      // for what a child left in its pipes
constexpr int kFirstClosed = 4;            // 0 to 2 are the child's streams, 3 says why it cannot start
constexpr int kMostDescriptors = 1 << 16;  // closed one by one where the kernel has no close_range

// Groups of the children that run, kept where a signal handler may read them; 0 is a free place.
std::array<std::atomic<pid_t>, 8> child_groups{};
static_assert(std::atomic<pid_t>::is_always_lock_free, "the signal handler reads them");

void note_group(pid_t from, pid_t to) {
  for (std::atomic<pid_t>& group : child_groups) {
    pid_t expected = from;
    if (group.compare_exchange_strong(expected, to)) return;
  }
}

class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int number) : number_(number) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() { close(); }

  void take(int number) {
    close();
    number_ = number;
  }
  void close() {
    if (number_ >= 0) ::close(number_);
    number_ = -1;
  }
  int number() const { return number_; }
  bool open() const { return number_ >= 0; }

 private:
  int number_ = -1;
};

struct Pipe {
  Descriptor from, to;

  bool make() {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) return false;
    from.take(ends[0]);
    to.take(ends[1]);
    return true;
  }
};

std::string words_of_error(int error) { return std::generic_category().message(error); }

/// The file that `word` names, as a shell finds it; nothing: `reason` says why there is none.
std::optional<std::string> program_file(const std::string& word, std::string& reason) {
  reason = "there is no such program";
  const auto runs = [&](const std::string& path) {
    struct stat status {};
    if (::stat(path.c_str(), &status) != 0) {
      if (errno != ENOENT && errno != ENOTDIR) reason = words_of_error(errno);
      return false;
    }
    if (S_ISREG(status.st_mode) && ::access(path.c_str(), X_OK) == 0) return true;
    reason = S_ISDIR(status.st_mode) ? path + " is a directory" : path + " is not executable";
    return false;
  };
  if (word.empty()) return std::nullopt;
  if (word.find('/') != std::string::npos) return runs(word) ? std::optional(word) : std::nullopt;
  const char* const path = std::getenv("PATH");
  std::string_view folders = path != nullptr ? path : "/usr/bin:/bin";
  while (true) {
    const std::string_view folder = folders.substr(0, folders.find(':'));
    const std::string file = (folder.empty() ? "." : std::string(folder)) + "/" + word;
    if (runs(file)) return file;
    if (folder.size() == folders.size()) return std::nullopt;
    folders.remove_prefix(folder.size() + 1);
  }
}

std::string not_run(const std::string& file, int error) {
  if (error == ENOEXEC) return file + " is no program: a script begins with #! and its interpreter";
  if (error == ENOENT) return "the interpreter of " + file + " is missing";
  return file + ": " + words_of_error(error);
}

std::vector<char*> pointers_to(std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  for (std::string& text : texts) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

std::vector<std::string> environment_with(const std::vector<std::pair<std::string, std::string>>& added) {
  std::vector<std::string> texts;
  for (char** one = environ; *one != nullptr; ++one) {
    const std::string_view text = *one;
    const std::string_view name = text.substr(0, text.find('='));
    if (std::none_of(added.begin(), added.end(), [&](const auto& pair) { return pair.first == name; })) {
      texts.emplace_back(text);
    }
  }
  for (const auto& [name, value] : added) texts.push_back(name + "=" + value);
  return texts;
}

/// What the child does between fork and exec: only calls that are async-signal-safe.
struct Start {
  const char* file;
  char* const* words;
  char* const* environment;
  int input, output, errors, status;  ///< output and errors: -1 to share ours
  bool shares_streams;
  pid_t parent;

  [[noreturn]] void run() const {
    (void)::setpgid(0, 0);
    (void)::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(127);
    struct sigaction action {};
    action.sa_handler = SIG_DFL;
    for (const int number : {SIGPIPE, SIGINT, SIGTERM, SIGQUIT, SIGHUP, SIGCHLD}) ::sigaction(number, &action, nullptr);
    // A group in the background may write to its terminal.
    action.sa_handler = SIG_IGN;
    if (shares_streams) ::sigaction(SIGTTOU, &action, nullptr);
    sigset_t none;
    sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    ::dup2(input, STDIN_FILENO);
    if (output >= 0) ::dup2(output, STDOUT_FILENO);
    if (errors >= 0) ::dup2(errors, STDERR_FILENO);
    ::dup2(status, kFirstClosed - 1);
    ::fcntl(kFirstClosed - 1, F_SETFD, FD_CLOEXEC);
    if (::close_range(kFirstClosed, ~0U, 0) != 0) {
      for (int number = kFirstClosed; number < kMostDescriptors; ++number) ::close(number);
    }
    ::execve(file, words, environment);
    const int error = errno;
    (void)!::write(kFirstClosed - 1, &error, sizeof error);
    ::_exit(127);
  }
};

/// Reads what there is now, but not for ever; closes the stream at its end.
void read_some(Descriptor& from, CapturedText& text) {
  std::array<char, 1 << 16> piece;
  for (int pieces = 0; from.open() && pieces < kMostPieces; ++pieces) {
    const ssize_t got = ::read(from.number(), piece.data(), piece.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return;
    if (got <= 0) return from.close();
    text.bytes += got;
    text.tail.append(piece.data(), static_cast<std::size_t>(got));
    if (text.tail.size() > 2 * kKept) text.tail.erase(0, text.tail.size() - kKept);
  }
}

/// A child that has been started, until it is waited for.
class Child {
 public:
  Child(pid_t id, const ChildCommand& command, ChildResult& result) : id_(id), command_(command), result_(result) {
    note_group(0, id_);
  }

  /// Waits for the end of the child, and of its group.
  void wait(Descriptor& output, Descriptor& errors) {
    const double start = steady_seconds();
    std::optional<double> asked;  // when it was asked to end
    std::optional<double> ended;
    while (!ended || ((output.open() || errors.open()) && steady_seconds() - *ended < kDrainSeconds)) {
      std::array<pollfd, 2> streams{pollfd{output.number(), POLLIN, 0}, pollfd{errors.number(), POLLIN, 0}};
      (void)::poll(streams.data(), streams.size(), kLook);
      read_some(output, result_.output);
      read_some(errors, result_.errors);
      if (ended) continue;
      const double now = steady_seconds();
      if (has_ended()) {
        ended = now;
        ::kill(-id_, SIGKILL);  // what is left of its group
        continue;
      }
      const bool late = command_.limit_seconds && now - start >= *command_.limit_seconds;
      if (!asked && (late || interrupted())) {
        asked = now;
        result_.end = interrupted() ? ChildEnd::interrupted : ChildEnd::timed_out;
        ::kill(-id_, interrupted() && command_.shares_streams ? SIGINT : SIGTERM);
      } else if (!asked && command_.is_stuck && command_.is_stuck()) {
        asked = now;
        result_.end = ChildEnd::timed_out;
        ::kill(-id_, SIGKILL);
      } else if (asked && now - *asked >= command_.stop_seconds) {
        ::kill(-id_, SIGKILL);
      }
    }
    result_.seconds = *ended - start;
    note_group(id_, 0);
    int status = 0;
    while (::waitpid(id_, &status, 0) < 0 && errno == EINTR) {
    }
    if (asked) return;
    if (WIFEXITED(status)) {
      result_.end = ChildEnd::exited;
      result_.status = WEXITSTATUS(status);
      return;
    }
    result_.end = ChildEnd::signalled;
    const char* const name = ::sigabbrev_np(WTERMSIG(status));
    result_.signal = name != nullptr ? "SIG" + std::string(name) : "signal " + std::to_string(WTERMSIG(status));
  }

 private:
  /// Leaves the child unreaped, so that its group cannot become another's.
  bool has_ended() const {
    siginfo_t info{};
    return ::waitid(P_PID, static_cast<id_t>(id_), &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == id_;
  }

  pid_t id_;
  const ChildCommand& command_;
  ChildResult& result_;
};

void keep_end(std::string& text) {
  if (text.size() > kKept) text.erase(0, text.size() - kKept);
}

}  // namespace

ChildResult run_child(const ChildCommand& command) {
  ChildResult result;
  const std::optional<std::string> file = program_file(command.words.front(), result.reason);
  if (!file) return result;
  std::vector<std::string> words = command.words, environment = environment_with(command.environment);
  const std::vector<char*> word_pointers = pointers_to(words), environment_pointers = pointers_to(environment);
  Pipe output, errors, status;
  Descriptor nothing(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  const bool captures = !command.shares_streams;
  if (!nothing.open() || !status.make() || (captures && (!output.make() || !errors.make()))) {
    result.reason = words_of_error(errno);
    return result;
  }
  const Start start{.file = file->c_str(),
                    .words = word_pointers.data(),
                    .environment = environment_pointers.data(),
                    .input = nothing.number(),
                    .output = output.to.number(),
                    .errors = errors.to.number(),
                    .status = status.to.number(),
                    .shares_streams = command.shares_streams,
                    .parent = ::getpid()};
  const pid_t id = ::fork();
  if (id == 0) start.run();
  if (id < 0) {
    result.reason = words_of_error(errno);
    return result;
  }
  (void)::setpgid(id, id);  // both do it: whoever comes first
  for (Descriptor* one : {&output.to, &errors.to, &status.to}) one->close();
  int error = 0;
  ssize_t got = 0;
  while ((got = ::read(status.from.number(), &error, sizeof error)) < 0 && errno == EINTR) {
  }
  if (got == static_cast<ssize_t>(sizeof error)) {
    while (::waitpid(id, nullptr, 0) < 0 && errno == EINTR) {
    }
    result.reason = not_run(*file, error);
    return result;
  }
  for (const Descriptor* one : {&output.from, &errors.from}) {
    if (one->open()) (void)::fcntl(one->number(), F_SETFL, O_NONBLOCK);
  }
  result.reason.clear();
  Child(id, command, result).wait(output.from, errors.from);
  keep_end(result.output.tail);
  keep_end(result.errors.tail);
  return result;
}

void kill_children() noexcept {
  for (const std::atomic<pid_t>& group : child_groups) {
    if (const pid_t id = group.load(); id != 0) ::kill(-id, SIGKILL);
  }
}

}  // namespace misa
