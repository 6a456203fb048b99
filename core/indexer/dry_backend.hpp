#pragma once

#include "core/indexer/forwarding_backend.hpp"

namespace misa {

/// Plans as `inner` does, but for `workspace` bytes, and computes nothing: shows an Observer the spans of a run. Memory
/// is the host's and never touched, so a plan for a device needs none of it.
class DryBackend final : public ForwardingBackend {
 public:
  DryBackend(Backend& inner, i64 workspace) : ForwardingBackend(inner), workspace_(workspace) {}

  i64 workspace_bytes() const override { return workspace_; }

  std::byte* allocate(i64 bytes) override { return host_allocator().allocate(bytes); }
  void release(std::byte* data, i64 bytes) noexcept override { host_allocator().release(data, bytes); }
  void upload(std::byte* /*to*/, const std::byte* /*from*/, i64 /*bytes*/) override {}

  std::string_view pool(const PoolTask& /*task*/) override { return {}; }
  std::string_view rank(const RankTask& /*task*/) override { return {}; }
  std::string_view gather(const GatherTask& /*task*/) override { return {}; }
  std::string_view rank_gather(const RankGatherTask& /*task*/) override { return {}; }
  std::string_view score(const ScoreTask& /*task*/) override { return {}; }
  std::string_view select(const SelectTask& /*task*/) override { return {}; }
  std::string_view score_select(const ScoreTask& /*score*/, const SelectTask& /*select*/) override { return {}; }
  std::unique_ptr<IndexRun> plan_index(const IndexerSpec& spec, const Problem& problem, i64 first_row) override {
    class Nothing final : public IndexRun {
     public:
      std::string_view run(const View<i32, 2>& /*selected*/) override { return {}; }
    };
    return inner_.plan_index(spec, problem, first_row) ? std::make_unique<Nothing>() : nullptr;
  }
  Logits written(const ScoreTask& task) const override { return task.logits; }

 private:
  i64 workspace_;
};

}  // namespace misa
