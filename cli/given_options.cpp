#include "cli/given_options.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>

#include "backends/backends.hpp"
#include "core/indexer/effective.hpp"
#include "core/indexer/parameters.hpp"

namespace misa::cli {
namespace {

/// No indexer of the run passes a test; a fact holds, or does not.
template <bool (*Test)(const IndexerSpec&)>
bool none(const RunFacts& facts) {
  return std::none_of(facts.specs.begin(), facts.specs.end(), Test);
}
template <bool RunFacts::*Fact>
bool is(const RunFacts& facts) {
  return facts.*Fact;
}
template <bool RunFacts::*Fact>
bool is_not(const RunFacts& facts) {
  return !(facts.*Fact);
}
bool rates_or_mistaken(const RunFacts& facts) { return facts.rates || facts.mistaken; }

/// An option, why it cannot matter, and whether it does not.
struct Rule {
  std::string_view option, reason;
  bool (*idle)(const RunFacts& facts);
  bool asks = false;  ///< for a check or an output: refused, not warned about
};

constexpr std::string_view kNoDevice = "no side of this run is on a device";
constexpr std::string_view kNoBlocks = "no indexer of this run has blocks";
constexpr std::string_view kSelects = "ids are judged, and no backend of ours is tested";
constexpr std::string_view kRates = "--against-indexer rates, and makes no comparison";
constexpr std::string_view kRatesOrMistakes = "it is not done with --against-indexer, nor with --inject";

constexpr std::array<Rule, 39> kRules{{
    {"--router", "no indexer of this run routes heads", none<routes_heads>},
    {"--active-heads", "no indexer of this run routes heads", none<routes_heads>},
    {"--group", "no indexer of this run routes heads", none<routes_heads>},
    {"--sampled-keys", "no router of this run samples keys", none<samples_keys>},
    {"--block-size", kNoBlocks, none<has_blocks>},
    {"--block-window", kNoBlocks, none<has_blocks>},
    {"--pooling", "no indexer of this run reads means or sampled keys", none<pools_keys>},
    {"--candidates", "no indexer of this run ranks tokens again", none<reranks>},
    {"--blocks", "no indexer of this run keeps blocks", none<prunes_blocks>},
    {"--seed", "the workload is recorded, and no router of this run draws",
     [](const RunFacts& facts) { return !facts.generated && none<draws_heads>(facts); }},
    {"--threads", "no side of this run is on the host's cores", is_not<&RunFacts::host>},
    {"--no-fusion", "no backend of this run has fused kernels", is_not<&RunFacts::fuses>},
    {"--no-graph", kNoDevice, is_not<&RunFacts::device>},
    {"--warm", kNoDevice, is_not<&RunFacts::device>},
    {"--budget", "--profile-once takes one sample", is<&RunFacts::once>},
    {"--format", "each output has a format of its own", is_not<&RunFacts::format_decides>},
    {"--color", "no table goes to standard output", is_not<&RunFacts::colours>},
    {"--max-miss", kRates, is<&RunFacts::rates>},
    {"--stages", kRates, is<&RunFacts::rates>, true},
    {"--inject", kRates, is<&RunFacts::rates>, true},
    {"--bundle", kRates, is<&RunFacts::rates>, true},
    {"--repeat-bitwise", kRatesOrMistakes, rates_or_mistaken, true},
    {"--thread-sweep", kRatesOrMistakes, rates_or_mistaken, true},
    {"--poison-unseen", kRatesOrMistakes, rates_or_mistaken, true},
    {"--robust", kRatesOrMistakes, rates_or_mistaken, true},
    {"--ids", "there is no --selection, and no program", is_not<&RunFacts::selects>},
    {"--time-limit", "no side of this run is a process of its own", is_not<&RunFacts::child>},
    {"--arithmetic", "there is no --selection, and no recorded topk",
     [](const RunFacts& facts) { return !facts.recorded; }},
    {"--backend", kSelects, [](const RunFacts& facts) { return facts.selects && !facts.child; }},
    {"--kernel", kSelects, is<&RunFacts::selects>},
    {"--stages", kSelects, is<&RunFacts::selects>, true},
    {"--inject", kSelects, is<&RunFacts::selects>, true},
    {"--inject", "mistakes are made on backends of ours, and this one is a plug-in", is<&RunFacts::child>, true},
    {"--bundle", kSelects, is<&RunFacts::selects>, true},
    {"--write-golden", kSelects, is<&RunFacts::selects>, true},
    {"--repeat-bitwise", kSelects, is<&RunFacts::selects>, true},
    {"--thread-sweep", kSelects, is<&RunFacts::selects>, true},
    {"--poison-unseen", kSelects, is<&RunFacts::selects>, true},
    {"--robust", kSelects, is<&RunFacts::selects>, true},
}};

/// A number of an indexer that a problem may have no room for.
struct Number {
  std::string_view option, room;  ///< the room, with the number that is used and its plural
  std::optional<i64> (*of)(const IndexerSpec& spec);
};

constexpr std::array<Number, 10> kNumbers{{
    {"--top-k", "no row sees more than {} token{}", [](const IndexerSpec& spec) { return std::optional(spec.top_k); }},
    {"--force-first", "a row keeps {} token{}",
     [](const IndexerSpec& spec) { return std::optional(spec.forced.first); }},
    {"--force-last", "the first ones leave room for {} token{}",
     [](const IndexerSpec& spec) { return std::optional(spec.forced.last); }},
    {"--active-heads", "the workload has {} head{}",
     [](const IndexerSpec& spec) { return spec.heads ? std::optional(spec.heads->active) : std::nullopt; }},
    {"--sampled-keys", "no row sees more than {} token{}",
     [](const IndexerSpec& spec) { return samples_keys(spec) ? std::optional(spec.heads->samples) : std::nullopt; }},
    {"--group", "the workload has {} row{}",
     [](const IndexerSpec& spec) { return spec.heads ? std::optional(spec.heads->group) : std::nullopt; }},
    {"--block-size", "no block has more than {} token{}",
     [](const IndexerSpec& spec) { return pools_blocks(spec) ? std::optional(spec.heads->block_size) : std::nullopt; }},
    {"--block-size", "no block has more than {} token{}",
     [](const IndexerSpec& spec) { return spec.blocks ? std::optional(spec.blocks->block_size) : std::nullopt; }},
    {"--blocks", "no row sees more than {} block{}",
     [](const IndexerSpec& spec) { return spec.blocks ? std::optional(spec.blocks->blocks) : std::nullopt; }},
    {"--candidates", "no row sees more than {} token{}",
     [](const IndexerSpec& spec) { return spec.rerank ? std::optional(spec.rerank->candidates) : std::nullopt; }},
}};

}  // namespace

GivenOptions given_options(const CLI::App& command) {
  GivenOptions given;
  for (const CLI::Option* option : command.get_options()) {
    if (option->count() > 0 && !option->get_lnames().empty()) given.insert("--" + option->get_lnames().front());
  }
  return given;
}

void RunFacts::run_on(const std::string& backend) {
  if (is_plugin(backend)) device = host = fuses = child = true;  // what it has is known once it is loaded
  for (const BackendInfo& info : backends()) {
    if (info.name != backend) continue;
    device |= info.devices;
    host |= !info.devices;
    fuses |= info.fuses;
  }
}

void RunFacts::write_to(const std::vector<Target>& targets) {
  const auto any = [&](const auto& test) { return std::any_of(targets.begin(), targets.end(), test); };
  format_decides = any([](const Target& target) { return !target.own_format; });
  colours = any([](const Target& target) { return target.path == "-" && target.format == "table"; });
}

std::vector<Warning> options_without_effect(const GivenOptions& given, const RunFacts& facts) {
  std::vector<Warning> warnings;
  for (const Rule& rule : kRules) {
    if (given.find(rule.option) == given.end() || !rule.idle(facts)) continue;
    if (rule.asks) {
      throw Error(ErrorKind::usage, "MP-E056", fmt::format("{} would do nothing: {}", rule.option, rule.reason), {},
                  fmt::format("without {}", rule.option));
    }
    warnings.push_back({"MP-W033", fmt::format("{} does nothing: {}", rule.option, rule.reason)});
  }
  return warnings;
}

std::vector<Warning> options_cut(const GivenOptions& given, const std::vector<IndexerSpec>& specs,
                                 const Problem& problem) {
  std::vector<Warning> warnings;
  for (const IndexerSpec& spec : specs) {
    const IndexerSpec used = effective(spec, problem);
    for (const Number& number : kNumbers) {
      if (given.find(number.option) == given.end() || number.of(used) == number.of(spec)) continue;
      const std::string room =
          fmt::format(fmt::runtime(number.room), *number.of(used), *number.of(used) == 1 ? "" : "s");
      Warning warning{"MP-W034", fmt::format("{} is {}, and {}: {} used", number.option, *number.of(spec), room,
                                             *number.of(used) == 1 ? "1 is" : fmt::format("{} are", *number.of(used)))};
      const auto same = std::find_if(warnings.begin(), warnings.end(),
                                     [&](const Warning& other) { return other.what == warning.what; });
      if (same == warnings.end()) {
        warning.where = spec.name;
        warnings.push_back(std::move(warning));
      } else if (same->where != spec.name) {
        same->where += ", " + spec.name;
      }
    }
  }
  return warnings;
}

}  // namespace misa::cli
