#include "core/experiment/diff.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>
#include <utility>

#include "core/base/error.hpp"
#include "core/measure/statistics.hpp"
#include "core/report/text.hpp"

namespace misa {
namespace {

constexpr double kNanosecond = 1e-9;
/// A load beside a run may slow all of it down. So many runs of each side are rarely all slow on one side alone.
constexpr std::size_t kRunsBesideLoad = 4;

/// A value as text: a text itself, else as JSON has it; empty where there is none.
std::string shown(const Json& json, std::string_view path) {
  const Json* value = find_value(json, path);
  if (value == nullptr || value->is_null()) return {};
  return value->is_string() ? value->get<std::string>() : value->dump(-1, ' ', false, Json::error_handler_t::replace);
}

/// One case of one file, and what it was measured on.
struct Measured {
  const ResultFile* file;
  const Json* workload;
  const Json* one;
};

/// The parts of a case's name that say what it is.
DiffCase identity_of(const Measured& measured) {
  const Json &workload = *measured.workload, &one = *measured.one;
  DiffCase found;
  found.model = shown(workload, "model");
  found.workload = shown(workload, "name");
  found.phase = shown(workload, "phase");
  found.context = count_at(workload, "context.max");
  found.indexer = shown(one, "indexer");
  found.router = shown(one, "router");
  found.backend = shown(one, "backend");
  found.side = shown(one, "side");
  std::vector<std::string> parameters;
  const Json* used = find_value(one, "used");
  if (used != nullptr && used->is_object()) {
    for (const auto& [name, value] : used->items()) {
      if (!value.is_null()) parameters.push_back(name + " " + shown(*used, name));
    }
  }
  found.parameters = joined(parameters, ", ");
  return found;
}

/// What two cases must have in common to be the same.
std::string key_of(const DiffCase& one, bool any_inputs) {
  std::vector<std::string> parts{one.indexer, one.router, one.backend, one.side, one.parameters};
  if (!any_inputs) {
    for (const std::string& part : {one.model, one.workload, one.phase}) parts.push_back(part);
    parts.push_back(one.context ? std::to_string(*one.context) : "");
  }
  return fmt::format("{}", fmt::join(parts, "\n"));
}

std::vector<Measured> cases_of(const ResultFile& file) {
  std::vector<Measured> found;
  static const Json kNothing = Json::object();
  for (const Json& one : need_array(file, file.document, "cases")) {
    const Json* inner = find_value(one, "case");  // of a sweep
    const Json* workload = find_value(one, "workload");
    if (workload == nullptr) workload = find_value(file.document, "workload");
    found.push_back({&file, workload ? workload : &kNothing, inner ? inner : &one});
    const std::string where = fmt::format("cases[{}]{}", found.size() - 1, inner ? ".case" : "");
    (void)need_text(file, *found.back().one, "indexer", where);
    (void)need_text(file, *found.back().one, "backend", where);
  }
  return found;
}

/// The cases of one side by what they are; the first of each file where a file has several that are the same.
using Side = std::map<std::string, std::vector<Measured>>;

Side side_of(const std::vector<ResultFile>& files, bool any_inputs, std::vector<std::string>& order,
             std::vector<Warning>& warnings) {
  Side side;
  for (const ResultFile& file : files) {
    std::set<std::string> seen;
    i64 twice = 0;
    for (const Measured& measured : cases_of(file)) {
      const std::string key = key_of(identity_of(measured), any_inputs);
      if (!seen.insert(key).second) {
        ++twice;
        continue;
      }
      if (side.count(key) == 0) order.push_back(key);
      side[key].push_back(measured);
    }
    if (twice > 0) {
      warnings.push_back({"MP-W078",
                          fmt::format("{} the same as earlier ones of the file by all that tells cases apart: only "
                                      "the first of each is compared",
                                      counted(twice, "case is", "cases are")),
                          file.path});
    }
  }
  return side;
}

/// The facts that must agree, as paths into the document, with the name and the option of each.
struct Fact {
  const char* path;
  const char* what;
  bool DiffAllowed::*allowed;
};
constexpr Fact kFacts[] = {
    {"environment.cpu", "processor", &DiffAllowed::host},
    {"environment.cores", "cores", &DiffAllowed::host},
    {"environment.governor", "governor", &DiffAllowed::host},
    {"environment.isa", "instruction sets", &DiffAllowed::host},
    {"environment.cpu_quota", "quota", &DiffAllowed::host},
    {"environment.build.type", "build type", &DiffAllowed::build},
    {"environment.build.compiler", "compiler", &DiffAllowed::build},
    {"environment.build.flags", "compiler flags", &DiffAllowed::build},
    {"environment.build.kernel_flags", "kernel flags", &DiffAllowed::build},
    {"environment.build.libraries", "libraries", &DiffAllowed::build},
    {"environment.threads", "threads", &DiffAllowed::run},
    {"measurement.cache", "cache", &DiffAllowed::run},
    {"measurement.launch", "launch", &DiffAllowed::run},
};

constexpr std::pair<bool DiffAllowed::*, const char*> kOptions[] = {
    {&DiffAllowed::inputs, "--allow-different-inputs"},
    {&DiffAllowed::host, "--allow-different-host"},
    {&DiffAllowed::build, "--allow-different-build"},
    {&DiffAllowed::run, "--allow-different-run"},
};
const char* option_of(bool DiffAllowed::*allowed) {
  const auto is = [&](const auto& one) { return one.first == allowed; };
  return std::find_if(std::begin(kOptions), std::end(kOptions), is)->second;
}

class Differ {
 public:
  explicit Differ(const DiffRequest& request) : request_(request) {}

  DiffReport run() {
    report_.tool_version = request_.tool_version;
    report_.command_line = request_.command_line;
    report_.same_within = request_.same_within;
    report_.noise = request_.noise;
    report_.max_slowdown = request_.max_slowdown;
    for (const ResultFile& file : request_.a) report_.a.push_back(described(file));
    for (const ResultFile& file : request_.b) report_.b.push_back(described(file));
    refuse_repeated();
    compare_documents();
    std::vector<std::string> order, order_b;
    const bool any = request_.allowed.inputs;
    const Side a = side_of(request_.a, any, order, report_.warnings);
    const Side b = side_of(request_.b, any, order_b, report_.warnings);
    for (const std::string& key : order) {
      if (b.count(key) == 0) {
        report_.only_a.push_back(name_of(a.at(key).front()));
      } else {
        compare_inputs(a.at(key), b.at(key));
        add_case(a.at(key), b.at(key));
      }
    }
    for (const std::string& key : order_b) {
      if (a.count(key) == 0) report_.only_b.push_back(name_of(b.at(key).front()));
    }
    refuse_unlike();
    if (report_.cases.empty()) {
      throw Error(ErrorKind::nothing, "MP-E490",
                  fmt::format("no case is in both: {} only in A{}, {} only in B{}", report_.only_a.size(),
                              first_of(report_.only_a), report_.only_b.size(), first_of(report_.only_b)),
                  {},
                  any ? "results of the same indexers and parameters"
                      : "--allow-different-inputs, if another workload is meant to be compared");
    }
    judge();
    return std::move(report_);
  }

 private:
  /// One result given twice is no second run, and beside itself it is always the same.
  void refuse_repeated() const {
    std::vector<const ResultFile*> files;
    for (const auto* side : {&request_.a, &request_.b}) {
      for (const ResultFile& file : *side) {
        for (const ResultFile* other : files) {
          if (file.document != other->document) continue;
          throw Error(ErrorKind::nothing, "MP-E497",
                      "'" + other->path + "' and '" + file.path + "' are one and the same result: nothing is compared",
                      {}, "a result of another run");
        }
        files.push_back(&file);
      }
    }
  }

  static std::string first_of(const std::vector<std::string>& names) {
    return names.empty() ? "" : " (" + names.front() + (names.size() > 1 ? ", ...)" : ")");
  }

  static DiffFile described(const ResultFile& file) {
    const Json& json = file.document;
    const bool changed = truth_at(json, "environment.build.changed").value_or(false);
    const std::string commit = shown(json, "environment.build.commit");
    return {.path = file.path,
            .tool_version = shown(json, "tool.version"),
            .commit = commit.empty() || !changed ? commit : commit + "-changed",
            .timestamp_utc = shown(json, "environment.timestamp_utc"),
            .fingerprint = shown(json, "environment.fingerprint")};
  }

  /// "misa (qnorm) on cpu, tiny/ci"
  static std::string name_of(const Measured& measured) {
    const DiffCase one = identity_of(measured);
    std::string name = one.indexer;
    if (!one.router.empty() && one.router != "pooled") name += " (" + one.router + ")";
    name += " on " + one.backend;
    if (!one.side.empty()) name += ", side " + one.side;
    if (!one.workload.empty()) name += ", " + one.workload;
    if (one.context) name += fmt::format(" {}", *one.context);
    return name;
  }

  void note(const std::string& what, const std::string& a, const std::string& b, const ResultFile& file_a,
            const ResultFile& file_b, bool DiffAllowed::*allowed) {
    if (a == b) return;
    const auto said = [&](const Unlike& one) { return one.what == what && one.a == a && one.b == b; };
    auto& notes = request_.allowed.*allowed ? report_.allowed : refused_;
    if (std::any_of(notes.begin(), notes.end(), said)) return;
    notes.push_back({what, a, b, file_a.path, file_b.path, option_of(allowed)});
  }

  /// Every file against the first of A: those of a side are pooled, so they must be alike, too.
  void compare_documents() {
    const ResultFile& first = request_.a.front();
    const auto against_first = [&](const ResultFile& other) {
      if (first.kind != other.kind) {
        note("kind of result", std::string(schema_name(first.kind)), std::string(schema_name(other.kind)), first, other,
             &DiffAllowed::run);
      }
      for (const Fact& fact : kFacts) {
        note(fact.what, shown(first.document, fact.path), shown(other.document, fact.path), first, other, fact.allowed);
      }
      compare_backends(first, other);
    };
    for (const ResultFile& file : request_.a) against_first(file);
    for (const ResultFile& file : request_.b) against_first(file);
  }

  /// A backend that both have must be the same device with the same driver and libraries.
  void compare_backends(const ResultFile& a, const ResultFile& b) {
    for (const Json& one : array_at(a.document, "environment.backends")) {
      for (const Json& other : array_at(b.document, "environment.backends")) {
        if (shown(one, "name") != shown(other, "name")) continue;
        note("device of " + shown(one, "name"), shown(one, "description"), shown(other, "description"), a, b,
             &DiffAllowed::host);
      }
    }
  }

  void compare_inputs(const std::vector<Measured>& a, const std::vector<Measured>& b) {
    constexpr const char* kPaths[] = {"input_hash", "preset",    "seed",  "rows",  "heads", "head_dim",
                                      "keys",       "sequences", "dtype", "paged", "pairs"};
    const Measured& first = a.front();
    const auto against_first = [&](const Measured& other) {
      const bool hashed = find_value(*first.workload, "input_hash") && find_value(*other.workload, "input_hash");
      for (const char* path : kPaths) {
        if (std::string_view(path) == "input_hash" && !hashed) continue;
        note(fmt::format("inputs of {}: {}", shown(*first.workload, "name"), path), shown(*first.workload, path),
             shown(*other.workload, path), *first.file, *other.file, &DiffAllowed::inputs);
        if (std::string_view(path) == "input_hash" && hashed &&
            shown(*first.workload, path) == shown(*other.workload, path))
          return;  // the same values have the same shape, wherever they come from
      }
    };
    for (const Measured& other : a) against_first(other);
    for (const Measured& other : b) against_first(other);
  }

  void refuse_unlike() const {
    if (refused_.empty()) return;
    std::vector<std::string> parts;
    std::set<std::string> options;
    for (const Unlike& one : refused_) {
      const auto value = [](const std::string& text) {
        return text.empty() ? "unknown" : shortened(printable(text), 60);
      };
      parts.push_back(fmt::format("{}: {} and {}", one.what, value(one.a), value(one.b)));
      options.insert(one.option);
    }
    throw Error(ErrorKind::input, "MP-E489", "the results are not alike: " + joined(parts, "; "),
                refused_.front().path_a + " and " + refused_.front().path_b,
                joined({options.begin(), options.end()}, " ") + ", if that is what is to be compared");
  }

  /// The samples of each run, in seconds.
  static std::vector<RunSamples> runs_of(const std::vector<Measured>& side) {
    std::vector<RunSamples> runs;
    for (const Measured& measured : side) {
      RunSamples samples = numbers_at(*measured.one, "end_to_end_ns.raw");
      for (double& sample : samples) sample *= kNanosecond;
      if (!samples.empty()) runs.push_back(std::move(samples));
    }
    return runs;
  }

  static double mean_of_medians(const std::vector<RunSamples>& runs) {
    std::vector<double> medians;
    for (const RunSamples& run : runs) medians.push_back(median(run));
    return mean(medians);
  }

  static i64 samples_in(const std::vector<RunSamples>& runs) {
    i64 count = 0;
    for (const RunSamples& run : runs) count += static_cast<i64>(run.size());
    return count;
  }

  /// Mean over the runs that have the number; empty where none has.
  static std::optional<double> mean_at(const std::vector<Measured>& side, const std::string& path) {
    std::vector<double> numbers;
    for (const Measured& measured : side) {
      if (const auto number = number_at(*measured.one, path)) numbers.push_back(*number);
    }
    return numbers.empty() ? std::nullopt : std::optional(mean(numbers));
  }

  /// Stage name -> mean over runs of medians, in seconds.
  static std::map<std::string, double> stages_of(const std::vector<Measured>& side) {
    std::map<std::string, std::vector<double>> medians;
    for (const Measured& measured : side) {
      for (const Json& stage : array_at(*measured.one, "stages")) {
        if (const auto nanoseconds = number_at(stage, "time_ns.median")) {
          medians[shown(stage, "name")].push_back(*nanoseconds * kNanosecond);
        }
      }
    }
    std::map<std::string, double> means;
    for (const auto& [name, numbers] : medians) means[name] = mean(numbers);
    return means;
  }

  void add_case(const std::vector<Measured>& a, const std::vector<Measured>& b) {
    DiffCase one = identity_of(a.front());
    one.name = name_of(a.front());
    const std::vector<RunSamples> runs_a = runs_of(a), runs_b = runs_of(b);
    one.a = mean_of_medians(runs_a);
    one.b = mean_of_medians(runs_b);
    one.runs_a = static_cast<i64>(runs_a.size());
    one.runs_b = static_cast<i64>(runs_b.size());
    one.samples_a = samples_in(runs_a);
    one.samples_b = samples_in(runs_b);
    if (runs_a.empty() || runs_b.empty()) {
      one.reason = "not timed";
    } else if (std::min(runs_a.size(), runs_b.size()) < kRunsBesideLoad) {
      for (const auto* side : {&a, &b}) {
        const auto disturbed = std::find_if(side->begin(), side->end(), loaded);
        if (disturbed != side->end() && one.reason.empty()) {
          one.reason = "other work shared the cores while " + disturbed->file->path + " was measured";
        }
      }
    }
    ratios_.push_back(TimeRatio::separate(runs_a, runs_b, request_.noise));
    const std::map<std::string, double> stages_a = stages_of(a), stages_b = stages_of(b);
    for (const Json& stage : array_at(*a.front().one, "stages")) {  // in the order in which they run
      const auto in_a = stages_a.find(shown(stage, "name")), in_b = stages_b.find(shown(stage, "name"));
      if (in_a != stages_a.end() && in_b != stages_b.end()) {
        one.stages.push_back({in_a->first, in_a->second, in_b->second});
      }
    }
    add_quality(a, b, one);
    report_.cases.push_back(std::move(one));
  }

  static bool loaded(const Measured& measured) {
    const Json* const places[] = {measured.one, &measured.file->document};
    for (const Json* json : places) {
      if (const auto told = truth_at(*json, "measurement.contention.loaded")) return *told;
    }
    return false;
  }

  static void add_quality(const std::vector<Measured>& a, const std::vector<Measured>& b, DiffCase& one) {
    constexpr std::pair<const char*, const char*> kNumbers[] = {{"recall", "quality.recall.mean"},
                                                                {"recall_worst", "quality.recall.worst"},
                                                                {"iou", "quality.iou"},
                                                                {"attention_mass", "quality.attention_mass"},
                                                                {"needle_hit_rate", "quality.needle_hit_rate"}};
    for (const auto& [name, path] : kNumbers) {
      const std::optional<double> in_a = mean_at(a, path), in_b = mean_at(b, path);
      if (in_a && in_b) one.quality.push_back({name, *in_a, *in_b});
    }
    std::map<i64, double> recalls;
    for (const Json& row : array_at(*a.front().one, "quality.per_row")) {
      const auto number = count_at(row, "row");
      const auto recall = number_at(row, "recall");
      if (number && recall) recalls[*number] = *recall;
    }
    for (const Json& row : array_at(*b.front().one, "quality.per_row")) {
      const auto number = count_at(row, "row");
      const auto recall = number_at(row, "recall");
      const auto before = number ? recalls.find(*number) : recalls.end();
      if (before == recalls.end() || !recall) continue;
      ++one.rows;
      one.rows_better += *recall > before->second;
      one.rows_worse += *recall < before->second;
    }
    const std::string hash_a = shown(*a.front().one, "selection_hash"),
                      hash_b = shown(*b.front().one, "selection_hash");
    if (!hash_a.empty() && !hash_b.empty()) one.same_selection = hash_a == hash_b;
  }

  void judge() {
    const std::vector<JudgedRatio> judged = judge_ratios(ratios_, request_.same_within);
    for (std::size_t i = 0; i < judged.size(); ++i) {
      DiffCase& one = report_.cases[i];
      one.time = judged[i];
      const bool decided = one.time.change != Change::inconclusive && one.time.change != Change::too_few;
      if (decided && !one.reason.empty()) one.time.change = Change::inconclusive;
      if (one.reason.empty() && one.time.change == Change::too_few) {
        one.reason = fmt::format("an interval takes {} samples of each run", kLeastRounds);
      }
      if (one.reason.empty() && one.time.change == Change::inconclusive)
        one.reason = "the noise is larger than the difference";
      if (!request_.max_slowdown) continue;
      one.gate = one.time.change == Change::inconclusive && decided ? Gate::inconclusive
                                                                    : gate_of(one.time, *request_.max_slowdown);
    }
  }

  const DiffRequest& request_;
  DiffReport report_;
  std::vector<Unlike> refused_;
  std::vector<TimeRatio> ratios_;
};

}  // namespace

DiffReport diff(const DiffRequest& request) { return Differ(request).run(); }

}  // namespace misa
