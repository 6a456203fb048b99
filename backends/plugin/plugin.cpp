#include "backends/plugin/plugin.hpp"

#include <array>
#include <utility>

#include "backends/plugin/note.hpp"
#include "backends/plugin/tasks.hpp"
#include "core/base/error.hpp"
#include "core/indexer/arithmetic.hpp"
#include "core/indexer/forwarding_backend.hpp"

namespace misa::plugin {
namespace {

constexpr std::array<std::string_view, 5> kSteps{"score", "select", "score_select", "route", "index"};

std::string_view status_name(int32_t status) {
  switch (status) {
    case MISA_UNSUPPORTED: return "MISA_UNSUPPORTED";
    case MISA_INVALID: return "MISA_INVALID";
    case MISA_FAILED: return "MISA_FAILED";
    default: return "a status that the header does not have";
  }
}

/// The functions of a table, checked and counted. While it rehearses, they are only counted.
class Functions {
 public:
  Functions(const misa_kernel_table& table, std::string path, StepNote note)
      : table_(table), path_(std::move(path)), note_(std::move(note)) {
    for (std::size_t i = 0; i < kSteps.size(); ++i) names_[i] = std::string(table.name) + ":" + std::string(kSteps[i]);
  }

  const misa_kernel_table& table() const { return table_; }
  i64 runs() const { return runs_; }
  void rehearse(bool on) { rehearsing_ = on; }

  /// Whether the plug-in does a step on `task`, where it has the function.
  bool accepts(bool has_function, int32_t step, const void* task) const {
    if (!has_function || table_.accepts == nullptr) return has_function;
    const Noted noted(note_, "accepts");
    return table_.accepts(table_.self, step, task) != 0;
  }

  /// Does a step by `function`; returns the name of the kernel.
  std::string_view run(int32_t step, const auto& function) {
    ++runs_;
    if (!rehearsing_) check(call(kSteps[static_cast<std::size_t>(step)], function), step);
    return names_[static_cast<std::size_t>(step)];
  }

  int32_t call(std::string_view name, const auto& function) const {
    const Noted noted(note_, name);
    return function();
  }

  void check(int32_t status, int32_t step) const {
    if (status == MISA_OK) return;
    std::string what = "plug-in " + std::string(table_.name) + ": " +
                       std::string(kSteps[static_cast<std::size_t>(step)]) + " returned " + std::to_string(status) +
                       " (" + std::string(status_name(status)) + ")";
    const char* words = table_.error != nullptr ? table_.error(table_.self) : nullptr;
    if (words != nullptr && *words != '\0') what += ": " + std::string(words);
    fail(what, status == MISA_UNSUPPORTED ? "accepts() of the plug-in, which says what it does" : "");
  }

  [[noreturn]] void fail(const std::string& what, const std::string& how) const {
    throw Error(ErrorKind::runtime, "MP-E413", what, path_, how);
  }

 private:
  misa_kernel_table table_;
  std::string path_;
  StepNote note_;
  std::array<std::string, kSteps.size()> names_;
  i64 runs_ = 0;
  bool rehearsing_ = false;
};

/// A whole indexer, as the plug-in has planned it.
class PlannedIndex final : public IndexRun {
 public:
  PlannedIndex(Functions& functions, void* planned, const IndexerSpec& spec, const Problem& problem, void* stream)
      : functions_(functions), planned_(planned), spec_(spec), problem_(problem), stream_(stream) {}
  ~PlannedIndex() override {
    functions_.call("release", [&] {
      functions_.table().release(functions_.table().self, planned_);
      return MISA_OK;
    });
  }
  PlannedIndex(const PlannedIndex&) = delete;
  PlannedIndex& operator=(const PlannedIndex&) = delete;

  std::string_view run(const View<i32, 2>& selected) override {
    const misa_index_task task = task_of(spec_, problem_, selected);
    return functions_.run(MISA_INDEX,
                          [&] { return functions_.table().run(functions_.table().self, planned_, &task, stream_); });
  }

 private:
  Functions& functions_;
  void* planned_;
  IndexerSpec spec_;
  const Problem& problem_;
  void* stream_;
};

class Plugin final : public ForwardingBackend {
 public:
  Plugin(std::unique_ptr<Backend> base, const misa_kernel_table& table, const std::string& path, StepNote note)
      : ForwardingBackend(*base),
        base_(std::move(base)),
        functions_(table, path, std::move(note)),
        name_("plugin:" + std::string(table.name)),
        described_(table.description != nullptr ? table.description : "") {}

  std::string_view name() const override { return name_; }
  std::string description() const override {
    return (described_.empty() ? "" : described_ + "; ") + "the rest by " + std::string(inner_.name()) + ": " +
           inner_.description();
  }
  Backend* base() override { return base_.get(); }
  std::optional<i64> loaded_runs() const override { return functions_.runs(); }
  bool any_order() const override { return (table().flags & MISA_ANY_ORDER) != 0; }

  std::optional<Arithmetic> arithmetic(const Shape& shape) const override {
    if (!has_dtype(shape.dtype) || !has_dtype(shape.key_dtype)) return inner_.arithmetic(shape);
    if (table().arithmetic != nullptr) return find_arithmetic(table().arithmetic);
    const bool scores = table().score != nullptr || table().score_select != nullptr || table().run != nullptr;
    return scores ? std::nullopt : inner_.arithmetic(shape);
  }

  bool rehearse(bool on) override {
    functions_.rehearse(on);
    return inner_.rehearse(on);
  }

  std::string_view rank(const RankTask& task) override {
    if (!routes(task)) return inner_.rank(task);
    const misa_route_task route = task_of(task);
    return functions_.run(MISA_ROUTE, [&] { return table().route(table().self, &route, stream()); });
  }
  std::string_view rank_gather(const RankGatherTask& task) override {
    return routes(task.rank) ? std::string_view() : inner_.rank_gather(task);
  }

  std::string_view score(const ScoreTask& task) override {
    moved_.reset();
    if (!scores(task)) return inner_.score(task);
    misa_score_task given = task_of(task);
    const std::string_view kernel =
        functions_.run(MISA_SCORE, [&] { return table().score(table().self, &given, stream()); });
    note_moved(task, given);
    return kernel;
  }
  Logits written(const ScoreTask& task) const override { return moved_ ? *moved_ : inner_.written(task); }

  std::string_view select(const SelectTask& task) override {
    if (!selects(task)) return inner_.select(task);
    const misa_select_task given = task_of(task);
    return functions_.run(MISA_SELECT, [&] { return table().select(table().self, &given, stream()); });
  }

  bool fuses(const ScoreTask& score_task, const SelectTask& select_task) const override {
    if (does_both(score_task, select_task)) return true;
    return !scores(score_task) && !selects(select_task) && inner_.fuses(score_task, select_task);
  }
  std::string_view score_select(const ScoreTask& score_task, const SelectTask& select_task) override {
    if (!does_both(score_task, select_task)) return inner_.score_select(score_task, select_task);
    misa_score_task score_given = task_of(score_task);
    const misa_select_task select_given = task_of(select_task);
    return functions_.run(MISA_SCORE_SELECT,
                          [&] { return table().score_select(table().self, &score_given, &select_given, stream()); });
  }

  std::unique_ptr<IndexRun> plan_index(const IndexerSpec& spec, const Problem& problem, i64 first_row) override {
    // A plan counts rows from 0, and the random router is of all routers the one that counts them.
    const bool counts_rows = spec.heads && spec.heads->router == Router::random;
    if (spec.heads && spec.heads->group > 1) return inner_.plan_index(spec, problem, first_row);
    if (!has_values(problem.queries, problem.keys)) return inner_.plan_index(spec, problem, first_row);
    const misa_index_plan plan = plan_of(spec, problem);
    if ((counts_rows && first_row != 0) || (spec.forced.any() && !forces()) ||
        !functions_.accepts(table().run != nullptr, MISA_INDEX, &plan)) {
      return inner_.plan_index(spec, problem, first_row);
    }
    void* planned = nullptr;
    const int32_t status = functions_.call("plan", [&] { return table().plan(table().self, &plan, &planned); });
    if (status == MISA_UNSUPPORTED) return inner_.plan_index(spec, problem, first_row);
    functions_.check(status, MISA_INDEX);
    return std::make_unique<PlannedIndex>(functions_, planned, spec, problem, stream());
  }

 private:
  const misa_kernel_table& table() const { return functions_.table(); }

  bool forces() const { return (table().features & MISA_FORCES) != 0; }
  /// Whether the plug-in reads that these columns are forced.
  bool knows(const Forced& forced) const { return !forced.any() || forced == Forced{1, 1} || forces(); }

  bool routes(const RankTask& task) const {
    if (!task.slopes.empty() || !task.place.empty() || !has_values(task.queries, task.keys)) return false;
    const misa_route_task given = task_of(task);
    return functions_.accepts(table().route != nullptr, MISA_ROUTE, &given);
  }
  bool scores(const ScoreTask& task) const {
    if (!has_values(task.queries, task.keys)) return false;
    const misa_score_task given = task_of(task);
    return functions_.accepts(table().score != nullptr, MISA_SCORE, &given);
  }
  bool selects(const SelectTask& task) const {
    const misa_select_task given = task_of(task);
    const bool suits = (task.is_last || !any_order()) && knows(task.forced);
    return functions_.accepts(suits && table().select != nullptr, MISA_SELECT, &given);
  }
  bool does_both(const ScoreTask& score_task, const SelectTask& select_task) const {
    if (!has_values(score_task.queries, score_task.keys)) return false;
    const misa_score_task score_given = task_of(score_task);
    const misa_select_task select_given = task_of(select_task);
    const bool suits = (select_task.is_last || !any_order()) && knows(select_task.forced);
    const void* const both[]{&score_given, &select_given};
    return functions_.accepts(suits && table().score_select != nullptr, MISA_SCORE_SELECT, both);
  }

  /// Notes where the scores of `task` are, if the kernel has put them elsewhere.
  void note_moved(const ScoreTask& task, const misa_score_task& given) {
    const auto& asked = std::get<View<float, 2>>(task.logits);
    const i64 size = sizeof(float), stride = given.logits_stride;
    if (given.logits == asked.data && stride == asked.stride[0] * size) return;
    if (given.logits == nullptr || given.logits == asked.data || stride % size != 0 || stride < asked.shape[1] * size) {
      functions_.fail("plug-in " + std::string(table().name) + ": score has moved its logits to rows of " +
                          std::to_string(stride) + " bytes, which do not hold " + std::to_string(asked.shape[1]) +
                          " columns of 4 bytes in memory of its own",
                      "logits and logits_stride as they were, or both of the plug-in's own memory");
    }
    moved_ = View<float, 2>(given.logits, asked.shape, {stride / size, 1});
  }

  std::unique_ptr<Backend> base_;
  Functions functions_;
  std::string name_, described_;
  std::optional<Logits> moved_;  ///< where the plug-in's last scores are, if it has put them elsewhere
};

}  // namespace

std::unique_ptr<Backend> make_plugin(std::unique_ptr<Backend> base, const misa_kernel_table& table,
                                     const std::string& path, StepNote note) {
  return std::make_unique<Plugin>(std::move(base), table, path, std::move(note));
}

}  // namespace misa::plugin
