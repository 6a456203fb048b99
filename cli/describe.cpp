#include "cli/describe.hpp"

#include <algorithm>

#include "cli/build_facts.hpp"

namespace misa::cli {

Origin origin_of(const WorkloadOptions& workload, bool host, bool top_k_asked) {
  const bool recorded = workload.recorded();
  return {.tool_version = std::string(program_version()),
          .build = build_facts(),
          .host = host,
          .seed = recorded ? std::nullopt : std::optional(workload.seed),
          .trace_path = recorded ? std::optional(workload.trace_path()) : std::nullopt,
          .top_k_asked = top_k_asked};
}

std::vector<std::string> command_words(const CLI::App& app, const CLI::App& command) {
  std::vector<std::string> words{app.get_name(), command.get_name()};
  for (const CLI::Option* option : command.get_options()) {
    if (option->count() == 0 || option->get_lnames().empty()) continue;
    const std::string name = "--" + option->get_lnames().front();
    for (const std::string& value : option->results()) {
      words.push_back(name);
      if (option->get_items_expected_max() > 0) words.push_back(value);
    }
  }
  return words;
}

std::string shell_word(const std::string& word) {
  constexpr std::string_view kPlain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_./=,:+@%";
  if (!word.empty() && word.find_first_not_of(kPlain) == std::string::npos) return word;
  std::string text = "'";
  for (const char c : word) text += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return text + "'";
}

std::string command_text(const std::vector<std::string>& words, const std::vector<std::string_view>& without) {
  std::string line;
  for (std::size_t i = 0; i < words.size(); ++i) {
    const bool option = words[i].substr(0, 2) == "--";
    const bool has_value = option && i + 1 < words.size() && words[i + 1].substr(0, 2) != "--";
    const bool left_out = option && std::find(without.begin(), without.end(), words[i]) != without.end();
    if (!left_out) {
      line += (line.empty() ? "" : " ") + shell_word(words[i]);
      if (has_value) line += " " + shell_word(words[i + 1]);
    }
    if (has_value) ++i;
  }
  return line;
}

}  // namespace misa::cli
