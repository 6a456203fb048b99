#include "core/experiment/rehearsal.hpp"

#include <vector>

#include "core/indexer/forwarding_backend.hpp"
#include "core/indexer/plan.hpp"
#include "core/indexer/runnable.hpp"
#include "core/workload/placement.hpp"

namespace misa {
namespace {

/// A backend in rehearsal, with memory that nothing is written to.
class Rehearsal final : public ForwardingBackend {
 public:
  explicit Rehearsal(Backend& inner) : ForwardingBackend(inner) {}
  ~Rehearsal() override { inner_.rehearse(false); }
  Rehearsal(const Rehearsal&) = delete;
  Rehearsal& operator=(const Rehearsal&) = delete;

  std::byte* allocate(i64 bytes) override { return host_allocator().allocate(bytes); }
  void release(std::byte* data, i64 bytes) noexcept override { host_allocator().release(data, bytes); }
  void upload(std::byte* /*to*/, const std::byte* /*from*/, i64 /*bytes*/) override {}
};

void go_through(Rehearsal& rehearsal, const Workload& workload, const IndexerSpec& spec, bool fusion) {
  const Placement placement(rehearsal, workload);
  Plan(rehearsal, spec, placement.problem(), {.fusion = fusion}).run(nullptr);
}

}  // namespace

std::optional<Error> refused_task(Backend& backend, const Workload& workload, const IndexerSpec& spec, bool fusion) {
  Rehearsal rehearsal(backend);
  if (!rehearsal.rehearse(true)) return std::nullopt;
  try {
    go_through(rehearsal, workload, spec, fusion);
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::unavailable) throw;
    return error;
  }
  return std::nullopt;
}

bool has_loaded_work(Backend& backend, const Workload& workload, const IndexerSpec& spec, bool fusion) {
  const std::optional<i64> before = backend.loaded_runs();
  if (!before) return false;
  Rehearsal rehearsal(backend);
  rehearsal.rehearse(true);
  go_through(rehearsal, workload, spec, fusion);
  return *backend.loaded_runs() > *before;
}

std::optional<std::string> why_not_run(Backend& backend, const Workload& workload, const IndexerSpec& spec,
                                       bool fusion) {
  std::vector<Refusal> refused;
  try {
    (void)runnable_specs(backend, shape_of(workload), {spec}, refused);
  } catch (const Error& error) {
    return error.what();
  }
  const std::optional<Error> task = refused_task(backend, workload, spec, fusion);
  return task ? std::optional<std::string>(task->what()) : std::nullopt;
}

}  // namespace misa
