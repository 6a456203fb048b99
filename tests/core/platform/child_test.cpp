#include "core/platform/child.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>

#include "core/base/interrupt.hpp"
#include "core/base/steady_seconds.hpp"
#include "core/platform/private_folder.hpp"
#include "core/platform/shared_note.hpp"

namespace misa {
namespace {

/// Runs a line of a shell, which is the program here.
ChildResult shell(const std::string& line, std::optional<double> limit = {}) {
  return run_child({.words = {"/bin/sh", "-c", line}, .limit_seconds = limit});
}

/// Whether a process of that number runs; one that has ended and waits to be reaped does not.
bool runs(const std::string& number) {
  std::ifstream file("/proc/" + number + "/stat");
  std::string text((std::istreambuf_iterator<char>(file)), {});
  return !text.empty() && text.substr(text.rfind(')') + 2, 1) != "Z";
}

/// Waits until it has gone, for a second at most.
bool goes(const std::string& number) {
  const double start = steady_seconds();
  while (runs(number) && steady_seconds() - start < 1) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  return !runs(number);
}

std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

}  // namespace

TEST_CASE("a child's status and what it wrote on each stream come back") {
  for (const int status : {0, 1, 3, 127, 255}) {
    const ChildResult result = shell("echo out; echo err >&2; exit " + std::to_string(status));
    CAPTURE(status);
    CHECK(result.end == ChildEnd::exited);
    CHECK(result.status == status);
    CHECK(result.output.tail == "out\n");
    CHECK(result.errors.tail == "err\n");
    CHECK(result.errors.bytes == 4);
    CHECK(result.seconds >= 0);
    CHECK(result.seconds < 5);
  }
}

TEST_CASE("a child that ends by a signal is told by the signal's name") {
  for (const auto& [name, given] :
       {std::pair("SIGSEGV", "SEGV"), std::pair("SIGABRT", "ABRT"), std::pair("SIGKILL", "KILL")}) {
    const ChildResult result = shell(std::string("echo before >&2; kill -") + given + " $$");
    CAPTURE(result.signal);
    CHECK(result.end == ChildEnd::signalled);
    CHECK(result.signal == name);
    CHECK(result.errors.tail == "before\n");
  }
}

TEST_CASE("a child that runs too long is ended, and one that does not hear is killed two seconds later") {
  const ChildResult hears = shell("echo here; exec sleep 60", 0.2);
  CHECK(hears.end == ChildEnd::timed_out);
  CHECK(hears.output.tail == "here\n");
  CHECK(hears.seconds >= 0.2);
  CHECK(hears.seconds < 1.5);
  const ChildResult deaf = shell("trap '' TERM; while :; do sleep 0.05; done", 0.2);
  CHECK(deaf.end == ChildEnd::timed_out);
  CHECK(deaf.seconds >= 2.2);
  CHECK(deaf.seconds < 5);
}

TEST_CASE("a child that is stuck is killed at once") {
  int asked = 0;
  const ChildResult result = run_child({.words = {"/bin/sh", "-c", "trap '' TERM; while :; do sleep 0.05; done"},
                                        .is_stuck = [&] { return ++asked > 5; }});
  CHECK(result.end == ChildEnd::timed_out);
  CHECK(asked == 6);
  CHECK(result.seconds < 1.5);
}

TEST_CASE("a program that is not there, or is none, is not started, and the reason is given") {
  const PrivateFolder folder;
  const std::string plain = folder.path() + "/plain", broken = folder.path() + "/broken",
                    orphan = folder.path() + "/orphan";
  std::ofstream(plain) << "text";
  std::ofstream(broken) << "no #! line";
  std::ofstream(orphan) << "#!/no/such/interpreter\n";
  REQUIRE(chmod(broken.c_str(), 0700) == 0);
  REQUIRE(chmod(orphan.c_str(), 0700) == 0);
  const std::pair<std::string, const char*> cases[] = {{"no-such-program-at-all", "no such program"},
                                                       {folder.path() + "/none", "no such program"},
                                                       {"", "no such program"},
                                                       {plain, "is not executable"},
                                                       {folder.path(), "is a directory"},
                                                       {broken, "is no program"},
                                                       {orphan, "interpreter"}};
  for (const auto& [word, reason] : cases) {
    const ChildResult result = run_child({.words = {word}});
    CAPTURE(result.reason);
    CHECK(result.end == ChildEnd::not_started);
    CHECK_MESSAGE(result.reason.find(reason) != std::string::npos, result.reason);
  }
}

TEST_CASE("of more than pipes hold the end is kept and all is counted") {
  const ChildResult result = shell("head -c 3000000 /dev/zero | tr '\\0' a; printf end; head -c 70000 /dev/zero >&2");
  CHECK(result.end == ChildEnd::exited);
  CHECK(result.output.bytes == 3000003);
  CHECK(result.output.tail.size() == 65536);
  CHECK(result.output.tail.substr(65536 - 5) == "aaend");
  CHECK(result.errors.bytes == 70000);
  CHECK(result.errors.tail.size() == 65536);
}

TEST_CASE("a child that never stops writing is ended all the same") {
  const ChildResult result = shell("exec cat /dev/zero", 0.3);
  CHECK(result.end == ChildEnd::timed_out);
  CHECK(result.output.tail.size() == 65536);
  CHECK(result.seconds < 2);
}

TEST_CASE("a grandchild that holds the pipes open delays nothing, and does not outlive the child") {
  const ChildResult result = shell("sleep 60 & echo $!");
  CHECK(result.end == ChildEnd::exited);
  CHECK(result.seconds < 2);
  CHECK(goes(first_line(result.output.tail)));
  const ChildResult late = shell("(trap '' TERM; sleep 60) & echo $!; sleep 60", 0.2);
  CHECK(late.end == ChildEnd::timed_out);
  CHECK(goes(first_line(late.output.tail)));
}

TEST_CASE("arguments arrive as they are given: no shell reads them") {
  const std::vector<std::string> given{"a b",       "it's", "\"q\"", "$HOME", "~",  "*",
                                       "; echo no", "|",    "\\",    "",      "\n", "ä"};
  std::vector<std::string> words{"/bin/sh", "-c", "for a in \"$@\"; do printf '%s\\0' \"$a\"; done", "sh"};
  words.insert(words.end(), given.begin(), given.end());
  std::string expected;
  for (const std::string& word : given) expected += word + '\0';
  CHECK(run_child({.words = words}).output.tail == expected);
}

TEST_CASE("a child reads nothing, and has no descriptor of ours") {
  const int leaks = open("/dev/null", O_RDONLY);  // without O_CLOEXEC
  REQUIRE(dup2(leaks, 77) == 77);
  int ours[2];
  REQUIRE(pipe(ours) == 0);
  REQUIRE(write(ours[1], "ours", 4) == 4);
  const int before = dup(STDIN_FILENO);
  REQUIRE(dup2(ours[0], STDIN_FILENO) == STDIN_FILENO);
  CHECK(shell("cat; echo $?", 5).output.tail == "0\n");
  dup2(before, STDIN_FILENO);
  for (const int one : {before, ours[0], ours[1]}) close(one);
  const ChildResult result = run_child({.words = {"ls", "/proc/self/fd"}});
  close(leaks);
  close(77);
  CHECK(result.output.tail == "0\n1\n2\n3\n");  // 3 is the folder that ls reads
}

TEST_CASE("a child leaves no descriptor behind") {
  const auto count = [] {
    return std::distance(std::filesystem::directory_iterator("/proc/self/fd"), std::filesystem::directory_iterator());
  };
  const auto before = count();
  for (int i = 0; i < 20; ++i) shell("echo x");
  (void)run_child({.words = {"no-such-program-at-all"}});
  CHECK(count() == before);
}

TEST_CASE("a child is the first of a group of its own, and its signals have their usual meaning") {
  CHECK(shell("set -- $(cat /proc/$$/stat); test $5 = $$ && echo own").output.tail == "own\n");
  const auto before = std::signal(SIGPIPE, SIG_IGN);
  CHECK(shell("sh -c 'kill -PIPE $$'; echo $?").output.tail == "141\n");
  std::signal(SIGPIPE, before);
}

TEST_CASE("variables are added to the environment, or replace what is there") {
  REQUIRE(setenv("MISA_CHILD_TEST", "old", 1) == 0);
  const ChildResult result = run_child({.words = {"/bin/sh", "-c", "echo $MISA_CHILD_TEST $MISA_CHILD_NEW; echo $PATH"},
                                        .environment = {{"MISA_CHILD_TEST", "new"}, {"MISA_CHILD_NEW", "1"}}});
  CHECK(result.output.tail == "new 1\n" + std::string(std::getenv("PATH")) + "\n");
}

TEST_CASE("an interruption ends the child too") {
  std::thread user([] {
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    interruption = true;
  });
  const ChildResult result = shell("sleep 60 & echo $!; wait");
  user.join();
  interruption = false;
  CHECK(result.end == ChildEnd::interrupted);
  CHECK(result.seconds < 1.5);
  CHECK(goes(first_line(result.output.tail)));
}

TEST_CASE("a private folder is its owner's alone and goes away with what is in it") {
  std::string path;
  {
    PrivateFolder folder;
    path = folder.path();
    struct stat status {};
    REQUIRE(stat(path.c_str(), &status) == 0);
    CHECK((status.st_mode & 0777) == 0700);
    std::ofstream(folder.file("trace")) << "x";
    std::filesystem::create_directory(path + "/more");
    std::ofstream(path + "/more/file") << "x";
  }
  CHECK_FALSE(std::filesystem::exists(path));
}

TEST_CASE("a signal handler removes the files of a private folder that were named") {
  PrivateFolder folder;
  std::ofstream(folder.file("trace")) << "x";
  discard_private_folders();
  CHECK_FALSE(std::filesystem::exists(folder.path()));
}

TEST_CASE("a note is read from a process that has crashed, and is cut where it is too long") {
  const PrivateFolder folder;
  const std::string path = folder.path() + "/note";
  CHECK(read_note(path).empty());
  SharedNote note(path);
  CHECK(read_note(path).empty());
  if (fork() == 0) {
    SharedNote(path).set("score");
    raise(SIGKILL);
  }
  const double start = steady_seconds();
  while (read_note(path).empty() && steady_seconds() - start < 5) std::this_thread::yield();
  CHECK(read_note(path) == "score");
  note.set(std::string(1000, 'x'));
  CHECK(read_note(path) == std::string(255, 'x'));
  note.set("run");
  CHECK(read_note(path) == "run");
  note.set({});
  CHECK(read_note(path).empty());
}

}  // namespace misa
