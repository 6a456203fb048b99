#include "cli/user_program.hpp"

#include "core/base/error.hpp"

namespace misa::cli {
namespace {

constexpr std::string_view kProgram = "exec:";
constexpr const char* kExample = "--backend \"exec:python3 my.py {trace} {selection}\"";

[[noreturn]] void refuse_command(const std::string& what) {
  throw Error(ErrorKind::usage, "MP-E066", what, "--backend", kExample);
}

/// What `\` means before `c`, inside of double quotes.
bool escapes(char c) { return c == '"' || c == '\\' || c == '$' || c == '`'; }

}  // namespace

bool is_program(std::string_view backend) { return backend.starts_with(kProgram); }
std::vector<std::string> shell_words(std::string_view text, char& open_quote) {
  std::vector<std::string> words;
  bool in_word = false;
  char& quote = open_quote;
  quote = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    const bool blank = c == ' ' || c == '\t' || c == '\n';
    if (quote == 0 && blank) {
      in_word = false;
      continue;
    }
    if (!in_word) words.emplace_back();
    in_word = true;
    if (quote != 0 && c == quote) {
      quote = 0;
    } else if (quote == 0 && (c == '\'' || c == '"')) {
      quote = c;
    } else if (c == '\\' && quote != '\'' && i + 1 < text.size() && (quote == 0 || escapes(text[i + 1]))) {
      words.back() += text[++i];
    } else {
      words.back() += c;
    }
  }
  return words;
}

std::vector<std::string> program_words(std::string_view backend) {
  char quote = 0;
  std::vector<std::string> words = shell_words(backend.substr(kProgram.size()), quote);
  if (quote != 0) refuse_command(std::string("a quote is not closed: ") + quote);
  if (words.empty() || words.front().empty()) refuse_command("exec: names no program");
  for (const char* place : {"{trace}", "{selection}"}) {
    bool found = false;
    for (const std::string& word : words) found = found || word.find(place) != std::string::npos;
    if (!found) refuse_command(std::string("the command line of exec: has no ") + place);
  }
  return words;
}

}  // namespace misa::cli
