#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <vector>

#include "backends/backends.hpp"
#include "cli/commands.hpp"
#include "cli/options.hpp"
#include "cli/output.hpp"
#include "core/base/error.hpp"
#include "core/measure/statistics.hpp"
#include "core/platform/signals.hpp"
#include "core/platform/system.hpp"
#include "core/report/text.hpp"
#include "core/selection/selection_file.hpp"
#include "core/workload/placement.hpp"
#include "core/workload/safetensors.hpp"
#include "core/workload/trace.hpp"

namespace misa::cli {
namespace {

constexpr i64 kScoredRows = 4;
constexpr const char* kExamples =
    "\nExamples:\n"
    "  misa-prof inspect layer3.safetensors\n"
    "  misa-prof inspect learned-32k-h64 --format json\n"
    "\nExit codes: 0 valid, 2 usage, 3 unreadable or refused.\n";

struct InspectOptions {
  WorkloadOptions workload;
  std::string format = "table";
};

/// Named facts under a title, in order; numbers stay numbers for JSON.
class Sheet {
 public:
  void section(const std::string& title) { document_[title] = nlohmann::ordered_json::object(), title_ = title; }
  void add(const std::string& name, nlohmann::ordered_json value) { document_[title_][name] = std::move(value); }

  std::string json() const {
    return document_.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
  }
  std::string text() const {
    const i64 width = terminal_width(StandardStream::output);
    std::string text;
    for (const auto& [title, facts] : document_.items()) {
      text += (text.empty() ? "" : "\n") + title + "\n";
      i64 longest = 0;
      for (const auto& fact : facts.items()) longest = std::max(longest, display_width(printable(fact.key())));
      for (const auto& [name, value] : facts.items()) {
        std::string shown = value.dump();
        if (value.is_string()) shown = value.get<std::string>();
        if (value.is_number_float()) shown = fmt::format("{:.4g}", value.get<double>());
        shown = printable(shown);
        const std::string lead = "  " + padded(printable(name), longest, false) + "  ";
        const i64 indent = longest + 4;
        // A text is whole where a word of it, such as a path, is longer than a line.
        const std::vector<std::string> words = words_of(shown);
        const auto fits = [&](const std::string& word) { return display_width(word) <= width - indent; };
        const bool wraps = !fits(shown) && std::all_of(words.begin(), words.end(), fits);
        text += (wraps ? hanging(lead, indent, words, " ", width) : lead + shown) + "\n";
      }
    }
    return text;
  }

 private:
  nlohmann::ordered_json document_ = nlohmann::ordered_json::object();
  std::string title_;
};

void describe_file(const SafetensorsHeader& header, const InputFile& file, Sheet& sheet) {
  sheet.section("file");
  sheet.add("path", header.path);
  sheet.add("bytes", file.size());
  sheet.section("metadata");
  for (const auto& [key, value] : header.metadata) sheet.add(key, value);
  sheet.section("tensors");
  for (const SafetensorsEntry& entry : header.tensors) {
    sheet.add(entry.name, fmt::format("{} [{}] {} bytes", entry.dtype, fmt::join(entry.shape, ", "), entry.bytes()));
  }
}

/// Error(runtime) when the limit cannot hold the workload, its copy on a backend, and the numbers that are sorted: of
/// all keys, all gates, or some rows of scores.
void check_memory(const Workload& workload, i64 limit) {
  constexpr i64 kSorted = 48;  // bytes of a number in a list that grows, and in the copies that are sorted
  const i64 scores = std::min(kScoredRows, workload.rows()) * std::max<i64>(1, shape_of(workload).max_window);
  const i64 numbers = std::max({workload.keys(), workload.weights.size(), scores});
  const i64 needed =
      workload.bytes() + Placement::bytes_needed(workload) + kSorted * numbers + i64{sizeof(double)} * scores;
  if (needed <= limit) return;
  throw Error(ErrorKind::runtime, "MP-E504",
              fmt::format("the workload needs {} bytes to be looked at, the limit is {}", needed, limit), workload.name,
              "a larger --max-memory");
}

void describe_rows(const Workload& workload, Sheet& sheet) {
  std::vector<double> lengths;
  for (std::size_t m = 0; m < workload.ks.size(); ++m) lengths.push_back(workload.ke[m] - workload.ks[m]);
  const std::set<i32> sequences(workload.sequence.begin(), workload.sequence.end());
  sheet.section("rows");
  sheet.add("rows", workload.rows());
  sheet.add("heads", workload.heads());
  sheet.add("head_dim", workload.head_dim());
  sheet.add("keys", workload.keys());
  sheet.add("sequences", static_cast<i64>(sequences.size()));
  if (workload.paged()) {
    sheet.add("page_size", workload.page_size());
    sheet.add("next_n", workload.next_n);
  }
  const Summary summary = summarise(lengths);
  sheet.add("visible_minimum", static_cast<i64>(summary.minimum));
  sheet.add("visible_median", static_cast<i64>(summary.median));
  sheet.add("visible_maximum", static_cast<i64>(summary.maximum));
  sheet.add("attention_mass_rows", static_cast<i64>(workload.attention_mass_row.size()));
  sheet.add("needles", static_cast<i64>(workload.needles.size()));
}

void describe_gates(const Workload& workload, Sheet& sheet) {
  const auto weights = workload.weights.span<const float>();
  const std::size_t heads = static_cast<std::size_t>(workload.heads());
  std::vector<double> magnitudes, effective;
  i64 negative = 0, zero = 0;
  for (std::size_t row = 0; row < weights.size(); row += heads) {
    double sum = 0, squares = 0;
    for (std::size_t h = 0; h < heads; ++h) {
      const double weight = weights[row + h];
      negative += weight < 0 ? 1 : 0;
      zero += weight == 0 ? 1 : 0;
      magnitudes.push_back(std::abs(weight));
      sum += std::abs(weight);
      squares += weight * weight;
    }
    if (squares > 0) effective.push_back(sum * sum / squares);
  }
  const double count = static_cast<double>(weights.size());
  sheet.section("gates");
  sheet.add("negative_share", static_cast<double>(negative) / count);
  sheet.add("zero_share", static_cast<double>(zero) / count);
  sheet.add("magnitude_p1", percentile(magnitudes, 0.01));
  sheet.add("magnitude_median", median(magnitudes));
  sheet.add("magnitude_p99", percentile(magnitudes, 0.99));
  if (!effective.empty()) sheet.add("effective_heads_mean", mean(effective));
}

void describe_scales(const Problem& problem, const Workload& workload, Sheet& sheet) {
  const View<const float, 2>& scales = problem.keys.scales;
  if (scales.empty()) return;
  std::vector<double> values;
  i64 powers = 0;
  const i64 size = std::visit([](const auto& keys) { return keys.shape[1]; }, problem.keys.values);
  const auto look_at = [&](i64 sequence, i64 token) {
    const TokenAddress at = address_of(problem.keys, size, sequence, token);
    const double value = scales(at.page, at.slot);
    int exponent = 0;
    powers += std::frexp(value, &exponent) == 0.5 ? 1 : 0;
    values.push_back(value);
  };
  if (workload.paged()) {
    const auto lengths = workload.seq_lens.span<const i32>();
    for (std::size_t s = 0; s < lengths.size(); ++s) {
      for (i64 token = 0; token < lengths[s]; ++token) look_at(static_cast<i64>(s), token);
    }
  } else {
    std::vector<bool> seen(static_cast<std::size_t>(workload.keys()), false);
    for (std::size_t m = 0; m < workload.ks.size(); ++m) {
      std::fill(seen.begin() + workload.ks[m], seen.begin() + workload.ke[m], true);
    }
    for (i64 token = 0; token < workload.keys(); ++token) {
      if (seen[static_cast<std::size_t>(token)]) look_at(0, token);
    }
  }
  if (values.empty()) return;
  const Summary summary = summarise(values);
  sheet.section("key_scales");
  sheet.add("minimum", summary.minimum);
  sheet.add("median", summary.median);
  sheet.add("maximum", summary.maximum);
  sheet.add("power_of_two_share", static_cast<double>(powers) / static_cast<double>(values.size()));
}

/// Scores of the last rows, all heads, in double.
void describe_scores(Backend& oracle, const Problem& problem, const Workload& workload, Sheet& sheet) {
  const i64 k = default_top_k(workload).k;
  const i64 count = std::min(kScoredRows, workload.rows()), first = workload.rows() - count;
  const i64 columns = std::max<i64>(1, problem.shape.max_window);
  const Buffer buffer(oracle, count * columns * 8);
  const View<double, 2> logits(buffer.as<double>(), {count, columns});
  const Queries queries{
      std::visit([&](const auto& values) -> Values { return values.slice(first, count); }, problem.queries.values),
      problem.queries.weights.slice(first, count)};
  const Windows windows{problem.windows.sequence.slice(first, count), problem.windows.begin.slice(first, count),
                        problem.windows.end.slice(first, count)};
  oracle.score({queries, problem.keys, windows, {}, logits});

  std::vector<double> all, gaps, ties, recent;
  i64 zeros = 0, negative = 0;
  for (i64 m = 0; m < count; ++m) {
    const i64 visible = windows.end[m] - windows.begin[m];
    std::vector<double> scores;
    for (i64 c = 0; c < visible; ++c) scores.push_back(logits(m, c));
    for (const double score : scores) {
      zeros += score == 0 ? 1 : 0;
      negative += score < 0 ? 1 : 0;
    }
    all.insert(all.end(), scores.begin(), scores.end());
    if (visible <= k) continue;
    std::vector<double> sorted = scores;
    std::sort(sorted.begin(), sorted.end(), std::greater<>());
    const double kth = sorted[static_cast<std::size_t>(k - 1)];
    gaps.push_back(kth - sorted[static_cast<std::size_t>(k)]);
    ties.push_back(static_cast<double>(std::count(sorted.begin(), sorted.end(), kth)));
    const auto tail = scores.end() - k;
    recent.push_back(static_cast<double>(std::count_if(tail, scores.end(), [&](double s) { return s >= kth; })) /
                     static_cast<double>(k));
  }
  if (all.empty()) return;
  const Summary summary = summarise(all);
  sheet.section("scores");
  sheet.add("first_row", first);
  sheet.add("last_row", first + count - 1);
  sheet.add("minimum", summary.minimum);
  sheet.add("median", summary.median);
  sheet.add("maximum", summary.maximum);
  sheet.add("zero_share", static_cast<double>(zeros) / static_cast<double>(all.size()));
  sheet.add("negative_share", static_cast<double>(negative) / static_cast<double>(all.size()));
  if (gaps.empty()) return;
  sheet.add("top_k", k);
  sheet.add("gap_below_kth_median", median(gaps));
  sheet.add("tokens_tied_at_kth_maximum", *std::max_element(ties.begin(), ties.end()));
  sheet.add("top_k_in_last_k_share", mean(recent));
}

void inspect(const InspectOptions& options) {
  if (options.format != "table" && options.format != "json") {
    throw Error(ErrorKind::usage, "MP-E021", "there is no format called '" + options.format + "'", {}, "table or json");
  }
  const std::string path = options.workload.trace_path();
  Sheet sheet;
  std::string kind;
  {
    const InputFile file(path);
    const SafetensorsHeader header = read_safetensors_header(file);
    describe_file(header, file, sheet);
    const auto found = header.metadata.find("kind");
    if (found != header.metadata.end()) kind = found->second;
  }
  if (kind == "selection") {
    const SelectionFile file = read_selection(path, options.workload.memory_limit());
    const Selection& selection = file.selection;
    const HostTensor& selected = selection[Choice::tokens];
    sheet.section("selection");
    sheet.add("rows", static_cast<i64>(file.ks.size()));
    if (!selected.empty()) {
      const auto tokens = selected.span<const i32>();
      sheet.add("k", selected.shape.at(1));
      sheet.add("pads", static_cast<i64>(std::count(tokens.begin(), tokens.end(), -1)));
    }
    for (const auto& [choice, name] :
         {std::pair(Choice::heads, "heads_per_row"), std::pair(Choice::blocks, "blocks_per_row")}) {
      if (!selection[choice].empty()) sheet.add(name, selection[choice].shape.at(1));
    }
  } else {
    std::vector<Warning> warnings;
    const Workload workload = read_trace(path, options.workload.memory_limit(), &warnings);
    const auto oracle = make_backend("oracle", static_cast<int>(system_info().cores));
    check_memory(workload, options.workload.memory_limit());
    const Placement placement(*oracle, workload);
    describe_rows(workload, sheet);
    describe_gates(workload, sheet);
    describe_scales(placement.problem(), workload, sheet);
    describe_scores(*oracle, placement.problem(), workload, sheet);
    if (!warnings.empty()) {
      sheet.section("warnings");
      for (std::size_t i = 0; i < warnings.size(); ++i) sheet.add(std::to_string(i + 1), text_of(warnings[i]));
    }
  }
  if (!interrupted()) write_text("-", options.format == "json" ? sheet.json() : sheet.text());
}

}  // namespace

Work add_inspect(CLI::App& app) {
  CLI::App& command = *app.add_subcommand("inspect", "Check a trace and show what is in it");
  const auto options = std::make_shared<InspectOptions>();
  command.footer(kExamples);
  add_text(command, "FILE", options->workload.trace, "A trace or a selection: a file, or a name of profiles/traces", "",
           kWorkloadGroup);
  options->workload.add_memory(command);
  add_name(command, "--format", options->format, "table or json", kOutputGroup);
  return [options] {
    if (options->workload.trace.empty()) {
      throw Error(ErrorKind::usage, "MP-E033", "inspect needs a file", {}, "misa-prof inspect FILE");
    }
    inspect(*options);
  };
}

}  // namespace misa::cli
