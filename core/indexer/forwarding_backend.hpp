#pragma once

#include "core/indexer/backend.hpp"

namespace misa {

/// Does everything as `inner` does it: the base of backends that change one thing.
class ForwardingBackend : public Backend {
 public:
  explicit ForwardingBackend(Backend& inner) : inner_(inner) {}

  std::string_view name() const override { return inner_.name(); }
  std::string description() const override { return inner_.description(); }
  Backend* base() override { return inner_.base(); }
  Dtype logits_dtype() const override { return inner_.logits_dtype(); }
  std::optional<Arithmetic> arithmetic(const Shape& shape) const override { return inner_.arithmetic(shape); }
  Dtype product_dtype(std::string_view kernel, Dtype elements) const override {
    return inner_.product_dtype(kernel, elements);
  }
  std::optional<std::string> why_not(const IndexerSpec& spec, const Shape& shape) const override {
    return inner_.why_not(spec, shape);
  }

  bool rehearse(bool on) override { return inner_.rehearse(on); }

  std::byte* allocate(i64 bytes) override { return inner_.allocate(bytes); }
  void release(std::byte* data, i64 bytes) noexcept override { inner_.release(data, bytes); }
  void upload(std::byte* to, const std::byte* from, i64 bytes) override { inner_.upload(to, from, bytes); }
  void download(std::byte* to, const std::byte* from, i64 bytes) override { inner_.download(to, from, bytes); }

  std::string_view pool(const PoolTask& task) override { return inner_.pool(task); }
  std::string_view rank(const RankTask& task) override { return inner_.rank(task); }
  std::string_view gather(const GatherTask& task) override { return inner_.gather(task); }
  std::string_view rank_gather(const RankGatherTask& task) override { return inner_.rank_gather(task); }
  std::string_view score(const ScoreTask& task) override { return inner_.score(task); }
  std::string_view select(const SelectTask& task) override { return inner_.select(task); }
  bool fuses(const ScoreTask& score_task, const SelectTask& select_task) const override {
    return inner_.fuses(score_task, select_task);
  }
  std::string_view score_select(const ScoreTask& score_task, const SelectTask& select_task) override {
    return inner_.score_select(score_task, select_task);
  }
  std::unique_ptr<IndexRun> plan_index(const IndexerSpec& spec, const Problem& problem, i64 first_row) override {
    return inner_.plan_index(spec, problem, first_row);
  }
  Logits written(const ScoreTask& task) const override { return inner_.written(task); }
  bool any_order() const override { return inner_.any_order(); }
  std::optional<i64> loaded_runs() const override { return inner_.loaded_runs(); }

  std::unique_ptr<Clock> clock() override { return inner_.clock(); }
  std::unique_ptr<Recording> record(const std::function<void()>& work) override { return inner_.record(work); }
  bool prepare_run(bool cold) override { return inner_.prepare_run(cold); }
  std::optional<Roofs> roofs() override { return inner_.roofs(); }
  i64 roofs_bytes() const override { return inner_.roofs_bytes(); }
  std::optional<DeviceState> device_state() override { return inner_.device_state(); }
  void* stream() const override { return inner_.stream(); }
  i64 workspace_bytes() const override { return inner_.workspace_bytes(); }
  i64 scratch_bytes(const ScratchShape& shape) const override { return inner_.scratch_bytes(shape); }
  std::optional<i64> free_bytes() const override { return inner_.free_bytes(); }

 protected:
  Backend& inner_;
};

}  // namespace misa
