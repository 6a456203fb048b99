#include "cli/compare_options.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <sstream>

#include "backends/backends.hpp"
#include "cli/isolation.hpp"
#include "cli/user_program.hpp"
#include "core/base/error.hpp"
#include "core/base/suggest.hpp"
#include "core/platform/shared_note.hpp"
#include "core/selection/golden.hpp"
#include "core/selection/id_file.hpp"

namespace misa::cli {
namespace fs = std::filesystem;
namespace {

constexpr const char* kCompareGroup = "Comparison";
constexpr const char* kRobustGroup = "Robustness";

std::vector<std::string_view> choice_names() {
  std::vector<std::string_view> names;
  for (const Choice choice : kChoices) names.push_back(choice_name(choice));
  return names;
}

/// True of the options that say what is compared; --indexer only says how much of it.
bool names_inputs(const CLI::Option& option) {
  const std::string& group = option.get_group();
  return (group == kWorkloadGroup || group == kIndexerGroup) && !option.check_lname("indexer");
}

/// Without such an option on the command line, those that the golden of --against was made with.
void adopt_made_with(CLI::App& command, const std::string& against) {
  for (const CLI::Option* option : command.get_options()) {
    if (names_inputs(*option) && option->count() > 0) return;
  }
  std::vector<std::string> goldens;
  std::error_code failure;
  if (fs::is_directory(against, failure)) {
    for (const auto& entry : fs::directory_iterator(against, failure)) {
      if (entry.path().extension() == ".safetensors") goldens.push_back(entry.path().string());
    }
  } else if (fs::exists(against, failure)) {
    goldens.push_back(against);
  }
  if (goldens.empty()) return;
  const std::string& path = *std::min_element(goldens.begin(), goldens.end());
  std::istringstream lines(golden_metadata(path)["made_with"]);
  for (std::string line; std::getline(lines, line);) {
    const std::size_t equals = std::min(line.find('='), line.size());
    CLI::Option* option = command.get_option_no_throw("--" + line.substr(0, equals));
    const auto refuse = [&](const std::string& what) {
      throw Error(ErrorKind::input, "MP-E602", "made_with has '" + line + "': " + what, path,
                  "the --trace, or --model, --workload, --seed and --rows, that it was made with");
    };
    if (equals < line.size()) refuse_program(line.substr(equals + 1), path);
    if (option == nullptr || equals == line.size() || !names_inputs(*option)) {
      refuse("no option of a workload or an indexer");
    }
    try {
      option->add_result(line.substr(equals + 1));
      option->run_callback();
    } catch (const CLI::ParseError& error) {
      refuse(error.what());
    }
  }
}

/// The indexers of which there are goldens, in the order of `list`.
std::vector<std::string> indexers_of_goldens(const std::string& against) {
  std::error_code failure;
  if (!fs::is_directory(against, failure)) {
    return fs::exists(against, failure) ? std::vector{golden_metadata(against)["indexer"]} : std::vector<std::string>{};
  }
  std::vector<std::string> names;
  for (const IndexerInfo& info : all_indexers()) {
    const std::string name(info.name);
    if (fs::exists(fs::path(against) / (name + ".safetensors"), failure)) names.push_back(name);
  }
  return names;
}

}  // namespace

void CompareOptions::add(CLI::App& command) {
  workload.add_trace(command);
  workload.add_synthetic(command);
  workload.add_row(command);
  indexer.add(command);
  add_backend(command, backend, "The side that is tested, exec:'PROGRAM {trace} {selection}' or one of", kCompareGroup);
  add_text(command, "--against", against, "A backend, or a golden: a file or a folder that --write-golden wrote",
           "NAME", kCompareGroup)
      ->capture_default_str();
  add_list(command, "--stages", stages,
           fmt::format("Comma-separated: {} (default: all)", fmt::join(choice_names(), ", ")), "LIST", kCompareGroup);
  add_text(command, "--selection", selection,
           "Ids that a kernel of yours selected, to be judged: a .npy or safetensors file", "FILE", kCompareGroup);
  add_decimal(command, "--time-limit", limit_seconds, "Seconds that a program or a plug-in may take for each indexer",
              "SECONDS", kCompareGroup, 0, 1e6);
  add_name(command, "--ids", ids, fmt::format("What they count: {}", fmt::join(names_of(kIdKinds), ", ")),
           kCompareGroup);
  add_text(command, "--arithmetic", arithmetic,
           "How the kernel rounded that selected them, or a trace's topk (misa-prof list --arithmetic)", "NAME",
           kCompareGroup);
  add_count(command, "--max-miss", max_miss, "Misses that still pass", kCompareGroup, 0);
  add_text(command, "--against-indexer", against_indexer,
           "Rate what --indexer selects against what this one does, on the same backend: quality, not agreement",
           "NAME", kCompareGroup);
  add_decimal(command, "--min-recall", min_recall, "Least mean recall that passes, with --against-indexer", "SHARE",
              kCompareGroup, 0, 1);
  add_count(command, "--threads", threads, "Threads (default: the cores available)", kBackendGroup);
  add_device(command, device);
  add_kernels(command, kernels);
  workload.add_memory(command);
  add_flag(command, "--no-fusion", no_fusion, "One kernel per stage", kBackendGroup);

  add_count(command, "--repeat-bitwise", repeats, "Run so many times more and demand the same bits", kRobustGroup, 0);
  add_flag(command, "--thread-sweep", sweep, "Run with 1 to --threads threads and demand the same bits", kRobustGroup);
  add_flag(command, "--poison-unseen", poison, "Fill every key that no row sees with NaN and demand the same bits",
           kRobustGroup);
  add_flag(command, "--robust", robust, "All of the above, three repeats", kRobustGroup);
  add_text(
      command, "--inject", inject,
      fmt::format("Make a mistake on purpose, to see what it looks like: {}", fmt::join(names_of(mistakes()), ", ")),
      "NAME", kRobustGroup);
  add_flag(command, "--dry-run", dry, "Compare nothing: print what would run, and its memory", kRobustGroup);

  output.add(command);
  add_text(command, "--write-golden", golden, "Write what --backend chose into this folder, if all cases pass", "DIR",
           kOutputGroup);
  add_text(command, "--bundle", bundle, "Write inputs, outputs and report into this folder, if a case fails", "DIR",
           kOutputGroup);
  add_flag(command, "--force", force, "Let --write-golden and --bundle overwrite what is there", kOutputGroup);
  add_flag(command, "--annotate", annotate, "Print failures as GitHub annotations on standard error", kOutputGroup);
  add_config(command, config);
  command.add_option("--isolated", isolated)->group("");  // hidden: no user types it
}

void CompareOptions::check() const {
  choices();
  mistake();
  id_kind();
  program();
  if (!arithmetic.empty() && !find_arithmetic(arithmetic)) {
    throw Error(ErrorKind::usage, "MP-E062", "there is no arithmetic called '" + arithmetic + "'", {},
                fmt::format("one of {}", fmt::join(names_of(arithmetics()), ", ")));
  }
  const bool judges_ids = !selection.empty() || is_program(backend);
  if (judges_ids && (against != "oracle" || !against_indexer.empty())) {
    throw Error(ErrorKind::usage, "MP-E060",
                std::string(selection.empty() ? "a program" : "--selection") +
                    " is judged by the formulas: there is no other side",
                {}, "without --against and --against-indexer");
  }
  if (!against_indexer.empty()) {
    if (against != "oracle" || !golden.empty()) {
      throw Error(ErrorKind::usage, "MP-E039", "--against-indexer rates quality on one backend: there is no other side",
                  {}, "without --against and --write-golden");
    }
    const std::vector<std::string> names = indexer.listed();
    if (std::find(names.begin(), names.end(), against_indexer) != names.end()) {
      const std::string other = against_indexer == "dsa" ? "misa" : "dsa";
      throw Error(ErrorKind::usage, "MP-E041", against_indexer + " against itself says nothing", {},
                  names.size() > 1 ? "--indexer without " + against_indexer : "--against-indexer " + other);
    }
    return;
  }
  if (min_recall) {
    throw Error(
        ErrorKind::usage, "MP-E040", "--min-recall needs an indexer to rate against", {},
        indexer.listed() == std::vector<std::string>{"dsa"} ? "--against-indexer misa" : "--against-indexer dsa");
  }
  if (against == backend) {
    throw Error(ErrorKind::usage, "MP-E041", backend + " against itself says nothing", {},
                "--against oracle; --repeat-bitwise to see whether it is deterministic");
  }
  std::error_code failure;
  if (is_backend(against) || fs::exists(against, failure)) return;
  const std::string near = nearest(against, names_of(backends()));
  throw Error(near.empty() ? ErrorKind::input : ErrorKind::usage, "MP-E606",
              "'" + against + "' is no backend, and no file or folder of goldens", "--against",
              near.empty() ? "misa-prof compare --write-golden " + shell_word(against) : near);
}

void CompareOptions::complete(CLI::App& command) {
  const bool listed = command.get_option("--indexer")->count() > 0;
  if (!listed && (!selection.empty() || is_program(backend))) indexer.names = {"dsa"};
  if (!is_backend(against)) {
    against = shipped_path(against);
    adopt_made_with(command, against);
    const std::vector<std::string> names = indexers_of_goldens(against);
    if (!listed && !names.empty()) indexer.names = names;
  }
  // Without --indexer, all of them but the one they are rated against.
  if (!listed) std::erase(indexer.names, against_indexer);
}

std::string CompareOptions::made_with(const CLI::App& command) {
  std::string lines;
  for (const CLI::Option* option : command.get_options()) {
    if (!names_inputs(*option)) continue;
    for (const std::string& value : option->results()) lines += option->get_lnames().front() + "=" + value + "\n";
  }
  return lines;
}

std::vector<std::string> CompareOptions::input_files() const {
  std::vector<std::string> files = workload.profile_files();
  if (workload.recorded()) files.push_back(workload.trace_path());
  if (!config.empty()) files.push_back(config);
  if (!is_backend(against)) files.push_back(against);
  if (!selection.empty()) files.push_back(selection);
  return files;
}

int CompareOptions::device_number() const { return cli::device_number(device, {backend, against}); }

std::vector<Choice> CompareOptions::choices() const {
  const std::vector<std::string_view> known = choice_names();
  const std::vector<std::string> asked = split_at_commas(stages);
  for (const std::string& name : asked) {
    if (std::find(known.begin(), known.end(), name) != known.end()) continue;
    throw Error(ErrorKind::usage, "MP-E036", "there is no stage '" + name + "' to compare", {},
                suggestion(name, known));
  }
  std::vector<Choice> chosen(kChoices.begin(), kChoices.end());
  std::erase_if(chosen, [&](Choice choice) {
    return !asked.empty() && std::find(asked.begin(), asked.end(), choice_name(choice)) == asked.end();
  });
  return chosen;
}

IdKind CompareOptions::id_kind() const {
  for (const IdKindInfo& info : kIdKinds) {
    if (info.name == ids) return info.kind;
  }
  throw Error(ErrorKind::usage, "MP-E063", "--ids is '" + ids + "'", {}, suggestion(ids, names_of(kIdKinds)));
}

std::optional<UserProgram> CompareOptions::program() const {
  if (!is_program(backend) || !selection.empty()) return std::nullopt;
  return UserProgram{.text = backend,
                     .words = program_words(backend),
                     .ids = id_kind(),
                     .arithmetic = arithmetic,
                     .limit_seconds = limit_seconds};
}

void CompareOptions::add_selection(Workload& loaded, std::vector<Warning>& warnings) const {
  if (id_kind() == IdKind::page && !loaded.paged() && (!selection.empty() || program())) {
    throw Error(ErrorKind::usage, "MP-E063", "--ids is 'page', and the keys of the workload have no pages", loaded.name,
                "--ids slot, if they count rows of k");
  }
  if (!selection.empty()) {
    if (!loaded.topk.empty()) {
      warnings.push_back({"MP-W021", "the recorded topk is not judged: --selection is in its place", loaded.name});
    }
    IdFile file = read_ids(selection, loaded, workload.memory_limit() - loaded.bytes());
    loaded.topk = std::move(file.ids);
    loaded.topk_row = std::move(file.rows);
    loaded.metadata.erase("topk_arithmetic");
    if (!file.arithmetic.empty()) {
      if (!find_arithmetic(file.arithmetic)) {
        throw Error(ErrorKind::input, "MP-E213", "unknown topk_arithmetic '" + file.arithmetic + "'",
                    selection + ", metadata",
                    fmt::format("--arithmetic, one of {}", fmt::join(names_of(arithmetics()), ", ")));
      }
      loaded.metadata["topk_arithmetic"] = file.arithmetic;
    }
  }
  if (!arithmetic.empty() && !program()) loaded.metadata["topk_arithmetic"] = arithmetic;
}

std::optional<MistakeInfo> CompareOptions::mistake() const {
  const std::optional<MistakeInfo> found = find_mistake(inject);
  if (found || inject.empty()) return found;
  throw Error(ErrorKind::usage, "MP-E037", "there is no mistake called '" + inject + "'", {},
              suggestion(inject, names_of(mistakes())));
}

bool CompareOptions::isolates() const { return is_plugin(backend) && isolated.empty() && selection.empty() && !dry; }

Isolation CompareOptions::isolation(StandIn& stand_in) const {
  const auto command = [this](const IndexerSpec& spec, const std::string& trace, const std::string& folder,
                              i64 max_bytes) {
    std::vector<std::string> words = arguments_of(spec);
    words.insert(words.begin(), {"compare", "--trace", trace, "--backend", backend, "--isolated", folder,
                                 "--max-memory", std::to_string(max_bytes)});
    const auto add = [&](const char* option, const std::string& value) { words.insert(words.end(), {option, value}); };
    if (threads) add("--threads", std::to_string(*threads));
    if (device) add("--device", std::to_string(*device));
    for (const std::string& kernel : kernels) add("--kernel", kernel);
    if (repeats > 0) add("--repeat-bitwise", std::to_string(repeats));
    for (const auto& [given, flag] : {std::pair(no_fusion, "--no-fusion"),
                                      {sweep, "--thread-sweep"},
                                      {poison, "--poison-unseen"},
                                      {robust, "--robust"}}) {
      if (given) words.emplace_back(flag);
    }
    return program_again(backend, words);
  };
  return {.stand_in = stand_in, .command = command, .limit_seconds = limit_seconds};
}

std::unique_ptr<Backend> CompareOptions::tested(i64 thread_number) const {
  std::function<void(std::string_view)> note;
  if (!isolated.empty()) {
    note = [step = std::make_shared<SharedNote>(step_note_path(isolated))](std::string_view name) { step->set(name); };
  }
  return make_backend(backend, static_cast<int>(thread_number), device_number(), forced_kernels(kernels), note);
}

Sides CompareOptions::sides(i64 thread_number) const {
  Sides sides;
  sides.exact = make_backend("oracle", static_cast<int>(thread_number));
  const int number = device_number();
  const auto side = [&](const std::string& name, const ForcedKernels& forced) -> std::unique_ptr<Backend> {
    if (!dry) return make_backend(name, static_cast<int>(thread_number), number, forced);
    sides.dry.push_back(dry_side(name, thread_number, number, forced));
    return std::move(sides.dry.back().backend);
  };
  if (!selection.empty() || is_program(backend)) return sides;
  if (isolates()) {
    sides.backend = std::make_unique<StandIn>(make_backend("cpu", static_cast<int>(thread_number)), backend);
  } else {
    sides.backend = isolated.empty() || dry ? side(backend, forced_kernels(kernels)) : tested(thread_number);
  }
  if (against_indexer.empty() && is_backend(against) && against != "oracle") sides.other = side(against, {});
  return sides;
}

CompareRequest CompareOptions::request(const Sides& sides, const Workload& loaded, i64 thread_number) const {
  IndexerOptions asked = indexer;
  if (!selection.empty() && !asked.top_k && !loaded.topk.empty()) {
    asked.top_k = std::min(loaded.topk.shape[1], default_top_k(loaded).k);
  }
  const IndexerSettings settings = asked.settings(loaded, workload.seed);
  const std::vector<Choice> compared = choices();
  const bool tokens = std::find(compared.begin(), compared.end(), Choice::tokens) != compared.end();
  return {.exact = *sides.exact,
          .backend = sides.backend ? *sides.backend : *sides.exact,
          .other = sides.other.get(),
          .golden = is_backend(against) ? std::string() : against,
          .against_indexer = against_indexer,
          .min_recall = min_recall,
          .selection = selection.empty() ? std::nullopt : std::optional(GivenSelection{selection, id_kind()}),
          .program = program(),
          .isolation = isolates() ? std::optional(isolation(dynamic_cast<StandIn&>(*sides.backend))) : std::nullopt,
          .workload = loaded,
          .specs = indexer.specs(settings),
          .settings = settings,
          .recorded = tokens || !against_indexer.empty(),  // what is recorded is tokens
          .choices = compared,
          .max_miss = max_miss,
          .mistake = mistake(),
          .repeats = robust ? std::max<i64>(repeats, 3) : repeats,
          .sweep = sweep || robust,
          .poison = poison || robust,
          .threads = thread_number,
          .with_threads = [this](i64 number) { return tested(number); },
          .memory = workload.memory_limits(),
          .fusion = !no_fusion};
}

bool is_backend(const std::string& name) {
  return is_plugin(name) ||
         std::any_of(backends().begin(), backends().end(), [&](const BackendInfo& info) { return info.name == name; });
}

}  // namespace misa::cli
