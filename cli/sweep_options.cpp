#include "cli/sweep_options.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "backends/backends.hpp"
#include "cli/ranges.hpp"
#include "core/base/error.hpp"
#include "core/base/suggest.hpp"

namespace misa::cli {
namespace {

constexpr const char* kAxesGroup = "Axes";

/// An axis as an option: a list of names, or of counts and ranges.
struct AxisOption {
  const char* axis;
  const char* what;
  const char* usual;  ///< values where the option is not given; empty: the axis is left out
  bool recorded;      ///< it has a meaning for recorded workloads
};

constexpr std::array kAxisOptions{
    AxisOption{"trace", "Recorded workloads: files, or names of profiles/traces", "", true},
    AxisOption{"model", "Model profiles", "deepseek-v3.2", false},
    AxisOption{"workload", "Workload profiles", "prefill-8k", false},
    AxisOption{"preset", "Synthetic presets (default: the workload profile's)", "", false},
    AxisOption{"phase", "prefill, decode (default: the workload profile's)", "", false},
    AxisOption{"context", "Tokens of each sequence", "4k:64k:*2", false},
    AxisOption{"sequences", "Sequences (default: the workload profile's)", "", false},
    AxisOption{"rows", "Query rows (default: 32 of prefill-8k, else the workload's)", "", true},
    AxisOption{"next-n", "At decode: rows of each sequence, one and its drafts", "", false},
    AxisOption{"page-size", "At decode: keys of a page", "", false},
    AxisOption{"dtype", "Formats of queries and keys (default: the model profile's)", "", false},
    AxisOption{"compress-ratio", "Tokens that a key stands for (default: the model profile's)", "", false},
    AxisOption{"top-k", "Tokens each row keeps (default: the workload's, else 2048)", "", true},
    AxisOption{"backend", "What the indexers run on", "cpu", true},
    AxisOption{"indexer", "Indexers, or all; dsa, the reference, is always among them", "dsa,misa", true},
    AxisOption{"router", "How heads are ranked (default: misa pooled, misa-lr covariance)", "", true},
    AxisOption{"active-heads", "Heads that misa scores with; a linear head is two", "8", true},
    AxisOption{"sampled-keys", "Keys of a row, at least, that misa-lr fits lines to (default: 64)", "", true},
    AxisOption{"candidates", "Tokens that a dagger ranks again (default: as for profile)", "", true},
    AxisOption{"block-size", "Tokens per block (default: misa 1024, hisa 128)", "", true},
    AxisOption{"blocks", "Blocks that hisa keeps (default: 64)", "", true},
    AxisOption{"pooling", "fresh, cached (default: as for profile)", "", true},
};

std::vector<std::string> values_of(const AxisInfo& info, const std::vector<std::string>& lists) {
  const std::string option = "--" + std::string(info.name);
  std::vector<std::string> values;
  if (info.counts) {
    for (const i64 count : counts_of(option, fmt::format("{}", fmt::join(lists, ",")))) {
      values.push_back(std::to_string(count));
    }
    return values;
  }
  values = split_at_commas(lists);
  for (auto value = values.begin(); value != values.end(); ++value) {
    if (value->empty()) {
      throw Error(ErrorKind::usage, "MP-E460", option + " has an empty name", {}, "names with one comma between them");
    }
    if (std::find(values.begin(), value, *value) != value) {
      throw Error(ErrorKind::usage, "MP-E461", option + " has '" + *value + "' twice", {}, "each name once");
    }
  }
  return values;
}

/// Refuses backends that a sweep does not run. Absent ones are refused when they are made.
void check_backends(const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    if (is_plugin(name) || name.substr(0, 5) == "exec:") {
      throw Error(ErrorKind::usage, "MP-E466",
                  "a sweep runs backends of ours, and '" + name + "' is a program of yours", "--backend",
                  "misa-prof profile --backend " + name);
    }
    if (find_row(backends(), name) == nullptr) {
      throw Error(ErrorKind::usage, "MP-E012", "there is no backend called '" + name + "'", {},
                  suggestion(name, names_of(backends()), "misa-prof list"));
    }
  }
}

void check_routers(const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    if (find_router(name)) continue;
    throw Error(ErrorKind::usage, "MP-E026", "there is no router called '" + name + "'", {},
                suggestion(name, names_of(routers())));
  }
}

/// "all" is every indexer; each must be there.
std::vector<std::string> indexer_names(const std::vector<std::string>& lists) {
  IndexerOptions options;
  options.names = lists;
  std::vector<std::string> names = options.listed();
  for (const std::string& name : names) make_indexer(name, {});
  return names;
}

std::optional<i64> count_in(const Coordinates& point, std::string_view axis) {
  const std::string value = value_at(point, axis);
  return value.empty() ? std::nullopt : std::optional<i64>(std::stoll(value));
}

}  // namespace

void SweepOptions::add(CLI::App& command) {
  for (const AxisOption& axis : kAxisOptions) {
    const bool counts = axis_info(axis.axis).counts;
    CLI::Option* option = add_list(command, ("--" + std::string(axis.axis)).c_str(), lists[axis.axis], axis.what,
                                   counts ? "COUNTS" : "LIST", kAxesGroup);
    if (*axis.usual != '\0') option->default_str(axis.usual);
  }
  add_list(command, "--zip", zips,
           "Axes that walk together instead of in every combination, repeatable: context,candidates", "LIST",
           kAxesGroup);
  add_seed(command, seed, "Seed of everything that is drawn", kWorkloadGroup);
  add_name(command, "--block-window", block_window, "visible, or upstream as the released patch", kIndexerGroup);
  add_count(command, "--threads", threads, "Threads (default: the cores available)", kBackendGroup);
  add_device(command, device);
  add_kernels(command, kernels);
  command
      .add_option_function<std::string>(
          "--max-memory", [this](const std::string& text) { max_bytes = parse_bytes(text); },
          "Most memory for a group, e.g. 2GiB (default: 9/10 of the machine's, or what a device has free)")
      ->type_name("BYTES")
      ->group(kBackendGroup);
  add_flag(command, "--no-fusion", no_fusion, "One kernel per stage", kBackendGroup);
  add_flag(command, "--no-graph", no_graph, "On cuda: launch kernel by kernel, not as a graph", kBackendGroup);
  add_decimal(command, "--budget", budget_seconds, "Seconds for each case; cases measured side by side share theirs",
              "SECONDS", kTimingGroup, 0, 1e6);
  add_count(command, "--samples", samples, "Samples of each case, if the budget holds them (default: 50)",
            kTimingGroup);
  add_count(command, "--warm-up", warm_up, "Runs that are thrown away first (default: 1)", kTimingGroup, 0);
  add_flag(command, "--warm", warm, "On cuda: leave in the cache what the last run left there", kTimingGroup);
  add_flag(command, "--dry-run", dry, "Measure nothing: cases, groups, memory, and a time estimated from a short run",
           kTimingGroup);
  add_flag(command, "--resume", resume, "Go on with the sweep in the output that is JSON lines; without one, begin it",
           kOutputGroup);
  add_text(command, "--shard", shard, "Measure one part of several, such as 1/4; misa-prof merge puts them together",
           "I/N", kOutputGroup);
  output.add(command);
  add_config(command, config);
}

std::vector<SweepAxis> SweepOptions::axes() const {
  const auto is_given = [this](std::string_view axis) { return !lists.find(axis)->second.empty(); };
  const bool recorded = is_given("trace");
  const bool is_usual = !recorded && !is_given("workload") && !is_given("phase");
  std::vector<SweepAxis> axes;
  for (const AxisOption& option : kAxisOptions) {
    const AxisInfo& info = axis_info(option.axis);
    std::vector<std::string> given = lists.find(option.axis)->second;
    if (given.empty() && *option.usual != '\0' && (option.recorded || !recorded)) given = {option.usual};
    // So few rows that two cores take samples enough of the longest default context in time.
    if (given.empty() && std::string_view(option.axis) == "rows" && is_usual) given = {"32"};
    if (given.empty()) continue;
    if (recorded && !option.recorded) {
      throw Error(ErrorKind::usage, "MP-E017", fmt::format("--trace and --{} name two workloads", option.axis), {},
                  "one of them");
    }
    const std::string_view name = info.name;
    axes.push_back({std::string(name), name == "indexer" ? indexer_names(given) : values_of(info, given)});
    if (name == "backend") check_backends(axes.back().values);
    if (name == "router") check_routers(axes.back().values);
  }
  return axes;
}

std::vector<std::vector<std::string>> SweepOptions::zip_names() const {
  std::vector<std::vector<std::string>> names;
  for (const std::string& zip : zips) names.push_back(split_at_commas({zip}));
  return names;
}

WorkloadOptions SweepOptions::workload_of(const Coordinates& point) const {
  WorkloadOptions options;
  options.trace = value_at(point, "trace");
  options.model = value_at(point, "model");
  options.workload = value_at(point, "workload");
  options.preset = value_at(point, "preset");
  options.phase = value_at(point, "phase");
  options.context = count_in(point, "context");
  options.sequences = count_in(point, "sequences");
  options.rows = count_in(point, "rows");
  options.next_n = count_in(point, "next-n");
  options.page_size = count_in(point, "page-size");
  options.dtype = value_at(point, "dtype");
  options.compress_ratio = count_in(point, "compress-ratio");
  options.seed = seed;
  options.max_bytes = max_bytes;
  return options;
}

IndexerOptions SweepOptions::indexer_of(const Coordinates& point) const {
  IndexerOptions options;
  options.names = {value_at(point, "indexer")};
  options.router = value_at(point, "router");
  options.block_window = block_window;
  options.pooling = value_at(point, "pooling");
  options.top_k = count_in(point, "top-k");
  options.block_size = count_in(point, "block-size");
  options.candidates = count_in(point, "candidates");
  options.active_heads = count_in(point, "active-heads").value_or(options.active_heads);
  options.sampled_keys = count_in(point, "sampled-keys").value_or(options.sampled_keys);
  options.blocks = count_in(point, "blocks").value_or(options.blocks);
  return options;
}

Json SweepOptions::shared_json(i64 thread_number) const {
  return {{"seed", std::to_string(seed)},
          {"block_window", block_window},
          {"threads", thread_number},
          {"device", or_null(device)},
          {"kernels", kernels},
          {"fusion", !no_fusion},
          {"graphs", !no_graph},
          {"cold", !warm},
          {"budget_seconds", budget_seconds},
          {"samples", or_null(samples)},
          {"warm_up", or_null(warm_up)}};
}

std::vector<std::string> SweepOptions::input_files(const std::vector<SweepAxis>& axes) const {
  std::vector<std::string> files;
  for (const SweepAxis& axis : axes) {
    for (const std::string& value : axis.values) {
      WorkloadOptions one;
      if (axis.name == "trace") {
        one.trace = value;
        files.push_back(one.trace_path());
      }
      if (axis.name == "model") one.model = value;
      if (axis.name == "workload") one.workload = value;
      for (std::string& file : one.profile_files()) files.push_back(std::move(file));
    }
  }
  return files;
}

}  // namespace misa::cli
