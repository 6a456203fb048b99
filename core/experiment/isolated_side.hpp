#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "core/base/error.hpp"
#include "core/experiment/tested_side.hpp"
#include "core/indexer/forwarding_backend.hpp"
#include "core/platform/child.hpp"

// A plug-in is tested in a process of its own: what it does to memory and time, it does there.

namespace misa {

/// Stands for a backend that is only loaded in another process, which says what it is. Plans as `like` does.
class StandIn final : public ForwardingBackend {
 public:
  StandIn(std::unique_ptr<Backend> like, std::string name)
      : ForwardingBackend(*like), like_(std::move(like)), name_(std::move(name)) {}

  std::string_view name() const override { return name_; }
  std::string description() const override { return description_; }
  std::optional<Arithmetic> arithmetic(const Shape& /*shape*/) const override { return arithmetic_; }
  std::optional<std::string> why_not(const IndexerSpec& /*spec*/, const Shape& /*shape*/) const override { return {}; }
  bool rehearse(bool /*on*/) override { return false; }

  void describe(std::string name, std::string description, std::optional<Arithmetic> arithmetic) {
    name_ = std::move(name);
    description_ = std::move(description);
    arithmetic_ = arithmetic;
  }

 private:
  std::unique_ptr<Backend> like_;
  std::string name_, description_ = "a plug-in in a process of its own";
  std::optional<Arithmetic> arithmetic_;
};

/// How the tested side gets its process.
struct Isolation {
  StandIn& stand_in;  ///< the request's backend
  /// Starts this program so that it calls test_into with the indexer, the trace at `trace`, `folder` and as much
  /// memory.
  std::function<ChildCommand(const IndexerSpec& spec, const std::string& trace, const std::string& folder,
                             i64 max_bytes)>
      command;
  double limit_seconds = 60;  ///< of each indexer, all its runs together
};

/// Tests each indexer in a process of its own. A crash, the time limit and an error that the plug-in returned are
/// failed checks. Other errors of that process are thrown as if they were ours.
class IsolatedSide final : public TestedSide {
 public:
  explicit IsolatedSide(const CompareRequest& request) : request_(request) {}
  TestedRun test(const IndexerSpec& spec, const PlanOptions& options) override;

 private:
  const CompareRequest& request_;
};

/// Whether a function of a plug-in failed, or the device where its kernels ran (MP-E510): that is the plug-in's
/// verdict, and not the end of a run.
bool blames_plugin(const Error& error);

/// The note in `folder` that tells the other process which function of the plug-in runs.
std::string step_note_path(const std::string& folder);

/// The other end of an IsolatedSide: tests the request's first indexer with LocalSide, and writes what came of it into
/// `folder`. An Error is written too, and not thrown.
void test_into(const std::string& folder, const CompareRequest& request);

/// Writes what kept the other process from coming to test_into.
void fail_into(const std::string& folder, const Error& error);

}  // namespace misa
