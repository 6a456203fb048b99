#include "cli/describe.hpp"

#include <algorithm>

#include "cli/build_facts.hpp"

namespace misa::cli {

Origin origin_of(const WorkloadOptions& workload, bool host, bool top_k_asked) {
  Origin origin;
  origin.tool_version = program_version();
  origin.build = build_facts();
  origin.host = host;
  if (workload.recorded()) {
    origin.trace_path = workload.trace_path();
  } else {
    origin.seed = workload.seed;
  }
  origin.top_k_asked = top_k_asked;
  return origin;
}

ReportWorkload describe_workload(const WorkloadOptions& options, const Workload& workload, i64 top_k,
                                 bool top_k_asked) {
  return misa::describe_workload(workload, top_k, origin_of(options, false, top_k_asked));
}

ReportEnvironment describe_environment(const std::vector<Backend*>& backends, i64 threads, bool host) {
  return misa::describe_environment(backends, threads, {.tool_version = {}, .build = build_facts(), .host = host});
}

std::map<std::string, std::string> backend_facts(Backend& backend, const Shape& shape) {
  return misa::backend_facts(backend, shape, {.tool_version = std::string(program_version()), .build = build_facts()});
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
