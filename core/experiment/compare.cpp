#include "core/experiment/compare.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <iterator>
#include <memory>
#include <utility>

#include "core/agreement/compare_sides.hpp"
#include "core/base/error.hpp"
#include "core/base/interrupt.hpp"
#include "core/experiment/describe.hpp"
#include "core/experiment/isolated_side.hpp"
#include "core/experiment/recorded.hpp"
#include "core/experiment/rehearsal.hpp"
#include "core/experiment/tested_side.hpp"
#include "core/experiment/user_program.hpp"
#include "core/indexer/dry_backend.hpp"
#include "core/indexer/effective.hpp"
#include "core/indexer/runnable.hpp"
#include "core/report/text.hpp"
#include "core/selection/golden.hpp"
#include "core/workload/input_hash.hpp"
#include "core/workload/subset.hpp"

namespace misa {
namespace {

using Time = std::chrono::steady_clock::time_point;

Time now() { return std::chrono::steady_clock::now(); }
double since(Time start) { return std::chrono::duration<double>(now() - start).count(); }

constexpr const char* kIdle = "the plug-in did nothing in this case";

/// Holds the decisions that come before memory is taken.
struct Prepared {
  std::optional<IndexerSpec> reference;  ///< what is rated is rated against it
  std::optional<IndexerSpec> recorded;   ///< what a recorded selection is compared with
  std::vector<i64> limits;               ///< of the plans, by case

  explicit Prepared(const CompareRequest& request) {
    const Workload& workload = request.workload;
    const std::string& rated = request.against_indexer;
    if (workload.rows() == 0) {
      throw Error(ErrorKind::nothing, "MP-E030", "the workload has no query rows", workload.name);
    }
    std::vector<Refusal> refused;  // each case says so for itself
    runnable_specs(request.backend, shape_of(workload), request.specs, refused);
    if (!rated.empty()) reference = make_indexer(rated, request.settings);
    if (request.recorded && !request.judges_ids() && !workload.topk.empty()) {
      IndexerSettings settings = request.settings;
      settings.top_k = workload.topk.shape.at(1);
      recorded = make_indexer(rated.empty() ? "dsa" : rated, settings);
    }
    limits = comparison_limits(request, reference, recorded);
  }
};

ReportSide describe_side(Backend& backend, const Shape& shape) {
  return {std::string(backend.name()), backend.description(), arithmetic_name(backend.arithmetic(shape))};
}

/// The golden of an indexer; empty: there is none.
std::string golden_path(const std::string& given, const IndexerSpec& spec) {
  std::error_code failure;
  const bool folder = std::filesystem::is_directory(given, failure);
  if (!folder) return golden_metadata(given)["indexer"] == spec.name ? given : std::string();
  const std::filesystem::path file = std::filesystem::path(given) / (spec.name + ".safetensors");
  return std::filesystem::exists(file, failure) ? file.string() : std::string();
}

class CompareRun {
 public:
  explicit CompareRun(const CompareRequest& request)
      : request_(request),
        workload_(request.workload),
        prepared_(request),
        formulas_(request.exact, request.workload),
        options_{.fusion = request.fusion, .first_row = first_row(request.workload)} {
    if (request.isolation) {
      side_ = std::make_unique<IsolatedSide>(request);
    } else {
      side_ = std::make_unique<LocalSide>(request, &formulas_);
    }
  }

  AgreementReport run() {
    refuse_all();
    describe();
    for (const IndexerSpec& spec : request_.specs) {
      if (interrupted()) break;
      AgreementCase& one = add_case(spec.name, [&](AgreementCase& added) {
        if (spec.heads) added.router = router_name(spec.heads->router);
        added.parameters = parameters_of(spec);
        added.used = parameters_of(effective(spec, formulas_.problem()));
        if (const std::string reason = why_not(spec); !reason.empty()) {
          conclude_as({Conclusion::nothing, reason}, added);
        } else if (request_.program) {
          compare_program(spec, added);
        } else if (request_.selection) {
          compare_recorded(spec, added);
        } else if (prepared_.reference) {
          rate(spec, added);
        } else {
          compare(spec, added);
        }
      });
      if (one.verdict != Conclusion::passed) one.reproduce = request_.reproduce(spec);
    }
    if (prepared_.recorded && !interrupted()) {
      add_case("recorded topk", [&](AgreementCase& added) { compare_recorded(*prepared_.recorded, added); });
    }
    report_.interrupted = interrupted();
    return std::move(report_);
  }

 private:
  void describe() {
    const Shape shape = shape_of(workload_);
    report_.tool_version = request_.origin.tool_version;
    report_.command_line = request_.origin.command_line;
    report_.warnings = request_.origin.warnings;
    report_.workload = describe_workload(workload_, request_.settings.top_k, request_.origin);
    std::vector<Backend*> used{&request_.exact};
    if (&request_.backend != &request_.exact) used.insert(used.begin(), &request_.backend);
    if (request_.other != nullptr) used.push_back(request_.other);
    report_.environment = describe_environment(used, request_.threads, request_.origin);
    report_.input_hash = input_hash(workload_);
    report_.side = describe_side(request_.backend, shape);
    report_.against = prepared_.reference ? report_.side
                      : !request_.golden.empty()
                          ? ReportSide{request_.golden, "golden", ""}
                          : describe_side(request_.other ? *request_.other : request_.exact, shape);
    if (request_.selection) describe_selection(*request_.selection);
    if (request_.program) {
      report_.side = {request_.program->text, fmt::format("a program, ids: {}", kind_name(request_.program->ids)),
                      request_.program->arithmetic};
    }
    report_.max_miss = request_.max_miss;
  }

  /// Runs the tested side. A plug-in's process has said what it is once it has run.
  TestedRun test(const IndexerSpec& spec, AgreementCase& one) {
    TestedRun run = side_->test(spec, options_);
    if (request_.isolation) {
      report_.side = describe_side(request_.backend, shape_of(workload_));
      if (prepared_.reference) report_.against = report_.side;
      ReportBackend& backend = report_.environment.backends.front();
      backend.name = report_.side.name;
      backend.description = report_.side.description;
    }
    if (!run.unable.empty()) conclude_as({Conclusion::nothing, cannot_run(request_.backend, run.unable)}, one);
    return run;
  }

  /// The tested side, where it is a selection from a file.
  void describe_selection(const GivenSelection& selection) {
    const auto stated = workload_.metadata.find("topk_arithmetic");
    report_.side = {selection.path, fmt::format("ids: {}", kind_name(selection.ids)),
                    stated == workload_.metadata.end() ? std::string() : stated->second};
    if (!request_.origin.top_k_asked) report_.workload.top_k_source = "recorded";
    const std::optional<RecordedTopK> given = recorded();
    if (given && given->padded > 0) {
      report_.warnings.push_back(
          {"MP-W023",
           fmt::format("{} that see fewer than {} tokens hold all of them and name others too, which are read as pads",
                       counted(given->padded, "row", "rows"), given->k),
           selection.path});
    }
  }

  /// The selection that came with the workload.
  std::optional<RecordedTopK> recorded() const {
    if (!request_.selection) return recorded_topk(workload_);
    return recorded_topk(workload_, request_.selection->ids, request_.settings.top_k);
  }

  /// Adds a case and does its work. Where that is interrupted, what was found stays; it is no verdict.
  AgreementCase& add_case(const std::string& name, const std::function<void(AgreementCase&)>& work) {
    const i64 done = static_cast<i64>(report_.cases.size());
    if (request_.sinks.progress) request_.sinks.progress({name, done, since(begun_)});
    const Time start = now();
    options_.max_bytes = prepared_.limits[static_cast<std::size_t>(done)] + formulas_.problem().bytes;
    AgreementCase& one = report_.cases.emplace_back();
    one.indexer = name;
    try {
      work(one);
    } catch (const Interrupted&) {
    }
    number_rows(one);
    if (interrupted()) conclude_as({Conclusion::nothing, "interrupted"}, one);
    one.seconds = since(start);
    return one;
  }

  /// Findings count rows as the workload's reports do.
  void number_rows(AgreementCase& one) const {
    const i64 first = first_row(workload_);
    for (ChoiceAgreement& choice : one.choices) {
      for (Miss& miss : choice.misses) miss.row += first;
      for (Violation& violation : choice.violations) violation.row += first;
      for (Difference& difference : choice.differences) difference.row += first;
    }
  }

  static void conclude_as(const Concluded& concluded, AgreementCase& one) {
    one.verdict = concluded.conclusion;
    one.explanation = concluded.why;
    one.how = concluded.how;
  }

  /// The refusal of a task for which a side has no kernel among those that are forced.
  std::optional<Error> refused(const IndexerSpec& spec) const {
    for (Backend* one : {&request_.backend, request_.other}) {
      if (one == nullptr) continue;
      if (auto refusal = refused_task(*one, workload_, spec, request_.fusion)) return refusal;
    }
    return std::nullopt;
  }

  /// Throws a refusal that leaves nothing to compare.
  void refuse_all() const {
    std::optional<Error> last;
    for (const IndexerSpec& spec : request_.specs) {
      auto refusal = refused(spec);
      if (!refusal) return;
      last = std::move(refusal);
    }
    if (last) throw Error(*last);
  }

  static std::string cannot_run(const Backend& backend, const std::string& reason) {
    return fmt::format("backend {} cannot run it: {}", backend.name(), reason);
  }

  /// Why a side cannot run an indexer; empty: both can.
  std::string why_not(const IndexerSpec& spec) const {
    for (const Backend* one : {&request_.backend, request_.other}) {
      const auto reason = one != nullptr ? one->why_not(spec, shape_of(workload_)) : std::nullopt;
      if (reason) return cannot_run(*one, *reason);
    }
    if (const auto refusal = refused(spec)) return refusal->what();
    return {};
  }

  Selection run_on(Backend& backend, const IndexerSpec& spec) const {
    const Placement placement(backend, workload_);
    return run_selection(backend, spec, placement.problem(), options_);
  }

  /// What the formulas select.
  Selection run_exact(const IndexerSpec& spec) const {
    Selection exact = run_selection(request_.exact, spec, formulas_.problem(), options_);
    exact.exact = true;
    return exact;
  }

  /// What the other side selects; nothing: there is no golden of `spec`.
  std::optional<Selection> run_against(const IndexerSpec& spec) {
    if (request_.golden.empty()) return request_.other ? run_on(*request_.other, spec) : run_exact(spec);
    const std::string path = golden_path(request_.golden, spec);
    if (path.empty()) return std::nullopt;
    Selection golden = read_golden(path, workload_, spec, request_.memory.host - workload_.bytes());
    report_.against = {request_.golden, golden.description, arithmetic_name(golden.arithmetic)};
    return golden;
  }

  void compare(const IndexerSpec& spec, AgreementCase& one) {
    const std::optional<Selection> against = run_against(spec);
    if (!against) {
      return conclude_as({Conclusion::nothing, fmt::format("{} holds no golden of {}", request_.golden, spec.name),
                          "misa-prof compare --indexer " + spec.name + " --write-golden DIR where its device is"},
                         one);
    }
    TestedRun run = test(spec, one);
    one.checks = std::move(run.checks);
    if (run.selection) {
      const Agreement agreement = compare_sides(formulas_, spec, *run.selection, *against, request_.choices);
      one.choices = agreement.choices;
      conclude_as(conclude(agreement, request_.max_miss), one);
      if (run.idle && one.verdict != Conclusion::failed) conclude_as({Conclusion::nothing, kIdle}, one);
    }
    fail_by_checks(one);
    if (!run.selection) return;
    if (one.verdict == Conclusion::failed && request_.sinks.failed) {
      request_.sinks.failed(spec, *run.selection, *against);
    }
    if (request_.sinks.selected) request_.sinks.selected(spec, std::move(*run.selection));
  }

  static void fail_by_checks(AgreementCase& one) {
    for (const ReportCheck& check : one.checks) {
      if (check.passed) continue;
      one.verdict = Conclusion::failed;
      one.explanation += (one.explanation.empty() ? "" : "; ") + check.name + ": " + check.detail;
    }
  }

  /// Runs the tested side for its quality alone. Without a selection `one` has failed, or has nothing to say.
  TestedRun rated_run(const IndexerSpec& spec, AgreementCase& one) {
    TestedRun run = test(spec, one);
    std::copy_if(run.checks.begin(), run.checks.end(), std::back_inserter(one.checks),
                 [](const ReportCheck& check) { return !check.passed; });
    fail_by_checks(one);
    return run;
  }

  /// Quality of an indexer against another on the same backend.
  void rate(const IndexerSpec& spec, AgreementCase& one) {
    const i64 k = request_.settings.top_k;
    if (!reference_) reference_ = rated_run(*prepared_.reference, one).selection;
    if (!reference_) return;
    const TestedRun run = rated_run(spec, one);
    if (!run.selection) return;
    const Quality quality = compare_selections(
        workload_, {(*reference_)[Choice::tokens].span<const i32>(), k, request_.against_indexer, spec.forced},
        {(*run.selection)[Choice::tokens].span<const i32>(), k});
    one.quality = quality;
    one.minimum_recall = request_.min_recall;
    if (quality.rows == 0) {
      conclude_as({Conclusion::nothing, request_.against_indexer + " selects nothing"}, one);
    } else if (request_.min_recall && *quality.recall.mean < *request_.min_recall) {
      conclude_as({Conclusion::failed, fmt::format("the mean recall is {:.4f}, and {:.4f} was asked for",
                                                   *quality.recall.mean, *request_.min_recall)},
                  one);
    } else if (run.idle && one.verdict == Conclusion::passed) {
      conclude_as({Conclusion::nothing, kIdle}, one);
    }
  }

  /// The selection that came with the workload, against what `spec` selects: rated, or judged by the formulas.
  void compare_recorded(const IndexerSpec& spec, AgreementCase& one) {
    const std::optional<RecordedTopK> found = recorded();
    if (!found) return conclude_as({Conclusion::nothing, kNoRecordedRow}, one);
    one.parameters.top_k = found->k;
    one.used.top_k = effective(spec, formulas_.problem()).top_k;
    if (prepared_.reference) {
      const TestedRun run = rated_run(spec, one);
      if (!run.selection) return;
      const std::span<const i32> right = (*run.selection)[Choice::tokens].span<const i32>();
      one.quality = rate_recorded(workload_, *found, right, spec.name, spec.forced);
      if (one.quality->rows == 0) conclude_as({Conclusion::nothing, kNoRecordedRow}, one);
      return;
    }
    judge_ids(*found, spec,
              request_.selection ? IdSource{"selection", "docs/agreement.md, Your selection", true}
                                 : IdSource{"trace", "docs/traces.md, What goes wrong when recording", false},
              one);
    if (one.verdict != Conclusion::passed) one.reproduce = request_.reproduce(spec);
  }

  /// What a program selects on the workload, by the formulas of `spec`.
  void compare_program(const IndexerSpec& spec, AgreementCase& one) {
    const UserProgram& program = *request_.program;
    ProgramRun run = run_program(program, workload_, spec, request_.memory.host - workload_.bytes());
    ReportCheck& check = one.checks.emplace_back(std::move(run.check));
    try {
      if (run.selected) {
        const IdFile& file = *run.selected;
        RecordedTopK found = topk_of(workload_, file.ids, file.rows, program.ids, spec.top_k);
        found.arithmetic = arithmetic_of(program, file);
        report_.side.arithmetic = arithmetic_name(found.arithmetic);
        judge_ids(found, spec, {"program", "docs/own-kernel.md, What the verdicts mean", true}, one);
      }
    } catch (const Error& error) {
      if (error.kind() == ErrorKind::runtime) throw;
      check = {check.name, false,
               fmt::format("wrote a selection that is none of this workload: {}: {}", error.id(), error.what())};
    }
    fail_by_checks(one);
  }

  static std::optional<Arithmetic> arithmetic_of(const UserProgram& program, const IdFile& file) {
    const std::string& name = program.arithmetic.empty() ? file.arithmetic : program.arithmetic;
    const std::optional<Arithmetic> found = find_arithmetic(name);
    if (!found && !name.empty()) throw Error(ErrorKind::input, "MP-E213", "unknown topk_arithmetic '" + name + "'");
    return found;
  }

  /// Where ids came from, what to read where they are wrong, and whether they may count something else.
  struct IdSource {
    std::string name, advice;
    bool any_kind = false;
  };

  /// Rates and judges ids by the formulas of `spec`.
  void judge_ids(const RecordedTopK& found, const IndexerSpec& spec, const IdSource& source, AgreementCase& one) {
    const Selection right = run_exact(spec);
    const std::span<const i32> wanted = right[Choice::tokens].span<const i32>();
    one.quality = rate_recorded(workload_, found, wanted, spec.name, spec.forced);
    const Agreement judged = judge_recorded(formulas_, found, spec, right, source.name);
    one.choices = judged.choices;
    conclude_as(conclude(judged, request_.max_miss), one);
    if (one.verdict == Conclusion::failed) one.how = source.advice;
    if (one.verdict == Conclusion::inconclusive && !found.arithmetic) {
      one.how = "--arithmetic NAME, one of misa-prof list --arithmetic";
    }
    const bool differs = one.verdict == Conclusion::failed || one.verdict == Conclusion::inconclusive;
    if (source.any_kind && differs) try_other_ids(found, wanted, one);
  }

  /// Says if the ids of a selection that does not agree make a better one when they count something else.
  void try_other_ids(const RecordedTopK& found, std::span<const i32> wanted, AgreementCase& one) const {
    const auto recall_of = [&](const RecordedTopK& as) {
      return rate_recorded(workload_, as, wanted, one.quality->reference).recall.mean.value_or(0);
    };
    for (const IdKind kind : {IdKind::token, IdKind::slot}) {
      if (kind == found.ids || found.k != found.given->shape.at(1)) continue;
      const RecordedTopK as = topk_of(workload_, *found.given, found.rows, kind, found.k);
      if (recall_of(as) <= recall_of(found)) continue;
      one.how = fmt::format("--ids {}, by which the recall of {} is {:.4f}", kind_name(kind), one.quality->reference,
                            recall_of(as));
      return;
    }
  }

  const CompareRequest& request_;
  const Workload& workload_;
  Prepared prepared_;
  ExactReference formulas_;
  std::unique_ptr<TestedSide> side_;
  PlanOptions options_;
  std::optional<Selection> reference_;
  const Time begun_ = now();
  AgreementReport report_;
};

}  // namespace

AgreementReport compare(const CompareRequest& request) { return CompareRun(request).run(); }

std::vector<PlannedRun> plan_comparison(const CompareRequest& request) {
  const Prepared prepared(request);
  std::vector<IndexerSpec> specs = request.specs;
  std::vector<i64> limits(prepared.limits.begin(), prepared.limits.begin() + static_cast<std::ptrdiff_t>(specs.size()));
  if (prepared.reference) {
    specs.push_back(*prepared.reference);
    limits.push_back(limits.front());
  }
  DryBackend formulas(request.exact, request.exact.workspace_bytes());
  std::vector<Backend*> sides{request.judges_ids() ? &formulas : &request.backend};
  if (!request.judges_ids() && !prepared.reference && request.golden.empty())
    sides.push_back(request.other ? request.other : &formulas);
  std::vector<PlannedRun> runs;
  for (Backend* side : sides) runs.push_back(plan_run(*side, request.workload, specs, limits, request.fusion));
  runs.front().warnings = request.origin.warnings;
  return runs;
}

}  // namespace misa
