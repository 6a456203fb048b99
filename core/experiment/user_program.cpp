#include "core/experiment/user_program.hpp"

#include <fmt/format.h>

#include <filesystem>
#include <utility>

#include "core/base/error.hpp"
#include "core/experiment/child_words.hpp"
#include "core/platform/child.hpp"
#include "core/platform/private_folder.hpp"
#include "core/workload/trace.hpp"

namespace misa {
namespace {

void replace_all(std::string& text, const std::string& from, const std::string& to) {
  for (std::size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size()) {
    text.replace(at, from.size(), to);
  }
}

}  // namespace

ProgramRun run_program(const UserProgram& program, const Workload& workload, const IndexerSpec& spec, i64 max_bytes) {
  PrivateFolder folder;
  const std::string trace = folder.file("trace.safetensors");
  const std::string selection = folder.file("selection.npy");  // numpy.save adds .npy to other names
  write_inputs(trace, workload, spec);
  ChildCommand command{.words = program.words, .limit_seconds = program.limit_seconds};
  for (std::string& word : command.words) {
    replace_all(word, "{indexer}", spec.name);
    replace_all(word, "{top_k}", std::to_string(spec.top_k));
    replace_all(word, "{trace}", trace);
    replace_all(word, "{selection}", selection);
  }
  const ChildResult result = run_child(command);
  ProgramRun run{.selected = {}, .check = {"program", false, ""}};
  std::string& found = run.check.detail;
  found = ending_words(result, command.words.front(), program.limit_seconds);
  std::error_code failure;
  if (!found.empty()) {
    found += last_words(result.errors);
  } else if (!std::filesystem::exists(std::filesystem::symlink_status(selection, failure))) {
    found = "wrote no selection" + last_words(result.errors);
  } else {
    try {
      IdFile ids = read_ids(selection, workload, max_bytes);
      const i64 rows = static_cast<i64>(ids.rows.size());
      run.check.passed = rows == workload.rows();  // a dump may leave rows out, a kernel may not
      found = run.check.passed ? fmt::format("ended after {:.1f} s", result.seconds)
                               : fmt::format("selected in {} of {} rows", rows, workload.rows());
      run.selected = std::move(ids);
    } catch (const Error& error) {
      std::string where = error.where();
      replace_all(where, selection, "{selection}");
      found = fmt::format("wrote a file that is no selection: {}: {}; {}{}", error.id(), error.what(), where,
                          last_words(result.errors));
    }
  }
  return run;
}

}  // namespace misa
