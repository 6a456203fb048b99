#include <fmt/format.h>

#include "backends/backends.hpp"
#include "cli/commands.hpp"
#include "cli/options.hpp"
#include "cli/output.hpp"
#include "core/base/error.hpp"
#include "core/experiment/compare.hpp"
#include "core/platform/signals.hpp"
#include "core/report/text_table.hpp"
#include "core/workload/subset.hpp"
#include "core/workload/synthetic.hpp"

namespace misa::cli {
namespace {

constexpr const char* kSelftestExamples =
    "\nExamples:\n"
    "  misa-prof selftest                  # does compare see every mistake it should?\n"
    "  misa-prof selftest --seeds 100      # ... on the workloads of seeds 1 to 100\n"
    "\nExit codes: 0 every mistake was seen for what it is, 1 one was not.\n";

/// One mistake on the workloads of one seed or several, and what compare made of it.
struct Trial {
  std::string name, what, expected;
  std::string found;  ///< on the first seed on which it was not seen; else on the first
  u64 seed = 0;       ///< which is this
  i64 runs = 0, seen = 0;

  void add(const Trial& other) {
    if (seen == runs && other.seen < other.runs) {
      found = other.found;
      seed = other.seed;
    }
    runs += other.runs;
    seen += other.seen;
  }
};

std::string in_words(Choice choice, Verdict verdict, const std::optional<Fault>& fault) {
  return fmt::format("{}: {}", choice_name(choice), fault ? fault_name(*fault) : verdict_name(verdict));
}

/// The earliest thing that is wrong.
std::string first_wrong(const AgreementCase& compared) {
  for (const ChoiceAgreement& one : compared.choices) {
    if (!one.violations.empty()) return in_words(one.choice, Verdict::violation, one.violations.front().fault);
    if (one.missed > 0) return in_words(one.choice, Verdict::miss, std::nullopt);
  }
  return std::string(conclusion_name(compared.verdict));
}

class Selftest {
 public:
  explicit Selftest(u64 seed) : seed_(seed), oracle_(make_backend("oracle", 1)), backend_(make_backend("cpu", 1)) {
    SyntheticRequest request;
    request.preset = "natural";
    request.heads = 16;
    request.head_dim = 64;
    request.format = ValueFormat::e4m3;
    request.contexts = {700, 900};
    request.rows = 6;
    request.seed = seed;
    contiguous_ = generate(request);
    request.phase = Phase::decode;
    request.page_size = 16;
    request.next_n = 2;
    paged_ = generate(request);
    request.format = ValueFormat::mxfp4;
    mxfp4_ = generate(request);
    request.format = ValueFormat::e4m3;
    request.phase = Phase::prefill;
    request.compress_ratio = 4;
    request.contexts = {1400, 1800};
    request.spread = true;
    entries_ = generate(request);
    settings_.top_k = 48;
    settings_.active_heads = 4;
    settings_.block_size = 64;
    settings_.candidates = 160;
    settings_.blocks = 6;
  }

  std::vector<Trial> run() {
    for (const IndexerInfo& info : indexers()) {
      const auto no_mistake = [&](std::string_view of, const Workload& workload) {
        trial(fmt::format("no mistake, {}{}", info.name, of), "a correct result", "passed", info.name, workload);
      };
      no_mistake("", contiguous_);
      no_mistake(", paged", paged_);
      no_mistake(", MXFP4", mxfp4_);
      no_mistake(", entries", entries_);
    }
    for (const MistakeInfo& info : mistakes()) {
      settings_.forced = info.mistake == Mistake::dropped_forced ? Forced{2, 5} : Forced{};
      trial(std::string(info.name), info.what, in_words(info.shows_in, info.verdict, info.fault),
            info.indexer.empty() ? "dsa" : info.indexer,
            info.mxfp4     ? mxfp4_
            : info.entries ? entries_
            : info.paged   ? paged_
                           : contiguous_,
            info);
    }
    settings_.forced = {};
    vacuous();
    return std::move(trials_);
  }

 private:
  void trial(std::string name, std::string_view what, const std::string& expected, std::string_view indexer,
             const Workload& workload, const std::optional<MistakeInfo>& mistake = {},
             const std::vector<Choice>& choices = {kChoices.begin(), kChoices.end()}) {
    const AgreementReport report = compare({.exact = *oracle_,
                                            .backend = *backend_,
                                            .workload = workload,
                                            .specs = {make_indexer(indexer, settings_)},
                                            .settings = settings_,
                                            .choices = choices,
                                            .mistake = mistake});
    stop_if_interrupted();
    const std::string found = first_wrong(report.cases.front());
    trials_.push_back({std::move(name), std::string(what), expected, found, seed_, 1, found == expected ? 1 : 0});
  }

  void vacuous() {
    trial("nothing-compared", "no choice that both sides make is asked for", "nothing", "dsa", contiguous_, {},
          {Choice::heads});
    Workload blind = copy_of(contiguous_);
    std::copy(blind.ks.begin(), blind.ks.end(), blind.ke.begin());
    trial("sees-nothing", "no row sees a token", "nothing", "misa", blind);
    for (float& weight : contiguous_.weights.span<float>()) weight = 0;
    trial("all-zero", "every score is 0 on both sides", "nothing", "dsa", contiguous_);
  }

  u64 seed_;
  std::unique_ptr<Backend> oracle_, backend_;
  Workload contiguous_, paged_, mxfp4_, entries_;
  IndexerSettings settings_;
  std::vector<Trial> trials_;
};

}  // namespace

Work add_selftest(CLI::App& app) {
  CLI::App& command = *app.add_subcommand("selftest", "Make known mistakes and see whether compare finds each");
  const auto seed = std::make_shared<u64>(1);
  const auto seeds = std::make_shared<i64>(1);
  command.footer(kSelftestExamples);
  add_seed(command, *seed, "Seed of the workloads", kWorkloadGroup);
  add_count(command, "--seeds", *seeds, "Make every mistake on the workloads of this many seeds, from --seed on",
            kWorkloadGroup);
  return [seed, seeds] {
    std::vector<Trial> trials;  // of all seeds
    for (u64 one = *seed; one - *seed < static_cast<u64>(*seeds) && !interrupted(); ++one) {
      try {
        std::vector<Trial> more = Selftest(one).run();
        for (std::size_t i = 0; i < trials.size(); ++i) trials[i].add(more[i]);
        if (trials.empty()) trials = std::move(more);
      } catch (const Interrupted&) {
        break;
      }
    }
    TextTable table({{"mistake", false}, {"", false, 2}, {"expected", false, 1}, {"found", false}, {"seen", false}});
    i64 unseen = 0, all = 0;
    for (const Trial& trial : trials) {
      const bool seen = trial.seen == trial.runs;
      unseen += trial.runs - trial.seen;
      all += trial.runs;
      std::string count = seen ? "yes" : "NO";
      if (*seeds > 1) count += fmt::format(", {} of {} seeds", trial.seen, trial.runs);
      table.add({{trial.name},
                 {trial.what},
                 {trial.expected},
                 {seen ? trial.found : fmt::format("{} (seed {})", trial.found, trial.seed)},
                 {count, seen ? Style::good : Style::bad}});
    }
    write_text("-", table.text(terminal_width(StandardStream::output),
                               uses_colour(ColourMode::automatic, terminal_facts(StandardStream::output))));
    if (unseen > 0) {
      throw Error(ErrorKind::mismatch, "MP-E613", fmt::format("{} of {} were not seen as expected", unseen, all), {},
                  "reporting it: this is a bug of ours");
    }
  };
}

}  // namespace misa::cli
