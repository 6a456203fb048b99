#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

// Every refusal of a file says what to try. The sources are read, so that a new one cannot be forgotten.

namespace misa {
namespace {

std::string text_of(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

/// The arguments of the call whose opening bracket is at `open`.
std::vector<std::string> arguments(std::string_view text, std::size_t open) {
  std::vector<std::string> found{""};
  int depth = 0;
  char quoted = 0;
  for (std::size_t i = open; i < text.size(); ++i) {
    const char c = text[i];
    if (quoted != 0) {
      if (c == '\\') found.back() += text[i++];
      if (text[i] == quoted) quoted = 0;
    } else if (c == '"' || c == '\'') {
      quoted = c;
    } else if (c == '(' || c == '{' || c == '[') {
      if (++depth == 1) continue;
    } else if (c == ')' || c == '}' || c == ']') {
      if (--depth == 0) return found;
    } else if (c == ',' && depth == 1) {
      found.emplace_back();
      continue;
    }
    const bool blank = c == '\n' || (c == ' ' && (found.back().empty() || found.back().back() == ' '));
    if (!blank) found.back() += text[i];
  }
  return {};
}

struct Call {
  std::string place;
  std::vector<std::string> arguments;
};

/// Calls of `name`, definitions left out.
std::vector<Call> calls(const std::filesystem::path& path, std::string_view name) {
  const std::string text = text_of(path);
  std::vector<Call> found;
  for (std::size_t at = text.find(name); at != std::string::npos; at = text.find(name, at + 1)) {
    const std::size_t line_begin = text.rfind('\n', at) + 1;
    if (text.substr(line_begin, at - line_begin).find("void ") != std::string::npos) continue;
    const auto line = 1 + std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(at), '\n');
    found.push_back({path.filename().string() + ":" + std::to_string(line), arguments(text, at + name.size() - 1)});
  }
  return found;
}

}  // namespace

TEST_CASE("every error of a file that is read or written says what to try") {
  const std::filesystem::path core = std::filesystem::path(MISA_SOURCE_DIR) / "core";
  std::vector<std::filesystem::path> sources{core / "platform/file_posix.cpp"};
  for (const char* folder : {"workload", "selection"}) {
    for (const auto& entry : std::filesystem::directory_iterator(core / folder)) {
      if (entry.path().extension() == ".cpp") sources.push_back(entry.path());
    }
  }
  std::size_t errors = 0, rejections = 0;
  for (const std::filesystem::path& source : sources) {
    const auto advises = [](const Call& call) {
      const std::string& how = call.arguments.back();
      return how != "{}" && how.find("\"\"") == std::string::npos;
    };
    for (const Call& call : calls(source, " Error(")) {
      ++errors;
      CAPTURE(call.place);
      REQUIRE_FALSE(call.arguments.empty());
      if (call.arguments[0] == "ErrorKind::internal") continue;
      CHECK(call.arguments.size() == 5);
      CHECK(advises(call));
    }
    for (const Call& call : calls(source, " reject(")) {
      ++rejections;
      CAPTURE(call.place);
      const bool of_generator = source.filename().string().substr(0, 9) == "synthetic";
      CHECK(call.arguments.size() == (of_generator ? 2 : 4));
      CHECK(advises(call));
    }
  }
  CHECK(errors >= 15);
  CHECK(rejections >= 100);
}

}  // namespace misa
