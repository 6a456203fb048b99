#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <memory>
#include <numeric>
#include <set>
#include <vector>

#include "backends/backends.hpp"
#include "cli/commands.hpp"
#include "cli/options.hpp"
#include "cli/output.hpp"
#include "cli/workload_options.hpp"
#include "core/base/error.hpp"
#include "core/measure/statistics.hpp"
#include "core/platform/signals.hpp"
#include "core/platform/system.hpp"
#include "core/report/json_parts.hpp"
#include "core/report/text.hpp"
#include "core/selection/selection_file.hpp"
#include "core/workload/key_layout.hpp"
#include "core/workload/placement.hpp"
#include "core/workload/safetensors.hpp"
#include "core/workload/trace.hpp"
#include "core/workload/trace_format.hpp"
#include "core/workload/windows.hpp"

namespace misa::cli {
namespace {

constexpr i64 kScoredRows = 4;
constexpr const char* kInspectExamples =
    "\nExamples:\n"
    "  misa-prof inspect layer3.safetensors\n"
    "  misa-prof inspect learned-32k-h64 --format json\n"
    "\nExit codes: 0 valid, 2 usage, 3 unreadable or refused.\n";

struct InspectOptions {
  WorkloadOptions workload;
  std::string format = "table";
};

/// Numbers with four digits, lists with commas, and objects as "name value, name value".
std::string text_of_value(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_number_float()) return fmt::format("{:.4g}", value.get<double>());
  if (!value.is_structured()) return value.dump();
  std::vector<std::string> parts;
  for (const auto& [name, part] : value.items()) {
    parts.push_back((value.is_object() ? name + " " : "") + text_of_value(part));
  }
  return parts.empty() ? "none" : fmt::format("{}", fmt::join(parts, ", "));
}

/// Named facts under a title, in order; numbers stay numbers for JSON.
class Sheet {
 public:
  void section(const std::string& title) { document_[title] = Json::object(), title_ = title; }
  void add(const std::string& name, Json value) { document_[title_][name] = std::move(value); }

  std::string json() const { return text_of(document_, 2); }
  std::string text() const {
    const i64 width = terminal_width(StandardStream::output);
    std::string text;
    for (const auto& [title, facts] : document_.items()) {
      text += (text.empty() ? "" : "\n") + title + "\n";
      i64 longest = 0;
      for (const auto& fact : facts.items()) longest = std::max(longest, display_width(printable(fact.key())));
      for (const auto& [name, value] : facts.items()) {
        const std::string shown = printable(text_of_value(value));
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
  Json document_ = Json::object();
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
/// all keys, all weights, or some rows of scores.
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
  if (workload.compress_ratio > 1) sheet.add("compress_ratio", workload.compress_ratio);
  sheet.add("sequences", static_cast<i64>(sequences.size()));
  if (workload.paged()) {
    sheet.add("page_size", workload.page_size());
    sheet.add("next_n", workload.next_n);
  }
  const Summary summary = summarise(lengths);
  if (workload.compress_ratio > 1) {
    const auto [first, last] = std::minmax_element(workload.q_pos.begin(), workload.q_pos.end());
    sheet.add("tokens_minimum", i64{*first} + 1);
    sheet.add("tokens_maximum", i64{*last} + 1);
  }
  sheet.add("visible_minimum", static_cast<i64>(summary.minimum));
  sheet.add("visible_median", static_cast<i64>(summary.median));
  sheet.add("visible_maximum", static_cast<i64>(summary.maximum));
  sheet.add("attention_mass_rows", static_cast<i64>(workload.attention_mass_row.size()));
  sheet.add("needles", static_cast<i64>(workload.needles.size()));
}

/// What the rows of each sequence see, of the first sequences.
void describe_windows(const Workload& workload, Sheet& sheet) {
  constexpr i32 kShown = 8;
  std::map<i32, std::vector<std::size_t>> rows_of;
  for (std::size_t m = 0; m < workload.sequence.size(); ++m) rows_of[workload.sequence[m]].push_back(m);
  sheet.section("windows");
  for (const auto& [sequence, rows] : rows_of) {
    if (sequence >= kShown) break;
    const auto by_end = [&](std::size_t a, std::size_t b) { return workload.ke[a] < workload.ke[b]; };
    const auto [least, most] = std::minmax_element(rows.begin(), rows.end(), by_end);
    Json seen{{"rows", rows.size()}, {"ks", workload.ks[rows.front()]}};
    seen["ke_minimum"] = workload.ke[*least];
    seen["ke_maximum"] = workload.ke[*most];
    sheet.add(fmt::format("sequence_{}", sequence), std::move(seen));
  }
  if (rows_of.size() > kShown) sheet.add("more_sequences", rows_of.size() - kShown);
}

/// The heads of largest `counts`, largest first.
template <class Count>
std::vector<std::size_t> leading_heads(const std::vector<Count>& counts) {
  constexpr std::size_t kShown = 8;
  std::vector<std::size_t> heads(counts.size());
  std::iota(heads.begin(), heads.end(), std::size_t{0});
  std::stable_sort(heads.begin(), heads.end(), [&](std::size_t a, std::size_t b) { return counts[a] > counts[b]; });
  heads.resize(std::min(heads.size(), kShown));
  return heads;
}
template <class Count>
std::vector<std::size_t> heads_of_none(const std::vector<Count>& counts) {
  std::vector<std::size_t> heads;
  for (std::size_t h = 0; h < counts.size(); ++h) {
    if (counts[h] == Count{}) heads.push_back(h);
  }
  return heads;
}

void describe_weights(const Workload& workload, Sheet& sheet) {
  const auto weights = workload.weights.span<const float>();
  const std::size_t heads = static_cast<std::size_t>(workload.heads());
  std::vector<double> magnitudes, effective, of_head(heads, 0.0);
  i64 negative = 0, zero = 0;
  for (std::size_t row = 0; row < weights.size(); row += heads) {
    double sum = 0, squares = 0;
    for (std::size_t h = 0; h < heads; ++h) {
      const double weight = weights[row + h];
      negative += weight < 0 ? 1 : 0;
      zero += weight == 0 ? 1 : 0;
      magnitudes.push_back(std::abs(weight));
      of_head[h] += std::abs(weight);
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
  sheet.add("heads_of_most_weight", leading_heads(of_head));
  sheet.add("heads_of_no_weight", heads_of_none(of_head));
}

void describe_scales(const Problem& problem, const Workload& workload, Sheet& sheet) {
  const View<const float, 2>& scales = problem.keys.scales;
  if (scales.empty()) return;
  std::vector<double> values;
  i64 powers = 0;
  const i64 size = scales.shape[1];
  trace::for_used_slots(workload, [&](i64 slot) {
    const double value = scales(slot / size, slot % size);
    int exponent = 0;
    powers += std::frexp(value, &exponent) == 0.5 ? 1 : 0;
    values.push_back(value);
  });
  if (values.empty()) return;
  const Summary summary = summarise(values);
  sheet.section("key_scales");
  sheet.add("minimum", summary.minimum);
  sheet.add("median", summary.median);
  sheet.add("maximum", summary.maximum);
  sheet.add("power_of_two_share", static_cast<double>(powers) / static_cast<double>(values.size()));
}

/// Exponents of the block scales of MXFP4 keys that rows see.
void describe_block_scales(const Workload& workload, Sheet& sheet) {
  const KeyLayout layout = key_layout(workload);
  if (layout.dtype != Dtype::e2m1) return;
  constexpr i64 kBias = 127;
  std::array<i64, 256> counts{};  // of each byte
  i64 all = 0;
  const u8* scales = key_scales(workload).storage.as<const u8>();
  trace::for_used_slots(workload, [&](i64 slot) {
    for (i64 b = 0; b < workload.head_dim() / Mxfp4::kBlock; ++b, ++all) ++counts[scales[layout.scales_at(slot) + b]];
  });
  if (all == 0) return;
  /// The exponent that `before` of them precede.
  const auto exponent_after = [&](i64 before) {
    i64 byte = 0;
    for (; before >= counts[static_cast<std::size_t>(byte)]; ++byte) before -= counts[static_cast<std::size_t>(byte)];
    return byte - kBias;
  };
  sheet.section("key_block_scales");
  sheet.add("exponent_minimum", exponent_after(0));
  sheet.add("exponent_median", exponent_after((all - 1) / 2));
  sheet.add("exponent_maximum", exponent_after(all - 1));
}

/// Scores of the tokens that a row sees, all heads, in double.
std::vector<double> scores_of(Backend& oracle, const Problem& problem, i64 row) {
  const i64 visible = problem.windows.end[row] - problem.windows.begin[row];
  if (visible <= 0) return {};
  const Buffer buffer(oracle, problem.shape.max_window * i64{sizeof(double)});
  const View<double, 2> logits(buffer.as<double>(), {1, problem.shape.max_window});
  const Queries queries{
      std::visit([&](const auto& values) -> Values { return values.slice(row, 1); }, problem.queries.values),
      problem.queries.weights.slice(row, 1)};
  const Windows windows{problem.windows.sequence.slice(row, 1), problem.windows.begin.slice(row, 1),
                        problem.windows.end.slice(row, 1)};
  oracle.score({queries, problem.keys, windows, {}, logits});
  return {buffer.as<double>(), buffer.as<double>() + visible};
}

/// What a recorded selection is worth: some of its rows, against the formula. A token counts as right that scores at
/// least what the last of the row's best scores, of as many tokens as are recorded.
void describe_topk(Backend& oracle, const Problem& problem, const Workload& workload, Sheet& sheet) {
  if (workload.topk.empty()) return;
  const auto count = static_cast<i64>(workload.topk_row.size()), k = workload.topk.shape.at(1);
  const auto stated = workload.metadata.find("topk_arithmetic");
  sheet.section("recorded_topk");
  sheet.add("rows", count);
  sheet.add("k", k);
  sheet.add("arithmetic", stated == workload.metadata.end() ? "not said" : stated->second);
  std::vector<double> recalls;
  i64 worst_row = -1;
  double gap = 0;
  const i64 looked_at = std::min(kScoredRows, count);
  for (i64 i = 1; i <= looked_at; ++i) {
    const i64 r = i * count / looked_at - 1, row = workload.topk_row[static_cast<std::size_t>(r)];
    std::vector<double> scores = scores_of(oracle, problem, row);
    std::replace_if(
        scores.begin(), scores.end(), [](double score) { return std::isnan(score); }, -HUGE_VAL);
    const auto recorded = workload.topk.span<const i32>().subspan(static_cast<std::size_t>(r * k));
    std::vector<double> chosen;
    for (std::size_t c = 0; c < static_cast<std::size_t>(k) && recorded[c] >= 0; ++c) {
      chosen.push_back(scores[static_cast<std::size_t>(recorded[c])]);
    }
    if (scores.empty()) continue;
    const auto wanted = std::min<std::size_t>(static_cast<std::size_t>(k), scores.size());
    std::vector<double> sorted = scores;
    std::nth_element(sorted.begin(), sorted.begin() + static_cast<std::ptrdiff_t>(wanted - 1), sorted.end(),
                     std::greater<>());
    const double last = sorted[wanted - 1];
    const auto right = std::count_if(chosen.begin(), chosen.end(), [&](double score) { return score >= last; });
    const double recall = static_cast<double>(right) / static_cast<double>(wanted);
    if (recalls.empty() || recall < *std::min_element(recalls.begin(), recalls.end())) worst_row = row;
    recalls.push_back(recall);
    for (const double score : chosen) gap = std::max(gap, last - score);
  }
  sheet.add("rows_looked_at", static_cast<i64>(recalls.size()));
  if (recalls.empty()) return;
  sheet.add("recall_mean", mean(recalls));
  sheet.add("recall_worst", *std::min_element(recalls.begin(), recalls.end()));
  sheet.add("worst_row", worst_row);
  sheet.add("largest_gap_below_kth", gap);
}

/// Scores of the last rows.
void describe_scores(Backend& oracle, const Problem& problem, const Workload& workload, Sheet& sheet) {
  const i64 k = default_top_k(workload).k;
  const i64 count = std::min(kScoredRows, workload.rows()), first = workload.rows() - count;
  std::vector<double> all, gaps, ties, recent;
  i64 zeros = 0, negative = 0;
  for (i64 m = first; m < first + count; ++m) {
    const std::vector<double> scores = scores_of(oracle, problem, m);
    const auto visible = static_cast<i64>(scores.size());
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

void describe_selection(const SelectionFile& file, Sheet& sheet) {
  const HostTensor &selected = file.selection[Choice::tokens], &heads = file.selection[Choice::heads];
  sheet.section("selection");
  sheet.add("rows", static_cast<i64>(file.ks.size()));
  if (!selected.empty()) {
    const auto tokens = selected.span<const i32>();
    sheet.add("k", selected.shape.at(1));
    sheet.add("pads", static_cast<i64>(std::count(tokens.begin(), tokens.end(), -1)));
  }
  for (const auto& [choice, name] :
       {std::pair(Choice::heads, "heads_per_row"), std::pair(Choice::blocks, "blocks_per_row")}) {
    if (!file.selection[choice].empty()) sheet.add(name, file.selection[choice].shape.at(1));
  }
  if (heads.empty()) return;
  std::vector<i64> rows_of_head;
  for (const i32 head : heads.span<const i32>()) {
    if (head < 0) continue;
    rows_of_head.resize(std::max(rows_of_head.size(), static_cast<std::size_t>(head) + 1), 0);
    ++rows_of_head[static_cast<std::size_t>(head)];
  }
  if (const auto count = trace::metadata_number(file.metadata, "index_n_heads", "")) {
    rows_of_head.resize(static_cast<std::size_t>(*count), 0);
  }
  sheet.add("heads_of_most_rows", leading_heads(rows_of_head));
  sheet.add("heads_of_no_row", heads_of_none(rows_of_head));
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
    describe_selection(read_selection(path, options.workload.memory_limit()), sheet);
  } else {
    std::vector<Warning> warnings;
    const Workload workload = read_trace(path, options.workload.memory_limit(), &warnings);
    const auto oracle = make_backend("oracle", static_cast<int>(system_info().cores));
    check_memory(workload, options.workload.memory_limit());
    const Placement placement(*oracle, workload);
    describe_rows(workload, sheet);
    describe_windows(workload, sheet);
    describe_weights(workload, sheet);
    describe_scales(placement.problem(), workload, sheet);
    describe_block_scales(workload, sheet);
    describe_scores(*oracle, placement.problem(), workload, sheet);
    describe_topk(*oracle, placement.problem(), workload, sheet);
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
  command.footer(kInspectExamples);
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
