#include "cli/workload_options.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <filesystem>

#include "cli/build_facts.hpp"
#include "core/base/decimal.hpp"
#include "core/base/suggest.hpp"
#include "core/platform/system.hpp"
#include "core/workload/subset.hpp"
#include "core/workload/trace.hpp"

namespace misa::cli {
namespace fs = std::filesystem;
namespace {

constexpr const char* kDefaultTrace = "learned-32k-h64";
constexpr const char* kDefaultModel = "deepseek-v3.2";
constexpr const char* kDefaultWorkload = "prefill-8k";
constexpr const char* kTraceEnding = ".safetensors";

/// Where profiles of the program are looked for: installed, then in a build tree.
std::vector<std::string> usual_directories() {
  const fs::path program = own_path();
  std::vector<std::string> directories;
  fs::path prefix = program.parent_path().parent_path();
  if (program != executable_path() && !fs::exists(prefix / "share")) prefix = prefix.parent_path();  // lib/MACHINE/
  directories.push_back((prefix / "share" / "misa-prof" / "profiles").string());
  for (fs::path up = program.parent_path(); up.has_relative_path(); up = up.parent_path()) {
    directories.push_back((up / "profiles").string());
  }
  return directories;
}

}  // namespace

std::vector<std::string> profile_directories() {
  std::vector<std::string> found;
  const auto add = [&](const fs::path& directory) {
    std::error_code failure;
    for (const char* kind : {"models", "workloads", "traces"}) {
      if (!fs::is_directory(directory / kind, failure)) continue;
      found.push_back(directory.string());
      return true;
    }
    return false;
  };
  if (const char* directory = std::getenv("MISA_PROF_PROFILES"); directory != nullptr && *directory != '\0') {
    if (!add(directory)) {
      throw Error(ErrorKind::usage, "MP-E034", "MISA_PROF_PROFILES names no directory of profiles", directory,
                  "a directory that holds models, workloads or traces");
    }
  }
  for (const std::string& directory : usual_directories()) add(directory);
  return found;
}

std::string shipped_path(const std::string& path) {
  constexpr std::string_view kBeginning = "profiles/";
  std::error_code failure;
  if (!path.starts_with(kBeginning) || fs::exists(path, failure)) return path;
  for (const std::string& directory : profile_directories()) {
    const fs::path shipped = fs::path(directory) / path.substr(kBeginning.size());
    if (fs::exists(shipped, failure)) return shipped.string();
  }
  return path;
}

Error no_profiles() {
  return {ErrorKind::unavailable, "MP-E055", "there are no profiles: models, workloads and traces",
          fmt::format("searched {}", fmt::join(usual_directories(), ", ")),
          "MISA_PROF_PROFILES=DIR, the profiles folder of the source"};
}

i64 parse_bytes(const std::string& text) {
  constexpr i64 kMost = i64{1} << 62;
  const std::size_t digits = std::min(text.find_first_not_of("0123456789."), text.size());
  std::string unit = text.substr(digits);
  for (char& c : unit) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  if (unit.size() > 1 && unit.back() == 'b') unit.pop_back();
  i64 factor = 0;
  if (unit.empty() || unit == "b") factor = 1;
  for (int i = 0; i < 4; ++i) {
    if (unit == std::string(1, "kmgt"[i]) || unit == std::string(1, "kmgt"[i]) + "i") factor = i64{1} << 10 * (i + 1);
  }
  const std::string number = text.substr(0, digits);
  const std::optional<u64> whole = whole_number_of(number);
  const std::optional<double> decimal = decimal_number_of(number);
  if (factor > 0 && whole && *whole >= 1 && *whole <= static_cast<u64>(kMost / factor)) {
    return static_cast<i64>(*whole) * factor;
  }
  // A part of a byte is no byte: 1.5KiB is 1536, 0.5 is nothing.
  if (factor > 1 && decimal && *decimal * static_cast<double>(factor) >= 1 &&
      *decimal * static_cast<double>(factor) <= static_cast<double>(kMost)) {
    return static_cast<i64>(*decimal * static_cast<double>(factor));
  }
  throw Error(ErrorKind::usage, "MP-E015", "'" + text + "' is not a number of bytes", "--max-memory",
              "2GiB, 512MiB or 1000000");
}

void WorkloadOptions::add_synthetic(CLI::App& command) {
  add_text(command, "--model", model, "Model profile: a name (misa-prof list) or a .toml file", "NAME", kWorkloadGroup);
  add_text(command, "--workload", workload, "Workload profile: a name or a .toml file", "NAME", kWorkloadGroup);
  add_text(command, "--preset", preset, "Synthetic preset instead of the workload profile's", "NAME", kWorkloadGroup);
  add_seed(command, seed, "Seed of everything that is drawn", kWorkloadGroup);
  add_count(command, "--rows", rows, "Query rows (of a recorded prefill: so many, evenly spaced)", kWorkloadGroup);
  add_text(command, "--phase", phase, "prefill or decode, instead of the workload profile's", "NAME", kWorkloadGroup);
  add_count(command, "--context", context, "Tokens of each sequence, such as 16k, instead of the workload profile's",
            kWorkloadGroup, 0);
  add_count(command, "--sequences", sequences, "Sequences, instead of the workload profile's", kWorkloadGroup);
  add_count(command, "--next-n", next_n, "At decode: rows of each sequence, one and its drafts", kWorkloadGroup);
  add_count(command, "--page-size", page_size, "At decode: keys of a page", kWorkloadGroup);
  add_text(command, "--dtype", dtype,
           fmt::format("Format of queries and keys instead of the model's: {}", fmt::join(value_format_names(), ", ")),
           "NAME", kWorkloadGroup);
  add_count(command, "--compress-ratio", compress_ratio,
            "Tokens that a key stands for, instead of the model profile's (1, DeepSeek-V4 4)", kWorkloadGroup);
}

void WorkloadOptions::add_trace(CLI::App& command) {
  add_text(command, "--trace", trace,
           std::string("Recorded workload: a file, or a name of profiles/traces (default: ") + kDefaultTrace +
               ", unless --model or another option of synthetic workloads is given)",
           "FILE", kWorkloadGroup);
  add_count(command, "--layer", layer, "Of a recorded workload that holds several layers: the one", kWorkloadGroup, 0);
}

void WorkloadOptions::add_row(CLI::App& command) {
  add_count(command, "--row", row, "One row alone, by its number in reports, from 0 (of --rows, where that is given)",
            kWorkloadGroup, 0);
}

void WorkloadOptions::add_memory(CLI::App& command) {
  command
      .add_option_function<std::string>(
          "--max-memory", [this](const std::string& text) { max_bytes = parse_bytes(text); },
          "Most memory for workload and workspace, e.g. 2GiB (default: 9/10 of the machine's, or what a device has "
          "free)")
      ->type_name("BYTES")
      ->group(kBackendGroup);
}

i64 WorkloadOptions::memory_limit() const {
  if (max_bytes > 0) return max_bytes;
  const i64 memory = system_info().memory_bytes;
  return memory > 0 ? memory / 10 * 9 : i64{1} << 62;
}

MemoryLimits WorkloadOptions::memory_limits() const {
  return {.host = memory_limit(), .device = max_bytes > 0 ? std::optional(max_bytes) : std::nullopt};
}

std::vector<std::string> WorkloadOptions::profile_files() const {
  std::vector<std::string> files;
  for (const std::string& name : {model, workload}) {
    if (name.find('/') != std::string::npos || fs::path(name).extension() == ".toml") files.push_back(name);
  }
  return files;
}

std::string WorkloadOptions::trace_path() const {
  std::string name = shipped_path(trace.empty() ? kDefaultTrace : trace);
  std::error_code failure;
  if (fs::exists(name, failure) || name.find('/') != std::string::npos) return name;
  std::vector<std::string> known;
  const std::vector<std::string> directories = profile_directories();
  if (directories.empty()) throw no_profiles();
  for (const std::string& directory : directories) {
    const fs::path traces = fs::path(directory) / "traces";
    if (fs::exists(traces / (name + kTraceEnding), failure)) return (traces / (name + kTraceEnding)).string();
    for (const auto& entry : fs::directory_iterator(traces, failure)) {
      if (entry.path().extension() == kTraceEnding) known.push_back(entry.path().stem().string());
    }
  }
  throw Error(ErrorKind::input, "MP-E016", "there is no trace '" + name + "'", {},
              suggestion(name, known, "a path, or a name that misa-prof list shows"));
}

bool WorkloadOptions::recorded() const {
  WorkloadChanges drawn = changes();
  drawn.rows.reset();  // of a recorded workload some can be kept
  return model.empty() && workload.empty() && preset.empty() && dtype.empty() && !drawn.any();
}

WorkloadChanges WorkloadOptions::changes() const {
  WorkloadChanges changes{.context = context,
                          .sequences = sequences,
                          .rows = rows,
                          .next_n = next_n,
                          .page_size = page_size,
                          .compress_ratio = compress_ratio};
  if (phase.empty()) return changes;
  for (const Phase known : {Phase::prefill, Phase::decode}) {
    if (phase_name(known) == phase) changes.phase = known;
  }
  if (changes.phase) return changes;
  throw Error(ErrorKind::usage, "MP-E069", "--phase is '" + phase + "'", {}, "prefill or decode");
}

std::optional<ValueFormat> WorkloadOptions::format() const {
  if (dtype.empty()) return std::nullopt;
  const std::span<const std::string_view> names = value_format_names();
  const auto found = std::find(names.begin(), names.end(), dtype);
  if (found != names.end()) return static_cast<ValueFormat>(found - names.begin());
  const std::vector<std::string> known(names.begin(), names.end());
  throw Error(ErrorKind::usage, "MP-E563", "--dtype is '" + dtype + "'", {},
              suggestion(dtype, known, fmt::format("{}", fmt::join(known, ", "))));
}

SyntheticRequest WorkloadOptions::request() const {
  if (!trace.empty() || layer) {
    throw Error(ErrorKind::usage, "MP-E017",
                "--trace or --layer and --model, --workload, --preset, --dtype, --phase, --context, --sequences, "
                "--next-n, --page-size or --compress-ratio name two workloads",
                {}, "one of them");
  }
  const std::vector<std::string> directories = profile_directories();
  if (directories.empty() && profile_files().size() < 2) throw no_profiles();
  ModelProfile model_profile = load_model(model.empty() ? kDefaultModel : model, directories);
  model_profile.format = format().value_or(model_profile.format);
  WorkloadProfile workload_profile =
      changed(load_workload(workload.empty() ? kDefaultWorkload : workload, directories), changes());
  if (!preset.empty()) {
    workload_profile.preset = find_preset(preset).name;
    workload_profile.knobs.reset();
  }
  SyntheticRequest wanted = make_request(model_profile, workload_profile, seed);
  if (const i64 needed = generated_bytes(wanted); needed > memory_limit()) {
    throw Error(
        ErrorKind::runtime, "MP-E504",
        "the workload alone needs " + std::to_string(needed) + " bytes, the limit is " + std::to_string(memory_limit()),
        wanted.name, "a larger --max-memory, fewer --rows or a shorter context");
  }
  return wanted;
}

Workload WorkloadOptions::synthesise() const { return generate(request()); }

Workload WorkloadOptions::outline() const { return recorded() ? load(nullptr) : lay_out(request()); }

Workload WorkloadOptions::load(std::vector<Warning>* warnings, const std::function<void(Workload&)>& change) const {
  if (!recorded()) {
    Workload generated = synthesise();
    if (change) change(generated);
    return row ? keep_row(std::move(generated), *row) : std::move(generated);
  }
  Workload recorded_workload = read_trace(trace_path(), memory_limit(), warnings, layer);
  if (change) change(recorded_workload);
  if (const i64 needed = recorded_workload.bytes() + thinning_bytes(recorded_workload, rows.value_or(row ? 1 : 0));
      needed > memory_limit()) {
    throw Error(ErrorKind::runtime, "MP-E504",
                fmt::format("the workload needs {} bytes while rows are taken from it, the limit is {}", needed,
                            memory_limit()),
                recorded_workload.name, "a larger --max-memory, fewer --rows or a shorter context");
  }
  if (!rows && !row) return recorded_workload;
  const bool selects = !recorded_workload.topk.empty();
  Workload kept = rows ? keep_rows(std::move(recorded_workload), *rows) : std::move(recorded_workload);
  if (row) kept = keep_row(std::move(kept), *row);
  if (selects && kept.topk.empty() && warnings != nullptr) {
    warnings->push_back(
        {"MP-W021",
         fmt::format("no row that {} keeps has a recorded topk: none is rated or judged", row ? "--row" : "--rows"),
         trace_path()});
  }
  return kept;
}

Origin origin_of(const WorkloadOptions& workload, bool host, bool top_k_asked) {
  const bool recorded = workload.recorded();
  return {.tool_version = std::string(program_version()),
          .build = build_facts(),
          .host = host,
          .seed = recorded ? std::nullopt : std::optional(workload.seed),
          .trace_path = recorded ? std::optional(workload.trace_path()) : std::nullopt,
          .top_k_asked = top_k_asked};
}

}  // namespace misa::cli
