#include "core/platform/signals.hpp"

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <functional>
#include <string>

#include "core/platform/file.hpp"

namespace misa {
namespace {

/// The wait status of a child that runs `body` and then exits with 0. Signals have their default meaning at its start.
int status_of(const std::function<void()>& body) {
  const pid_t child = fork();
  if (child == 0) {
    // doctest handles signals of its own; a child must not report to it.
    for (int signal_number : {SIGINT, SIGTERM, SIGPIPE, SIGABRT}) signal(signal_number, SIG_DFL);
    body();
    _exit(0);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  return status;
}

void require(bool truth) {
  if (!truth) _exit(1);
}

}  // namespace

TEST_CASE("the first signal is only noted") {
  for (int signal_number : {SIGINT, SIGTERM}) {
    CAPTURE(signal_number);
    const int status = status_of([&] {
      install_signal_handlers();
      require(!interrupted());
      raise(signal_number);
      require(interrupted());
    });
    CHECK(WIFEXITED(status));
    CHECK(WEXITSTATUS(status) == 0);
  }
}

TEST_CASE("the second signal ends the process") {
  const int status = status_of([] {
    install_signal_handlers();
    raise(SIGINT);
    raise(SIGTERM);
  });
  REQUIRE(WIFSIGNALED(status));
  CHECK(WTERMSIG(status) == SIGTERM);
}

TEST_CASE("the second signal leaves no file behind") {
  const std::filesystem::path folder =
      std::filesystem::temp_directory_path() / ("misa-prof-signals-test-" + std::to_string(getpid()));
  std::filesystem::create_directory(folder);
  status_of([&] {
    install_signal_handlers();
    OutputFile file((folder / "result.json").string());
    file.write("{");
    require(!std::filesystem::is_empty(folder));
    raise(SIGTERM);
    raise(SIGTERM);
  });
  CHECK(std::filesystem::is_empty(folder));
  std::filesystem::remove_all(folder);
}

TEST_CASE("reraising tells the shell the signal, and does nothing without one") {
  const int status = status_of([] {
    install_signal_handlers();
    raise(SIGINT);
    reraise_interrupt();
  });
  REQUIRE(WIFSIGNALED(status));
  CHECK(WTERMSIG(status) == SIGINT);

  const int quiet = status_of([] {
    install_signal_handlers();
    reraise_interrupt();
  });
  CHECK(WIFEXITED(quiet));
}

TEST_CASE("a closed pipe is an error of write, not a signal") {
  const int status = status_of([] {
    install_signal_handlers();
    int ends[2];
    require(pipe(ends) == 0);
    close(ends[0]);
    require(write(ends[1], "x", 1) == -1);
  });
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
}

TEST_CASE("an interrupt that was ignored at the start stays ignored") {
  const int status = status_of([] {
    signal(SIGINT, SIG_IGN);
    install_signal_handlers();
    raise(SIGINT);
    raise(SIGINT);
    require(!interrupted());
  });
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
}

}  // namespace misa
