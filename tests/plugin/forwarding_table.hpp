#pragma once

#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "backends/plugin/misa_kernel.h"
#include "core/indexer/backend.hpp"
#include "core/indexer/plan.hpp"

namespace misa::testing {

/// Which functions a table has.
struct Parts {
  bool score = false, select = false, score_select = false, route = false, index = false;
};

/// A backend on the host, behind a table of C functions: what comes out of them is what the backend computes from what
/// went in.
class ForwardingTable {
 public:
  ForwardingTable(Backend& backend, Parts parts) : backend_(backend) {
    table_.size = sizeof table_;
    table_.version = MISA_KERNEL_VERSION;
    table_.device_type = MISA_CPU;
    table_.name = "forwarding";
    table_.arithmetic = "f32-dot";
    table_.self = this;
    table_.error = [](void* self) { return static_cast<ForwardingTable*>(self)->error_.c_str(); };
    if (parts.score) {
      table_.score = [](void* self, misa_score_task* task, void*) {
        return of(self).attempt([&](ForwardingTable& me) { me.backend_.score(score_of(*task)); });
      };
    }
    if (parts.select) {
      table_.select = [](void* self, const misa_select_task* task, void*) {
        return of(self).attempt([&](ForwardingTable& me) { me.backend_.select(select_of(*task)); });
      };
    }
    if (parts.score_select) {
      table_.score_select = [](void* self, misa_score_task* scored, const misa_select_task* selected, void*) {
        return of(self).attempt([&](ForwardingTable& me) {
          me.backend_.score(score_of(*scored));
          me.backend_.select(select_of(*selected));
        });
      };
    }
    if (parts.route) {
      table_.route = [](void* self, const misa_route_task* task, void*) {
        return of(self).attempt([&](ForwardingTable& me) { me.backend_.rank(rank_of(*task)); });
      };
    }
    if (parts.index) {
      table_.plan = [](void* self, const misa_index_plan* plan, void** planned) {
        return of(self).attempt([&](ForwardingTable& me) { *planned = new Planned(me.backend_, *plan); });
      };
      table_.run = [](void* self, void* planned, const misa_index_task* task, void*) {
        return of(self).attempt([&](ForwardingTable&) { static_cast<Planned*>(planned)->run(*task); });
      };
      table_.release = [](void*, void* planned) { delete static_cast<Planned*>(planned); };
    }
  }
  ForwardingTable(const ForwardingTable&) = delete;
  ForwardingTable& operator=(const ForwardingTable&) = delete;

  misa_kernel_table& table() { return table_; }

 private:
  static ForwardingTable& of(void* self) { return *static_cast<ForwardingTable*>(self); }

  int32_t attempt(const auto& work) {
    try {
      work(*this);
    } catch (const std::exception& failure) {
      error_ = failure.what();
      return MISA_FAILED;
    }
    return MISA_OK;
  }

  static i64 size_of(int32_t dtype) { return dtype == MISA_F32 ? 4 : dtype == MISA_BF16 ? 2 : 1; }

  static Values values_of(const void* data, int32_t dtype, std::array<i64, 3> shape, std::array<i64, 3> bytes) {
    for (i64& stride : bytes) stride /= size_of(dtype);
    switch (dtype) {
      case MISA_F32: return View<const float, 3>(static_cast<const float*>(data), shape, bytes);
      case MISA_BF16: return View<const Bf16, 3>(static_cast<const Bf16*>(data), shape, bytes);
      default: return View<const E4m3, 3>(static_cast<const E4m3*>(data), shape, bytes);
    }
  }

  static Queries queries_of(const misa_queries& q) {
    const i64 element = size_of(q.dtype);
    return {
        values_of(q.values, q.dtype, {q.rows, q.heads, q.dim}, {q.heads * q.dim * element, q.dim * element, element}),
        {q.weights, {q.rows, q.heads}}};
  }

  static KeyCache keys_of(const misa_keys& k) {
    const i64 element = size_of(k.dtype);
    KeyCache keys;
    keys.values = values_of(k.values, k.dtype, {k.pages, k.page_size, k.dim},
                            {k.values_page_stride, k.values_token_stride, element});
    if (k.scales != nullptr) {
      keys.scales = {k.scales, {k.pages, k.page_size}, {k.scales_page_stride / 4, k.scales_token_stride / 4}};
    }
    if (k.block_table != nullptr) {
      keys.block_table = {k.block_table, {k.sequences, k.max_pages}, {k.block_table_stride / 4, 1}};
    }
    return keys;
  }

  static Windows windows_of(const misa_windows& windows, i64 rows) {
    return {{windows.sequence, {rows}}, {windows.begin, {rows}}, {windows.end, {rows}}};
  }

  static std::optional<Candidates> candidates_of(const misa_candidates& given, i64 rows) {
    if (given.runs == nullptr) return std::nullopt;
    return Candidates{
        {given.runs, {rows, given.runs_per_row}, {given.runs_stride / 4, 1}}, {given.origin, {rows}}, given.length};
  }

  static ScoreTask score_of(const misa_score_task& task) {
    const i64 rows = task.queries.rows;
    return {queries_of(task.queries), keys_of(task.keys), windows_of(task.windows, rows),
            candidates_of(task.candidates, rows),
            View<float, 2>(task.logits, {rows, task.columns}, {task.logits_stride / 4, 1})};
  }

  static SelectTask select_of(const misa_select_task& task) {
    return {View<float, 2>(const_cast<float*>(task.logits), {task.rows, task.columns}, {task.logits_stride / 4, 1}),
            windows_of(task.windows, task.rows),
            candidates_of(task.candidates, task.rows),
            task.force_ends != 0,
            {task.tokens, {task.rows, task.k}, {task.tokens_stride / 4, 1}}};
  }

  static RankTask rank_of(const misa_route_task& task) {
    const i64 rows = task.queries.rows, heads = task.queries.heads;
    i64 samples = 0;
    for (i64 m = 0; m < rows; ++m) samples = std::max<i64>(samples, task.windows.end[m] - task.windows.begin[m]);
    RankTask rank{.router = find_router(task.router).value(),
                  .queries = queries_of(task.queries),
                  .keys = task.keys.values != nullptr ? keys_of(task.keys) : KeyCache{},
                  .windows = windows_of(task.windows, rows),
                  .tails = {},
                  .norms = {},
                  .samples = samples,
                  .seed = task.seed,
                  .first_row = task.first_row,
                  .heads = {task.heads, {rows, task.active}}};
    if (task.tails != nullptr) rank.tails = {task.tails, {rows, task.queries.dim}};
    if (task.norms != nullptr) rank.norms = {task.norms, {rows, heads}};
    return rank;
  }

  class Planned {
   public:
    Planned(Backend& backend, const misa_index_plan& plan) : problem_(problem_of(plan)) {
      IndexerSettings settings;
      settings.top_k = plan.top_k;
      if (plan.active_heads > 0) settings.active_heads = plan.active_heads;
      if (plan.block_size > 0) settings.block_size = plan.block_size;
      if (plan.candidates > 0) settings.candidates = plan.candidates;
      if (plan.blocks > 0) settings.blocks = plan.blocks;
      if (plan.samples > 0) settings.samples = plan.samples;
      if (plan.router != nullptr) settings.router = find_router(plan.router).value();
      settings.block_window = find_block_window(plan.block_window).value();
      settings.seed = plan.seed;
      plan_ = std::make_unique<Plan>(backend, make_indexer(plan.indexer, settings), problem_);
    }

    void run(const misa_index_task& task) {
      const i64 rows = task.queries.rows;
      problem_.queries = queries_of(task.queries);
      problem_.keys = keys_of(task.keys);
      problem_.windows = windows_of(task.windows, rows);
      if (task.norms != nullptr) problem_.norms = {task.norms, {rows, task.queries.heads}};
      plan_->run(nullptr);
      const View<const i32, 2> tokens = plan_->tokens();
      for (i64 m = 0; m < rows; ++m) {
        std::copy_n(tokens[m].data, tokens.shape[1], task.tokens + m * task.tokens_stride / 4);
      }
    }

   private:
    static Problem problem_of(const misa_index_plan& plan) {
      static float nothing = 0;
      Problem problem;
      problem.sequence.assign(plan.host_sequence, plan.host_sequence + plan.rows);
      problem.begin.assign(plan.host_begin, plan.host_begin + plan.rows);
      problem.end.assign(plan.host_end, plan.host_end + plan.rows);
      if (plan.host_lengths != nullptr) {
        problem.lengths.assign(plan.host_lengths, plan.host_lengths + plan.sequences);
      }
      problem.shape = {.rows = plan.rows,
                       .heads = plan.heads,
                       .head_dim = plan.dim,
                       .keys = plan.pages * plan.page_size,
                       .dtype = plan.dtype == MISA_F32    ? Dtype::f32
                                : plan.dtype == MISA_BF16 ? Dtype::bf16
                                                          : Dtype::e4m3,
                       .paged = plan.max_pages > 0};
      for (std::size_t m = 0; m < problem.begin.size(); ++m) {
        problem.shape.max_window = std::max<i64>(problem.shape.max_window, problem.end[m] - problem.begin[m]);
      }
      problem.queries.values = values_of(nullptr, plan.dtype, {plan.rows, plan.heads, plan.dim}, {0, 0, 0});
      problem.queries.weights = {nullptr, {plan.rows, plan.heads}};
      problem.keys.values = values_of(nullptr, plan.dtype, {plan.pages, plan.page_size, plan.dim}, {0, 0, 0});
      problem.norms = {&nothing, {plan.rows, plan.heads}};  // those of a run come with it
      return problem;
    }

    Problem problem_;
    std::unique_ptr<Plan> plan_;
  };

  Backend& backend_;
  misa_kernel_table table_{};
  std::string error_;
};

}  // namespace misa::testing
