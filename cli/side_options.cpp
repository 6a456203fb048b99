#include "cli/side_options.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "cli/user_program.hpp"
#include "core/base/error.hpp"

namespace misa::cli {

void SideOptions::add(CLI::App& command) {
  add_backend(command, backend, "What the indexers run on", kBackendGroup);
  add_count(command, "--threads", threads, "Threads (default: the cores available)", kBackendGroup);
  add_kernels(command, kernels);
  add_flag(command, "--no-fusion", no_fusion, "One kernel per stage", kBackendGroup);
  add_flag(command, "--no-graph", no_graph, "On cuda: launch kernel by kernel, not as a graph", kBackendGroup);
}

SideB side_b(const SideOptions& a, const std::string& text) {
  SideB b{.options = a, .words = {}, .given = {}};
  CLI::App options("options of side B", "--ab");
  options.set_help_flag();
  options.allow_extras();
  b.options.indexer.add(options);
  options.remove_option(options.get_option("--indexer"));
  b.options.add(options);
  const auto refuse = [&](const std::string& what) {
    std::vector<std::string> names;
    for (const CLI::Option* option : options.get_options()) names.push_back("--" + option->get_lnames().front());
    throw Error(ErrorKind::usage, "MP-E494", what, fmt::format("--ab '{}'", text),
                fmt::format("options of side B: {}", fmt::join(names, ", ")));
  };
  char open_quote = 0;
  b.words = shell_words(text, open_quote);
  if (open_quote != 0) refuse(fmt::format("a quote is not closed: {}", open_quote));
  if (b.words.empty()) refuse("there is no option by which B differs; --aa compares A with itself");
  try {
    options.parse(std::vector<std::string>(b.words.rbegin(), b.words.rend()));
  } catch (const CLI::ParseError& error) {
    refuse(error.what());
  }
  if (const std::vector<std::string> extras = options.remaining(); !extras.empty()) {
    refuse("the sides cannot differ in '" + extras.front() + "'");
  }
  b.given = given_options(options);
  return b;
}

}  // namespace misa::cli
