#include "core/experiment/isolated_side.hpp"

#include <fmt/format.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/base/error.hpp"
#include "core/experiment/child_words.hpp"
#include "core/experiment/compare.hpp"
#include "core/experiment/rehearsal.hpp"
#include "core/platform/file.hpp"
#include "core/platform/private_folder.hpp"
#include "core/platform/shared_note.hpp"
#include "core/report/text.hpp"
#include "core/selection/golden.hpp"
#include "core/workload/placement.hpp"
#include "core/workload/subset.hpp"
#include "core/workload/trace.hpp"

namespace misa {
namespace {

constexpr const char* kTraceFile = "trace.safetensors";
constexpr const char* kSelectionFile = "selection.safetensors";
constexpr const char* kFactsFile = "facts.json";
constexpr const char* kStepFile = "step";

using Facts = nlohmann::json;

Facts error_facts(const Error& error) {
  return {{"kind", static_cast<int>(error.kind())},
          {"id", error.id()},
          {"what", error.what()},
          {"where", error.where()},
          {"how", error.how()}};
}

Error error_of(const Facts& facts) {
  return {static_cast<ErrorKind>(facts.at("kind").get<int>()), facts.at("id").get<std::string>(),
          facts.at("what").get<std::string>(), facts.at("where").get<std::string>(),
          facts.at("how").get<std::string>()};
}

void write_facts(const std::string& folder, const Facts& facts) {
  OutputFile file(folder + "/" + kFactsFile);
  file.write(facts.dump(-1, ' ', false, Facts::error_handler_t::replace));
  file.commit();
}

/// Why the backend cannot run an indexer; empty: it can.
std::string why_unable(const CompareRequest& request, const IndexerSpec& spec) {
  if (const auto reason = request.backend.why_not(spec, shape_of(request.workload))) return *reason;
  const auto refusal = refused_task(request.backend, request.workload, spec, request.fusion);
  return refusal ? std::string(refusal->what()) : std::string();
}

}  // namespace

bool blames_plugin(const Error& error) {
  return error.id() == "MP-E413" || error.id() == "MP-E414" || error.id() == "MP-E510";
}

std::string step_note_path(const std::string& folder) { return folder + "/" + kStepFile; }

void test_into(const std::string& folder, const CompareRequest& request) {
  Facts facts;
  try {
    const IndexerSpec& spec = request.specs.front();
    const Shape shape = shape_of(request.workload);
    const std::string unable = why_unable(request, spec);
    facts = {{"name", request.backend.name()},
             {"description", request.backend.description()},
             {"arithmetic", arithmetic_name(request.backend.arithmetic(shape))},
             {"unable", unable}};
    if (unable.empty()) {
      const PlanOptions options{
          .max_bytes = comparison_limits(request, {}, {}).front() + Placement::bytes_needed(request.workload),
          .fusion = request.fusion,
          .first_row = first_row(request.workload)};
      LocalSide side(request, nullptr);
      const TestedRun run = side.test(spec, options);
      write_golden(folder + "/" + kSelectionFile, request.workload, spec, *run.selection, {}, true);
      facts["idle"] = run.idle;
      for (const ReportCheck& check : run.checks) {
        facts["checks"].push_back({{"name", check.name}, {"passed", check.passed}, {"detail", check.detail}});
      }
    }
  } catch (const Error& error) {
    facts["error"] = error_facts(error);
  }
  write_facts(folder, facts);
}

void fail_into(const std::string& folder, const Error& error) { write_facts(folder, {{"error", error_facts(error)}}); }

TestedRun IsolatedSide::test(const IndexerSpec& spec, const PlanOptions& /*options*/) {
  const Isolation& isolation = *request_.isolation;
  const Workload& workload = request_.workload;
  PrivateFolder folder;
  const std::string trace = folder.file(kTraceFile), selection = folder.file(kSelectionFile);
  const std::string facts_path = folder.file(kFactsFile), note = folder.file(kStepFile);
  write_inputs(trace, workload, spec);
  const i64 left = request_.memory.host - workload.bytes();
  ChildCommand command = isolation.command(spec, trace, folder.path(), left);
  command.limit_seconds = isolation.limit_seconds;
  const ChildResult result = run_child(command);

  TestedRun run;
  const auto failed = [&](const std::string& detail) {
    run.checks.push_back({"plug-in", false, detail + last_words(result.errors)});
    return std::move(run);
  };
  const std::string step = read_note(note);
  const std::string ended =
      ending_words(result, command.words.front(), isolation.limit_seconds, step.empty() ? step : "in " + step);
  std::error_code failure;
  const bool began = !step.empty() || std::filesystem::exists(facts_path, failure);
  if (result.end == ChildEnd::exited && result.status != 0 && !began) {
    throw Error(ErrorKind::unavailable, "MP-E421", "the plug-in's process " + ended + last_words(result.errors),
                std::string(request_.backend.name()), "what it wrote");
  }
  if (!ended.empty()) return failed(ended);
  const Facts facts = Facts::parse(read_text_file(facts_path), nullptr, false);
  if (facts.is_discarded()) return failed("wrote no result");
  if (facts.contains("name")) {
    isolation.stand_in.describe(facts["name"], facts["description"],
                                find_arithmetic(facts["arithmetic"].get<std::string>()));
    run.unable = facts["unable"];
  }
  if (facts.contains("error")) {
    const Error error = error_of(facts["error"]);
    if (blames_plugin(error)) return failed(std::string(error.id()) + ": " + error.what());
    throw Error(error);
  }
  if (!run.unable.empty()) return run;
  run.idle = facts["idle"];
  run.checks.push_back({"plug-in", true, fmt::format("ran in a process of its own for {:.1f} s", result.seconds)});
  for (const Facts& check : facts["checks"]) {
    run.checks.push_back({check.at("name"), check.at("passed"), check.at("detail")});
  }
  run.selection = read_golden(selection, workload, spec, left, true);
  run.selection->name = isolation.stand_in.name();
  run.selection->description = isolation.stand_in.description();
  return run;
}

}  // namespace misa
