#include "core/experiment/profile.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "core/base/error.hpp"
#include "core/base/interrupt.hpp"
#include "core/experiment/describe.hpp"
#include "core/experiment/profile_warnings.hpp"
#include "core/experiment/recorded.hpp"
#include "core/experiment/rehearsal.hpp"
#include "core/experiment/run_timeline.hpp"
#include "core/experiment/sides.hpp"
#include "core/indexer/effective.hpp"
#include "core/indexer/plan.hpp"
#include "core/indexer/runnable.hpp"
#include "core/measure/statistics.hpp"
#include "core/measure/timed_run.hpp"
#include "core/platform/system.hpp"
#include "core/ranges/ranges.hpp"
#include "core/report/labels.hpp"
#include "core/selection/run_selection.hpp"
#include "core/workload/input_hash.hpp"
#include "core/workload/placement.hpp"
#include "core/workload/subset.hpp"

namespace misa {
namespace {

constexpr i64 kMostSamples = 50, kMostSamplesOfSides = 200;

/// An indexer under measurement.
struct Indexer {
  IndexerSpec spec;
  Backend& backend;
  const ProfileSide* side;  ///< null: as the request says
  bool beside;              ///< the same, or side A of it, is measured just before it
  std::string name;         ///< told apart from others of its name, and with the backend's or the side
  std::unique_ptr<Plan> plan;
  RangeName range;
};

class ProfileRun {
 public:
  explicit ProfileRun(const ProfileRequest& request)
      : request_(request),
        backend_(request.backend.base() ? *request.backend.base() : request.backend),
        loaded_(request.backend.base() ? &request.backend : nullptr),
        workload_(request.workload) {
    report_.warnings = request.origin.warnings;
    if (workload_.rows() == 0) {
      throw Error(ErrorKind::nothing, "MP-E030", "the workload has no query rows", workload_.name);
    }
    const std::vector<IndexerSpec> specs =
        accepted(runnable_specs(backend_, shape_of(workload_), request.specs, report_.skipped));
    const std::vector<Measured> measured = measured_of(specs);
    // Roofs and flushed caches take memory of their own, which on a device then is not free any more.
    measure_roofs();
    backend_.prepare_run(request.cold);
    if (request.b != nullptr) request.b->backend.prepare_run(request.cold);
    std::vector<IndexerSpec> planned;
    for (const Measured& one : measured) planned.push_back(one.spec);
    plan_limits_ = plan_limits(request.memory, backend_, workload_, planned, request.settings);
    placement_ = std::make_unique<Placement>(backend_, workload_);
    const std::vector<std::string> labels = spec_labels(planned);
    for (const Measured& one : measured) {
      const std::string& label = labels[indexers_.size()];
      if (&one.backend == loaded_) tell_loaded_work(one.spec.name);
      indexers_.push_back({one.spec, one.backend, one.side, one.beside, name_of(one, label),
                           std::make_unique<Plan>(one.backend, one.spec, placement_->problem(),
                                                  options_of_plan(indexers_.size(), one.side)),
                           RangeName(fmt::format("case {} {} {}", label, one.backend.name(), workload_.name))});
      tell_loaded_work({});
    }
  }

  Report run() {
    describe_start();
    DeviceWatch device_watch(backend_);
    const SampleSet samples = take_samples(device_watch);
    describe_measurement(device_watch, samples);
    describe_cases(samples);
    warn_if_cut(samples, request_.samples, request_.budget_seconds, report_.warnings);
    rate(samples);
    if (report_.sides) judge_sides(report_);
    if (request_.sinks.finished) {
      for (const ReportCase& one : report_.cases) request_.sinks.finished(one);
    }
    if (request_.sinks.timeline) hand_out_timeline();
    if (request_.sinks.reported) request_.sinks.reported(report_);
    if (request_.sinks.selected && !report_.interrupted) hand_out_selections();
    return std::move(report_);
  }

 private:
  struct Measured {
    IndexerSpec spec;
    Backend& backend;
    const ProfileSide* side = nullptr;
    bool beside = false;
  };

  std::string name_of(const Measured& one, const std::string& label) const {
    if (loaded_) return fmt::format("{} on {}", label, one.backend.name());
    return request_.b ? fmt::format("{}, side {}", one.spec.name, one.side ? "B" : "A") : label;
  }

  /// Each indexer of side A, then of side B; both are left out where B refuses it.
  std::vector<Measured> measured_sides(const std::vector<IndexerSpec>& specs) {
    std::vector<Measured> measured;
    for (const IndexerSpec& spec : specs) {
      const auto& specs_b = request_.b->specs;
      const auto other = std::find_if(specs_b.begin(), specs_b.end(), [&](auto& one) { return one.name == spec.name; });
      if (const auto reason = why_not_run(request_.b->backend, workload_, *other, request_.b->fusion)) {
        report_.skipped.push_back({spec.name, std::string(request_.b->backend.name()), "side B: " + *reason});
      } else {
        measured.push_back({spec, backend_});
        measured.push_back({*other, request_.b->backend, request_.b, true});
      }
    }
    if (measured.empty()) {
      throw Error(ErrorKind::unavailable, "MP-E405",
                  "side B can run none of the indexers: " + report_.skipped.back().reason,
                  std::string(request_.b->backend.name()), "other options of --ab");
    }
    return measured;
  }

  /// Each indexer on the base, then on the backend of loaded kernels if these do a part of it.
  std::vector<Measured> measured_of(const std::vector<IndexerSpec>& specs) {
    if (request_.b != nullptr) return measured_sides(specs);
    std::vector<Measured> measured;
    for (const IndexerSpec& spec : specs) {
      measured.push_back({spec, backend_});
      if (loaded_ == nullptr) continue;
      const auto failed = std::find_if(request_.failed.begin(), request_.failed.end(),
                                       [&](const Refusal& one) { return one.indexer == spec.name; });
      if (failed != request_.failed.end()) {
        report_.skipped.push_back(*failed);
        continue;
      }
      tell_loaded_work(spec.name);
      const bool works = has_loaded_work(*loaded_, workload_, spec, request_.fusion);
      tell_loaded_work({});
      if (works) {
        measured.push_back({spec, *loaded_, nullptr, true});
      } else {
        report_.skipped.push_back({spec.name, std::string(loaded_->name()), "the plug-in does nothing in it"});
      }
    }
    return measured;
  }

  bool is_loaded(const Indexer& indexer) const { return &indexer.backend == loaded_; }

  void tell_loaded_work(std::string_view indexer) const {
    if (request_.sinks.loaded_work) request_.sinks.loaded_work(indexer);
  }

  /// The specs whose tasks all have a kernel; throws the last refusal when there are none.
  std::vector<IndexerSpec> accepted(const std::vector<IndexerSpec>& specs) {
    std::vector<IndexerSpec> left;
    std::optional<Error> refusal;
    for (const IndexerSpec& spec : specs) {
      if (auto refused = refused_task(backend_, workload_, spec, request_.fusion)) {
        report_.skipped.push_back({spec.name, std::string(backend_.name()), refused->what()});
        refusal = std::move(refused);
      } else {
        left.push_back(spec);
      }
    }
    if (left.empty() && refusal) throw Error(*refusal);
    return left;
  }

  /// The work runs on the cores of this machine, and not on a device that has memory of its own.
  bool on_host() const { return !backend_.free_bytes(); }

  bool slow() const { return backend_.logits_dtype() == Dtype::f64; }
  i64 most_samples() const {
    const i64 usual = request_.b ? kMostSamplesOfSides : slow() || request_.once ? 1 : kMostSamples;
    return request_.samples.value_or(usual);
  }

  /// Whether what was sampled was replayed. The last to be recorded is the last indexer.
  bool recorded() const { return runs_.back()->recorded(); }

  /// The options of indexer `i`'s plan; one past the last indexer: of the reference's.
  PlanOptions options_of_plan(std::size_t i, const ProfileSide* side = nullptr) const {
    return {.max_bytes = plan_limits_[i] + placement_->problem().bytes,
            .fusion = side ? side->fusion : request_.fusion};
  }

  void measure_roofs() {
    const i64 needed = workload_.bytes() + backend_.roofs_bytes();
    if (needed > request_.memory.host) {
      report_.warnings.push_back(
          {"MP-W050", fmt::format("roofs were not measured: workload and roofs need {} bytes, the limit is {}", needed,
                                  request_.memory.host)});
      return;
    }
    ContentionWatch watch(request_.threads, system_info().cores);
    roofs_ = backend_.roofs();
    const Contention contention = watch.finish();
    if (on_host()) roofs_loaded_ = why_loaded(contention);
  }

  void describe_start() {
    report_.tool_version = request_.origin.tool_version;
    report_.command_line = request_.origin.command_line;
    report_.workload = describe_workload(workload_, request_.settings.top_k, request_.origin);
    report_.workload.input_hash = input_hash(workload_);
    if (request_.b != nullptr) report_.sides = request_.b->told;
    report_.environment = describe_environment({&backend_}, request_.threads, request_.origin,
                                               roofs_ ? std::optional(workload_.q.dtype) : std::nullopt);
    if (loaded_ != nullptr) {
      report_.environment.backends.push_back(
          {.name = std::string(loaded_->name()), .description = loaded_->description()});
    }
    if (request_.b != nullptr && request_.b->backend.name() != backend_.name()) {
      report_.environment.backends.push_back(
          {.name = std::string(request_.b->backend.name()), .description = request_.b->backend.description()});
    }
    report_.environment.backends.front().roofs_loaded = roofs_loaded_;
    warn_if_busy(roofs_, report_.warnings);
    if (request_.sinks.started) request_.sinks.started(report_);
  }

  /// Samples each indexer twice: as a whole, and with its stages marked. With `once`, the latter run is both.
  SampleSet take_samples(DeviceWatch& device_watch) {
    bool warmed_up = false;
    std::vector<Subject> subjects;
    for (const Indexer& indexer : indexers_) {
      for (const bool staged : {false, true}) {
        if (staged ? request_.b != nullptr : request_.once) continue;
        const bool graphs = indexer.side ? indexer.side->graphs : request_.graphs;
        const auto work = [plan = indexer.plan.get()](Observer* observer) { plan->run(observer); };
        runs_.push_back(std::make_unique<TimedRun>(
            indexer.backend, indexer.range, work,
            TimedRunOptions{.stages = staged,
                            .cold = request_.cold,
                            .record = graphs && !request_.once,
                            .traced_threads = staged && request_.sinks.timeline ? traced_threads() : 0}));
        if (staged) staged_runs_.push_back(runs_.back().get());
        subjects.push_back({indexer.name, [this, &warmed_up, &indexer, run = runs_.back().get()] {
                              if (is_loaded(indexer)) tell_loaded_work(indexer.spec.name);
                              auto timed = (*run)(warmed_up);
                              tell_loaded_work({});
                              return timed;
                            }});
      }
    }
    SamplerOptions sampling;
    sampling.warm_up = request_.warm_up.value_or(slow() ? 0 : 1);
    sampling.max_samples = most_samples();
    sampling.budget_seconds = request_.budget_seconds;
    sampling.sides = request_.b != nullptr;
    sampling.interrupted = interrupted;
    sampling.warmed_up = [&] {
      warmed_up = true;
      contention_watch_.emplace(request_.threads, system_info().cores);
    };
    sampling.after_run = [&](const SamplingProgress& done) {
      if (done.samples > 0) device_watch.sampled();
      if (contention_watch_) contention_watch_->sampled();
      tell({.indexer = subjects[done.subject].name, .most_samples = most_samples(), .done = done});
    };
    return sample(subjects, sampling);
  }

  void tell(const ProfileProgress& progress) const {
    if (request_.sinks.progress) request_.sinks.progress(progress);
  }

  void describe_measurement(DeviceWatch& device_watch, const SampleSet& samples) {
    report_.interrupted = samples.interrupted;
    report_.measurement.cache = runs_.front()->cold() ? "cold" : "warm";
    report_.measurement.launch = recorded() ? "graph" : "calls";
    report_.measurement.device = device_watch.finish();
    if (contention_watch_) report_.measurement.contention = contention_watch_->finish();
    warn_if_throttled(report_.measurement.device, report_.warnings);
    if (on_host() && report_.measurement.contention) {
      report_.measurement.loaded = why_loaded(*report_.measurement.contention);
      warn_if_loaded(report_.measurement, roofs_loaded_, report_.warnings);
    }
  }

  void describe_cases(const SampleSet& samples) {
    circumstances_ = {.loaded = report_.measurement.loaded.has_value(),
                      .roofs_loaded = roofs_loaded_ || (on_host() && busy(roofs_)),
                      .mark_seconds = on_host() ? mark_seconds(*backend_.clock()) : 0,
                      .cache_bytes = on_host() ? system_info().cache_bytes : 0};
    const std::size_t modes = samples.subjects.size() / indexers_.size();
    for (std::size_t i = 0; i < indexers_.size(); ++i) {
      describe_case(indexers_[i], samples.subjects[modes * i], samples.subjects[modes * i + modes - 1]);
    }
  }

  /// `whole` are the samples without marks, `staged` those with stages.
  void describe_case(const Indexer& indexer, const Samples& whole, const Samples& staged) {
    const Problem& problem = placement_->problem();
    ReportCase& described = report_.cases.emplace_back();
    described.spec = indexer.spec;
    described.used = effective(indexer.spec, problem);
    described.backend = indexer.backend.name();
    if (is_loaded(indexer)) described.base = backend_.name();
    described.shape = problem.shape;
    described.threads = indexer.side ? indexer.side->threads : request_.threads;
    if (request_.b != nullptr) described.side = indexer.side ? "B" : "A";
    if (whole.first) described.first_call_s = whole.first->seconds;
    const std::vector<StageSummary> stages = summarise_stages(staged.runs);
    described.stages = describe_stages(stage_costs(indexer.plan->spec(), problem), stages);
    if (whole.runs.empty()) return;
    described.end_to_end = summarise(seconds_of(whole.runs));
    if (stages.empty()) return;
    described.closure_residual = closure_residual(described.end_to_end->median, stages);
    described.closure_doubt = doubt_closure(*described.end_to_end, stages, circumstances_);
    described.closure_ok = !described.closure_doubt;
  }

  /// Of a stage's kernels, the elements that are multiplied fastest: no stage is faster than that.
  Dtype product_dtype(const std::vector<KernelRun>& kernels) const {
    Dtype fastest = workload_.q.dtype;
    double peak = 0;
    for (const KernelRun& one : kernels) {
      const Dtype dtype = backend_.product_dtype(one.kernel, workload_.q.dtype);
      if (roofs_->flops_of(dtype) > peak) {
        fastest = dtype;
        peak = roofs_->flops_of(dtype);
      }
    }
    return fastest;
  }

  std::vector<ReportStage> describe_stages(const std::vector<StageCost>& costs,
                                           const std::vector<StageSummary>& stages) const {
    const double pairs = static_cast<double>(visible_pairs(placement_->problem()));
    double total = 0;
    for (const StageSummary& stage : stages) total += stage.seconds.median;
    std::vector<ReportStage> described;
    for (const StageSummary& stage : stages) {
      const double seconds = stage.seconds.median;
      ReportStage row{.stages = stage.stages, .seconds = stage.seconds, .cost = cost_of(stage.stages, costs)};
      row.kernels = stage.kernels;
      if (total > 0) row.share = seconds / total;
      if (pairs > 0) row.seconds_per_pair = seconds / pairs;
      if (row.cost && seconds > 0) {
        row.flops_per_second = static_cast<double>(row.cost->flops) / seconds;
        row.bytes_per_second = static_cast<double>(row.cost->bytes) / seconds;
      }
      if (row.cost && roofs_) {
        row.roofline = roofline(seconds, *row.cost, *roofs_, product_dtype(stage.kernels), recorded());
      }
      if (row.roofline) row.roof_doubt = doubt_roof(*row.roofline, stage.seconds, *row.cost, circumstances_);
      described.push_back(std::move(row));
    }
    return described;
  }

  /// Speed-up and quality of every case, against dsa of the same run.
  void rate(const SampleSet& samples) {
    const bool ran = std::all_of(samples.subjects.begin(), samples.subjects.end(),
                                 [](const Samples& subject) { return subject.first.has_value(); });
    if (!ran) return leave_unrated();
    HostTensor reference;
    try {
      reference = dsa_tokens(request_.settings.top_k);
      rate_recorded_topk(reference);
    } catch (const Interrupted&) {
      report_.interrupted = true;
      return leave_unrated();
    }
    std::optional<Summary> dsa, base;
    for (const ReportCase& one : report_.cases) {
      if (is_reference(one) && one.end_to_end) dsa = one.end_to_end;
    }
    const SelectedTokens wanted{reference.span<const i32>(), request_.settings.top_k, "dsa", request_.settings.forced};
    report_.workload.recall = baselines(workload_, wanted);
    for (std::size_t i = 0; i < indexers_.size(); ++i) {
      ReportCase& one = report_.cases[i];
      const bool is_dsa = is_reference(one);
      if (dsa && one.end_to_end) {
        one.speedup_over_dsa = dsa->median / one.end_to_end->median;
        if (!is_dsa) one.speedup = paired_ratio(dsa->raw, one.end_to_end->raw);
      }
      if (one.base.empty()) base = one.end_to_end;  // the same on the plug-in comes next
      if (!one.base.empty() && base && one.end_to_end) {
        one.speedup_over_base = base->median / one.end_to_end->median;
        one.base_speedup = paired_ratio(base->raw, one.end_to_end->raw);
      }
      rate_selection(indexers_[i], wanted, one);
      if (is_dsa) one.quality_reason = "is the reference";
    }
    name_worst_row();
  }

  static bool is_reference(const ReportCase& one) {
    return one.spec.name == "dsa" && one.base.empty() && one.side != "B";
  }

  /// Names the command that explains the lowest recall of any row, if a row misses tokens.
  void name_worst_row() {
    if (!request_.origin.explain_row) return;
    double lowest = 1;
    for (const ReportCase& one : report_.cases) {
      if (!one.base.empty() || one.side == "B" || !one.quality || one.quality->recall.worst.value_or(1) >= lowest)
        continue;
      lowest = *one.quality->recall.worst;
      report_.explain_worst = request_.origin.explain_row(one.spec.name, *one.quality->recall.worst_row);
    }
  }

  /// What loaded kernels select is rated if it is a selection: ids are indices from here on.
  void rate_selection(const Indexer& indexer, const SelectedTokens& wanted, ReportCase& one) {
    const HostTensor tokens = fetch_tokens(indexer.backend, *indexer.plan);
    one.selection_hash = tensor_hash(tokens);
    if (indexer.spec.top_k != wanted.k) {
      one.quality_reason = "side B keeps another number of tokens than the reference";
      return;
    }
    const SelectedTokens selected{tokens.span<const i32>(), request_.settings.top_k};
    if (const i64 wrong = is_loaded(indexer) ? ids_that_are_none(workload_, selected) : 0; wrong > 0) {
      one.quality_reason = fmt::format("{} ids are no tokens that their row sees, or are not in order", wrong);
      report_.warnings.push_back(
          {"MP-W063", fmt::format("the selection is not rated: {}", one.quality_reason), indexer.name});
      return;
    }
    one.quality = compare_selections(workload_, wanted, selected);
  }

  /// Threads whose work is recorded: of a device's host none is.
  int traced_threads() const { return on_host() ? static_cast<int>(request_.threads) : 1; }

  void hand_out_timeline() const {
    std::vector<NamedRun> runs;
    for (std::size_t i = 0; i < staged_runs_.size(); ++i) {
      if (!staged_runs_[i]->traced()) continue;
      runs.push_back({.indexer = indexers_[i].spec.name,
                      .backend = std::string(indexers_[i].backend.name()),
                      .workload = workload_.name,
                      .on_device = !on_host(),
                      .recorded = staged_runs_[i]->recorded(),
                      .run = *staged_runs_[i]->traced()});
    }
    if (runs.empty()) return;
    Timeline timeline = timeline_of(runs);
    timeline.tool_version = request_.origin.tool_version;
    timeline.command_line = request_.origin.command_line;
    request_.sinks.timeline(timeline);
  }

  void leave_unrated() {
    for (ReportCase& one : report_.cases) one.quality_reason = "interrupted";
  }

  /// The selection that the trace recorded, against dsa of as many tokens; `reference` is dsa's of this run's top-k.
  void rate_recorded_topk(const HostTensor& reference) {
    const std::optional<RecordedTopK> recorded = recorded_topk(workload_);
    if (!recorded) return;
    const HostTensor own = recorded->k == request_.settings.top_k ? HostTensor() : dsa_tokens(recorded->k);
    report_.recorded_topk = {
        .top_k = recorded->k,
        .quality = rate_recorded(workload_, *recorded, (own.empty() ? reference : own).span<const i32>(), "dsa",
                                 request_.settings.forced)};
  }

  /// What dsa selects when each row keeps `top_k` tokens. [M, top_k]
  HostTensor dsa_tokens(i64 top_k) {
    for (const Indexer& indexer : indexers_) {
      if (indexer.spec.name == "dsa" && indexer.spec.top_k == top_k && !indexer.beside) {
        return fetch_tokens(backend_, *indexer.plan);
      }
    }
    tell({.indexer = "dsa", .reference = true});
    IndexerSettings settings = request_.settings;
    settings.top_k = top_k;
    Plan dsa(backend_, make_indexer("dsa", settings), placement_->problem(), options_of_plan(indexers_.size()));
    dsa.run(nullptr);
    return fetch_tokens(backend_, dsa);
  }

  void hand_out_selections() {
    for (std::size_t i = 0; i < indexers_.size(); ++i) {
      const Indexer& indexer = indexers_[i];
      if (indexer.side || (i + 1 < indexers_.size() && is_loaded(indexers_[i + 1]))) continue;  // side B; the base
      Selection selection;
      selection[Choice::tokens] = fetch_tokens(indexer.backend, *indexer.plan);
      selection[Choice::heads] = fetch_ids(indexer.backend, indexer.plan->heads());
      selection[Choice::blocks] = fetch_ids(indexer.backend, indexer.plan->blocks());
      request_.sinks.selected(indexer.spec, selection);
    }
  }

  const ProfileRequest& request_;
  Backend& backend_;       ///< the base of loaded kernels, where there are any
  Backend* const loaded_;  ///< ... and they; null: there are none
  const Workload& workload_;
  std::unique_ptr<Placement> placement_;
  std::vector<i64> plan_limits_;
  std::optional<Roofs> roofs_;
  std::optional<std::string> roofs_loaded_;  ///< what disturbed the roofs
  Circumstances circumstances_;
  std::vector<Indexer> indexers_;
  std::vector<std::unique_ptr<TimedRun>> runs_;
  std::vector<const TimedRun*> staged_runs_;         ///< those that mark stages, by indexer
  std::optional<ContentionWatch> contention_watch_;  ///< from the first sample on
  Report report_;
};

}  // namespace

Report profile(const ProfileRequest& request) { return ProfileRun(request).run(); }

}  // namespace misa
