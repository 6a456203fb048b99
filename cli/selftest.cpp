#include <fmt/format.h>

#include <functional>

#include "backends/backends.hpp"
#include "cli/commands.hpp"
#include "cli/options.hpp"
#include "cli/output.hpp"
#include "core/agreement/compare_sides.hpp"
#include "core/agreement/faults.hpp"
#include "core/base/error.hpp"
#include "core/platform/signals.hpp"
#include "core/report/text_table.hpp"
#include "core/workload/subset.hpp"
#include "core/workload/synthetic.hpp"

namespace misa::cli {
namespace {

constexpr const char* kExamples =
    "\nExamples:\n"
    "  misa-prof selftest                  # does compare see every mistake it should?\n"
    "  misa-prof selftest --seeds 100      # ... on the workloads of seeds 1 to 100\n"
    "\nExit codes: 0 every mistake was seen for what it is, 1 one was not.\n";

/// One mistake and what compare made of it.
struct Trial {
  std::string name, what, expected, found;
  bool seen() const { return found == expected; }
};

/// One mistake on the workloads of several seeds: how often it was seen, and what was found where it was not.
struct Tally {
  Trial trial;  ///< of the first seed on which it was not seen; else of the first
  u64 seed = 0;
  i64 runs = 0, seen = 0;
};

std::string in_words(Choice choice, Verdict verdict, const std::optional<Fault>& fault) {
  return fmt::format("{}: {}", choice_name(choice), fault ? fault_name(*fault) : verdict_name(verdict));
}

/// The earliest thing that is wrong.
std::string first_wrong(const Agreement& agreement) {
  for (const ChoiceAgreement& one : agreement.choices) {
    if (!one.violations.empty()) return in_words(one.choice, Verdict::violation, one.violations.front().fault);
    if (one.missed > 0) return in_words(one.choice, Verdict::miss, std::nullopt);
  }
  const Concluded concluded = conclude(agreement, 0);
  return concluded.conclusion == Conclusion::nothing ? "nothing" : "passed";
}

class Selftest {
 public:
  explicit Selftest(u64 seed) : oracle_(make_backend("oracle", 1)), backend_(make_backend("cpu", 1)) {
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
    settings_.top_k = 48;
    settings_.active_heads = 4;
    settings_.block_size = 64;
    settings_.candidates = 160;
    settings_.blocks = 6;
  }

  std::vector<Trial> run() {
    for (const IndexerInfo& info : indexers()) {
      const std::string_view indexer = info.name;
      for (const Workload* workload : {&contiguous_, &paged_}) {
        trial(fmt::format("no mistake, {}{}", indexer, workload == &paged_ ? ", paged" : ""), "a correct result",
              "passed", indexer, *workload, [](Backend& backend, const IndexerSpec& spec, Arbiter& arbiter) {
                const Placement placement(backend, arbiter.workload());
                return run_selection(backend, spec, placement.problem());
              });
      }
    }
    for (const MistakeInfo& info : mistakes()) {
      trial(std::string(info.name), info.what, in_words(info.shows_in, info.verdict, info.fault),
            info.indexer.empty() ? "dsa" : info.indexer, info.paged ? paged_ : contiguous_,
            [&](Backend& backend, const IndexerSpec& spec, Arbiter& arbiter) {
              auto outcome = run_with_mistake(info.mistake, backend, spec, arbiter);
              if (outcome) return std::move(*outcome);
              throw Error(ErrorKind::internal, "MP-E710", fmt::format("no occasion for the mistake '{}'", info.name));
            });
    }
    vacuous();
    return std::move(trials_);
  }

 private:
  using Side = std::function<Selection(Backend&, const IndexerSpec&, Arbiter&)>;

  void trial(std::string name, std::string_view what, std::string expected, std::string_view indexer,
             const Workload& workload, const Side& side, std::span<const Choice> choices = kChoices) {
    const IndexerSpec spec = make_indexer(indexer, settings_);
    Arbiter arbiter(*oracle_, workload);
    Selection exact = run_selection(*oracle_, spec, arbiter.problem());
    exact.exact = true;
    const Agreement agreement = compare_sides(arbiter, spec, side(*backend_, spec, arbiter), exact, choices);
    trials_.push_back({std::move(name), std::string(what), std::move(expected), first_wrong(agreement)});
  }

  void vacuous() {
    const Side plain = [](Backend& backend, const IndexerSpec& spec, Arbiter& arbiter) {
      const Placement placement(backend, arbiter.workload());
      return run_selection(backend, spec, placement.problem());
    };
    constexpr std::array<Choice, 1> kHeads{Choice::heads};
    trial("nothing-compared", "no choice that both sides make is asked for", "nothing", "dsa", contiguous_, plain,
          kHeads);
    Workload blind = copy_of(contiguous_);
    std::copy(blind.ks.begin(), blind.ks.end(), blind.ke.begin());
    trial("sees-nothing", "no row sees a token", "nothing", "misa", blind, plain);
    for (float& weight : contiguous_.weights.span<float>()) weight = 0;
    trial("all-zero", "every score is 0 on both sides", "nothing", "dsa", contiguous_, plain);
  }

  std::unique_ptr<Backend> oracle_, backend_;
  Workload contiguous_, paged_;
  IndexerSettings settings_;
  std::vector<Trial> trials_;
};

}  // namespace

Work add_selftest(CLI::App& app) {
  CLI::App& command = *app.add_subcommand("selftest", "Make known mistakes and see whether compare finds each");
  const auto seed = std::make_shared<u64>(1);
  const auto seeds = std::make_shared<i64>(1);
  command.footer(kExamples);
  add_seed(command, *seed, "Seed of the workloads", kWorkloadGroup);
  add_count(command, "--seeds", *seeds, "Make every mistake on the workloads of this many seeds, from --seed on",
            kWorkloadGroup);
  return [seed, seeds] {
    std::vector<Tally> tallies;
    for (u64 one = *seed; one - *seed < static_cast<u64>(*seeds) && !interrupted(); ++one) {
      std::vector<Trial> trials;
      try {
        trials = Selftest(one).run();
      } catch (const Interrupted&) {
        break;
      }
      tallies.resize(trials.size());
      for (std::size_t i = 0; i < trials.size(); ++i) {
        Tally& tally = tallies[i];
        if (tally.runs == 0 || (tally.seen == tally.runs && !trials[i].seen())) {
          tally.trial = trials[i];
          tally.seed = one;
        }
        ++tally.runs;
        tally.seen += trials[i].seen() ? 1 : 0;
      }
    }
    TextTable table({{.header = "mistake", .right = false, .drop = 0},
                     {.header = "", .right = false, .drop = 2},
                     {.header = "expected", .right = false, .drop = 1},
                     {.header = "found", .right = false, .drop = 0},
                     {.header = "seen", .right = false, .drop = 0}});
    i64 unseen = 0, all = 0;
    for (const Tally& tally : tallies) {
      const Trial& trial = tally.trial;
      const bool seen = tally.seen == tally.runs;
      unseen += tally.runs - tally.seen;
      all += tally.runs;
      std::string count = seen ? "yes" : "NO";
      if (*seeds > 1) count += fmt::format(", {} of {} seeds", tally.seen, tally.runs);
      table.add({{trial.name},
                 {trial.what},
                 {trial.expected},
                 {seen ? trial.found : fmt::format("{} (seed {})", trial.found, tally.seed)},
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
