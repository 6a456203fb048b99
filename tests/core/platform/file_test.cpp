#include "core/platform/file.hpp"

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <utility>

#include "core/base/error.hpp"
#include "tests/support/skip.hpp"

namespace misa {
namespace {

namespace fs = std::filesystem;

/// Root may read everything: a test of refusals does not run as root.
struct Nobody {
  const bool was_root = ::geteuid() == 0;
  const bool refused = !was_root || ::seteuid(65534) == 0;
  Nobody() = default;
  Nobody(const Nobody&) = delete;
  Nobody& operator=(const Nobody&) = delete;
  ~Nobody() {
    if (was_root) static_cast<void>(::seteuid(0) == 0);
  }
};

/// A directory of its own, gone with the test.
struct Directory {
  fs::path path;
  Directory() {
    std::string name = (fs::temp_directory_path() / "misa-file-XXXXXX").string();
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    path = name;
  }
  Directory(const Directory&) = delete;
  Directory& operator=(const Directory&) = delete;
  ~Directory() { fs::remove_all(path); }

  std::string operator/(const char* name) const { return (path / name).string(); }
  std::string with(const char* name, const std::string& text) const {
    std::ofstream(path / name, std::ios::binary) << text;
    return *this / name;
  }
  std::ptrdiff_t files() const { return std::distance(fs::directory_iterator(path), fs::directory_iterator()); }
};

std::string text_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// "<kind> <id>" of the Error that `action` throws, "" when it throws none.
template <class Action>
std::string error_of(Action action) {
  try {
    action();
  } catch (const Error& error) {
    INFO(error.what(), "; ", error.where());
    CHECK(std::string(error.what()).size() > 0);
    return std::to_string(static_cast<int>(error.kind())) + " " + error.id();
  }
  return "";
}

void read_all(const std::string& path) { (void)read_text_file(path); }

}  // namespace

TEST_CASE("a file is read where it is asked for") {
  const Directory directory;
  const InputFile file(directory.with("text", "hello, world"));
  CHECK(file.size() == 12);
  std::array<char, 5> bytes{};
  file.read(reinterpret_cast<std::byte*>(bytes.data()), 7, 5);
  CHECK(std::string(bytes.data(), 5) == "world");
  CHECK_NOTHROW(file.check_unchanged());
}

TEST_CASE("what is not a regular file is refused without waiting for it") {
  const Directory directory;
  const std::string pipe = directory / "pipe";
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  CHECK(error_of([&] { read_all(pipe); }) == "3 MP-E102");
  CHECK(error_of([&] { read_all(directory.path.string()); }) == "3 MP-E102");
  CHECK(error_of([&] { read_all("/dev/null"); }) == "3 MP-E102");
}

TEST_CASE("a file that cannot be opened is an input error") {
  const Directory directory;
  CHECK(error_of([&] { read_all(directory / "missing"); }) == "3 MP-E101");
  CHECK(error_of([&] { read_all(""); }) == "3 MP-E101");
  CHECK(error_of([&] { read_all(std::string("a\0b", 3)); }) == "3 MP-E101");
}

TEST_CASE("a file that may not be read is an input error" *
          doctest::skip(testing::lacks(Nobody().refused, "user but root"))) {
  const Directory directory;
  const std::string secret = directory.with("secret", "text");
  REQUIRE(::chmod(directory.path.c_str(), 0755) == 0);
  REQUIRE(::chmod(secret.c_str(), 0) == 0);
  const Nobody nobody;
  REQUIRE(nobody.refused);
  CHECK(error_of([&] { read_all(secret); }) == "3 MP-E101");
}

TEST_CASE("a file that shrinks while it is read is an error, not a signal") {
  const Directory directory;
  const std::string path = directory.with("text", std::string(100'000, 'x'));
  const InputFile file(path);
  fs::resize_file(path, 50'000);
  std::string bytes(100'000, '\0');
  CHECK(error_of([&] { file.read(reinterpret_cast<std::byte*>(bytes.data()), 0, 100'000); }) == "3 MP-E103");
  CHECK(error_of([&] { file.check_unchanged(); }) == "3 MP-E104");
}

TEST_CASE("a file that was rewritten with the same size is noticed") {
  const Directory directory;
  const std::string path = directory.with("text", "before");
  const InputFile file(path);
  const std::array<struct timespec, 2> times{{{1, 0}, {1, 0}}};
  REQUIRE(::utimensat(AT_FDCWD, path.c_str(), times.data(), 0) == 0);
  CHECK(error_of([&] { file.check_unchanged(); }) == "3 MP-E104");
}

TEST_CASE("a text file larger than its limit is refused") {
  const Directory directory;
  const std::string path = directory.with("text", "12345");
  CHECK(read_text_file(path, 5) == "12345");
  CHECK(error_of([&] { (void)read_text_file(path, 4); }) == "3 MP-E105");
}

TEST_CASE("an output appears whole at commit and not before") {
  const Directory directory;
  const std::string path = directory.with("out", "old");
  OutputFile file(path);
  file.write("new ");
  file.write("text");
  CHECK(text_of(path) == "old");
  file.commit();
  CHECK(text_of(path) == "new text");
  CHECK(directory.files() == 1);
}

TEST_CASE("an output that is not committed leaves nothing behind") {
  const Directory directory;
  {
    OutputFile file(directory / "out");
    file.write("text");
    CHECK(directory.files() == 1);
  }
  CHECK(directory.files() == 0);
}

TEST_CASE("a published output has its name at once, grows by what is written, and stays whatever follows") {
  const Directory directory;
  const std::string path = directory.with("result", "old");
  for (const bool committed : {true, false}) {
    CAPTURE(committed);
    {
      OutputFile file(path);
      file.write("header\n");
      CHECK(text_of(path) != "header\n");
      file.publish();
      CHECK(text_of(path) == "header\n");
      file.write("case\n");
      CHECK(text_of(path) == "header\ncase\n");
      discard_uncommitted_files();
      if (committed) file.commit();
    }
    CHECK(text_of(path) == "header\ncase\n");
    CHECK(directory.files() == 1);
    directory.with("result", "old");
  }
}

TEST_CASE("a signal handler can remove unfinished outputs and leaves finished ones") {
  const Directory directory;
  OutputFile finished(directory / "finished"), unfinished(directory / "unfinished");
  finished.write("text");
  finished.commit();
  unfinished.write("text");
  CHECK(directory.files() == 2);
  discard_uncommitted_files();
  CHECK(directory.files() == 1);
  CHECK(text_of(directory / "finished") == "text");
}

TEST_CASE("an output keeps the permissions and the symbolic link it replaces") {
  const Directory directory;
  const std::string path = directory.with("target", "old");
  REQUIRE(::chmod(path.c_str(), 0640) == 0);
  fs::create_symlink("target", directory.path / "link");
  OutputFile file(directory / "link");
  file.write("new");
  file.commit();
  CHECK(fs::is_symlink(directory.path / "link"));
  CHECK(text_of(path) == "new");
  struct stat status {};
  REQUIRE(::stat(path.c_str(), &status) == 0);
  CHECK((status.st_mode & 07777) == 0640);
}

TEST_CASE("an output may have the longest name a file can have") {
  const Directory directory;
  const std::string path = directory / std::string(255, 'n').c_str();
  OutputFile file(path);
  file.write("text");
  file.commit();
  CHECK(text_of(path) == "text");
}

TEST_CASE("a device is written in place, never replaced") {
  OutputFile file("/dev/null");
  file.write("text");
  file.commit();
  CHECK(fs::is_character_file("/dev/null"));
}

TEST_CASE("a device that refuses the bytes is a runtime error" *
          doctest::skip(testing::lacks(fs::exists("/dev/full"), "/dev/full"))) {
  OutputFile file("/dev/full");
  CHECK(error_of([&] { file.write("text"); }) == "10 MP-E106");
}

TEST_CASE("an output that cannot be made is a runtime error") {
  const Directory directory;
  CHECK(error_of([&] { OutputFile file(directory.path.string()); }) == "10 MP-E106");
  CHECK(error_of([&] { OutputFile file(directory / "missing/out"); }) == "10 MP-E106");
  CHECK(error_of([&] { OutputFile file(""); }) == "10 MP-E106");
  CHECK(directory.files() == 0);
}

TEST_CASE("a closed pipe on standard output ends the run quietly") {
  std::array<int, 2> ends{};
  REQUIRE(::pipe(ends.data()) == 0);
  const int saved = ::dup(STDOUT_FILENO);
  bool closed = false;
  {
    OutputFile output("-");
    ::dup2(ends[1], STDOUT_FILENO);
    ::close(ends[0]);
    ::close(ends[1]);
    try {
      output.write("text");
    } catch (const ClosedPipe&) {
      closed = true;
    }
    ::dup2(saved, STDOUT_FILENO);
    ::close(saved);
  }
  CHECK(closed);
}

TEST_CASE("two names of one file are the same file") {
  const Directory directory;
  const std::string path = directory.with("a", "text"), other = directory.with("b", "text");
  fs::create_hard_link(path, directory / "c");
  CHECK(same_file(path, directory / "c"));
  CHECK_FALSE(same_file(path, other));
  CHECK_FALSE(same_file(directory / "missing", directory / "missing"));
}

}  // namespace misa
