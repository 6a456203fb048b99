#include "cli/compare_options.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "backends/backends.hpp"
#include "core/agreement/faults.hpp"
#include "core/base/error.hpp"
#include "core/base/suggest.hpp"
#include "core/workload/placement.hpp"

namespace misa::cli {
namespace {

constexpr const char* kCompareGroup = "Comparison";
constexpr const char* kRobustGroup = "Robustness";

}  // namespace

void CompareOptions::add(CLI::App& command) {
  workload.add_trace(command);
  workload.add_synthetic(command);
  indexer.add(command);

  const auto add_text = [&](const char* name, std::string& value, const std::string& what, const char* type,
                            const char* group) {
    return command.add_option(name, value, what)->check(not_empty())->type_name(type)->group(group);
  };
  add_backend(command, backend, "The side that is tested", kCompareGroup);
  add_text("--against", against, "A backend, or a golden: a file or a folder that --write-golden wrote", "NAME",
           kCompareGroup)
      ->capture_default_str();
  std::vector<std::string_view> choice_names;
  for (const Choice choice : kChoices) choice_names.push_back(choice_name(choice));
  command
      .add_option("--stages", stages, fmt::format("Comma-separated: {} (default: all)", fmt::join(choice_names, ", ")))
      ->type_name("LIST")
      ->expected(1)
      ->allow_extra_args(false)
      ->take_all()
      ->group(kCompareGroup);
  add_count(command, "--max-miss", max_miss, "Misses that still pass", kCompareGroup, 0);
  add_text("--against-indexer", against_indexer,
           "Rate what --indexer selects against what this one does, on the same backend: quality, not agreement",
           "NAME", kCompareGroup);
  add_decimal(command, "--min-recall", min_recall, "Least mean recall that passes, with --against-indexer", "SHARE",
              kCompareGroup, 0, 1);
  add_count(command, "--threads", threads, "Threads (default: the cores available)", kBackendGroup);
  add_device(command, device);
  workload.add_memory(command);
  command.add_flag("--no-fusion", no_fusion, "One kernel per stage")->disable_flag_override()->group(kBackendGroup);

  add_count(command, "--repeat-bitwise", repeats, "Run so many times more and demand the same bits", kRobustGroup, 0);
  const auto add_flag = [&](const char* name, bool& value, const char* what) {
    command.add_flag(name, value, what)->disable_flag_override()->group(kRobustGroup);
  };
  add_flag("--thread-sweep", sweep, "Run with 1 to --threads threads and demand the same bits");
  add_flag("--poison-unseen", poison, "Fill every key that no row sees with NaN and demand the same bits");
  add_flag("--robust", robust, "All of the above, three repeats");
  std::vector<std::string_view> names;
  for (const MistakeInfo& info : mistakes()) names.push_back(info.name);
  add_text("--inject", inject,
           fmt::format("Make a mistake on purpose, to see what it looks like: {}", fmt::join(names, ", ")), "NAME",
           kRobustGroup);
  add_flag("--dry-run", dry, "Compare nothing: print what would run, and its memory");

  output.add(command);
  add_text("--write-golden", golden, "Write what --backend chose into this folder, if all cases pass", "DIR",
           kOutputGroup);
  add_text("--bundle", bundle, "Write inputs, outputs and report into this folder, if a case fails", "DIR",
           kOutputGroup);
  command.add_flag("--force", force, "Let --write-golden and --bundle overwrite what is there")
      ->disable_flag_override()
      ->group(kOutputGroup);
  command.add_flag("--annotate", annotate, "Print failures as GitHub annotations on standard error")
      ->disable_flag_override()
      ->group(kOutputGroup);
  add_text("--config", config, "TOML file of long option names; the command line wins", "FILE", kOutputGroup);
}

int CompareOptions::device_number() const { return cli::device_number(device, {backend, against}); }

std::vector<Choice> CompareOptions::choices() const {
  if (stages.empty()) return {kChoices.begin(), kChoices.end()};
  std::vector<std::string_view> names;
  for (const Choice choice : kChoices) names.push_back(choice_name(choice));
  const std::vector<std::string> asked = split_at_commas(stages);
  for (const std::string& name : asked) {
    if (std::find(names.begin(), names.end(), name) != names.end()) continue;
    throw Error(ErrorKind::usage, "MP-E036", "there is no stage '" + name + "' to compare", {},
                suggestion(name, names));
  }
  std::vector<Choice> chosen;
  for (const Choice choice : kChoices) {
    if (std::find(asked.begin(), asked.end(), choice_name(choice)) != asked.end()) chosen.push_back(choice);
  }
  return chosen;
}

MistakeInfo CompareOptions::mistake() const {
  if (const auto info = find_mistake(inject)) return *info;
  throw Error(ErrorKind::usage, "MP-E037", "there is no mistake called '" + inject + "'", {},
              suggestion(inject, names_of(mistakes())));
}

namespace {

/// What gives `spec` an occasion for a mistake that it found none for on `workload`.
std::string occasion_for(const MistakeInfo& info, const IndexerSpec& spec, const Workload& workload) {
  i64 longest = 0;
  for (std::size_t m = 0; m < workload.ks.size(); ++m)
    longest = std::max<i64>(longest, workload.ke[m] - workload.ks[m]);
  if (longest == 0) return "rows that see tokens";
  const auto above = [](const char* option, i64 most) {
    return most > 1 ? fmt::format("{} below {}", option, most) : std::string("rows that see more tokens");
  };
  const i64 heads = workload.heads();
  const bool all_heads = spec.heads && spec.heads->active >= heads;
  const std::string fewer_heads = heads > 1 ? fmt::format("--active-heads below the workload's {}", heads)
                                            : std::string("a workload of more than 1 head");
  switch (info.mistake) {
    case Mistake::swapped_token: return above("--top-k", longest);
    case Mistake::duplicate_token: return longest > 1 ? "--top-k 2" : "rows that see more tokens";
    case Mistake::truncated_row: return "rows that see tokens";
    case Mistake::dropped_candidate:
      return spec.rerank ? above("--top-k and --candidates", longest) : "--indexer misa-dagger";
    case Mistake::dropped_block: return spec.blocks ? "--blocks 2, and rows that see more blocks" : "--indexer hisa";
    case Mistake::wrong_head:
      if (!spec.heads) return "--indexer misa";
      return all_heads ? fewer_heads : "heads that differ by more than rounding";
    case Mistake::stale_linear:
      if (!spec.heads || !spec.heads->linear) return "--indexer misa-lr";
      return all_heads ? fewer_heads : "rows of different queries";
    case Mistake::off_by_one_page: return workload.paged() ? "rows that see more than a page" : "a decode workload";
    case Mistake::stale_scale: return "a workload of FP8 keys with a score above 0; --no-fusion";
    case Mistake::nan_score: return "--no-fusion";
  }
  return {};
}

}  // namespace

Selection run_side(const CompareOptions& options, Backend& backend, const IndexerSpec& spec, Arbiter& arbiter,
                   const PlanOptions& plan_options) {
  if (options.inject.empty()) {
    const Placement placement(backend, arbiter.workload());
    return run_selection(backend, spec, placement.problem(), plan_options);
  }
  const MistakeInfo info = options.mistake();
  auto outcome = run_with_mistake(info.mistake, backend, spec, arbiter, plan_options);
  if (outcome) return std::move(*outcome);
  throw Error(ErrorKind::usage, "MP-E038",
              fmt::format("{} gives no occasion for the mistake '{}' on this workload", spec.name, info.name), {},
              occasion_for(info, spec, arbiter.workload()));
}

std::vector<i64> comparison_limits(const CompareOptions& options, const Backend& exact, const Backend& side,
                                   const Backend* other, const std::vector<IndexerSpec>& specs,
                                   const std::optional<IndexerSpec>& reference, const Workload& workload, i64 copies) {
  constexpr i64 kGuards = 1 << 20;  // what poisons a side's memory
  const Problem outline = outline_of(workload);
  const i64 placed = Placement::bytes_needed(workload);
  const i64 limit = options.workload.memory_limit();
  // The outcomes of both sides; a third one of a run that must give the same bits, or copies that are written.
  const bool again =
      options.robust || options.repeats > 0 || options.sweep || options.poison || !options.inject.empty();
  const bool writes = !options.bundle.empty() || !options.golden.empty();
  const i64 outcomes = 2 + (again ? 1 : 0) + (writes ? 2 : 0);
  i64 goldens = 0;
  for (const IndexerSpec& spec : specs) {
    if (!options.golden.empty()) goldens += selection_bytes(spec, outline.shape);
  }

  std::vector<i64> limits;
  for (const IndexerSpec& spec : specs) {
    i64 outcome = 0, plan = 0, plan_beside = 0;
    i64 on_device = std::numeric_limits<i64>::max();
    for (const IndexerSpec* one : {&spec, reference ? &*reference : nullptr}) {
      if (one == nullptr) continue;
      outcome = std::max(outcome, selection_bytes(*one, outline.shape));
      for (const Backend* backend : {&side, other != nullptr ? other : &exact}) {
        const PlanBytes bytes = Plan::bytes_needed(*backend, *one, outline, true);
        if (backend->free_bytes()) {
          on_device = std::min(on_device, options.workload.memory_limit(*backend) - placed);
          plan_beside = std::max(plan_beside, bytes.host + kFetchedColumnBytes * bytes.columns);
        } else {
          plan = std::max(plan, bytes.least());
          plan_beside = std::max(plan_beside, placed + kGuards + kFetchedColumnBytes * bytes.columns);
        }
      }
    }
    const i64 beside = (1 + copies) * workload.bytes() + Arbiter::bytes_needed(workload) + goldens + outcomes * outcome;
    const i64 judging = reference ? 0 : Arbiter::row_bytes(exact, spec, outline);
    const i64 needed = beside + std::max(plan_beside + plan, judging);
    if (needed > limit) {
      throw Error(ErrorKind::runtime, "MP-E502",
                  fmt::format("comparing {} needs {} bytes (workload {}, what both sides and the arbiter keep {}, "
                              "a side's run {}, a row to be judged {}), the limit is {}",
                              spec.name, needed, workload.bytes(), beside - workload.bytes(), plan_beside + plan,
                              judging, limit),
                  workload.name, "a larger --max-memory, fewer --rows or a shorter context");
    }
    limits.push_back(std::min(limit - beside - plan_beside, on_device));
  }
  return limits;
}

bool is_backend(const std::string& name) {
  return std::any_of(backends().begin(), backends().end(), [&](const BackendInfo& info) { return info.name == name; });
}

}  // namespace misa::cli
