// A run with stages marked or without, and, where a backend records, its replay choose the same, bit for bit.

#include <doctest/doctest.h>

#include "core/measure/stage_timer.hpp"
#include "tests/support/cases.hpp"
#include "tests/support/on_backend.hpp"
#include "tests/support/present_backends.hpp"

using namespace misa;
using namespace misa::testing;

TEST_CASE("a run or its replay chooses what any run chooses, in chunks too, with stages marked and without") {
  for (const std::string& name : present_backends()) {
    CAPTURE(name);
    const auto backend = make_backend(name, 2);
    for (u64 seed = 1; seed <= 12; ++seed) {
      CaseOptions options;
      options.seed = seed;
      options.heads = seed % 2 == 0 ? 64 : 16;
      options.dim = 128;
      options.dtype = seed % 3 == 0 ? Dtype::bf16 : Dtype::e4m3;
      options.paged = seed % 4 < 2;
      options.page_size = 64;
      options.rows = 23;
      options.contexts = {700, 300};
      CAPTURE(options.describe());
      const Workload workload = draw_workload(options);
      for (const IndexerInfo& indexer : indexers()) {
        CAPTURE(indexer.name);
        IndexerSettings settings;
        settings.top_k = 64;
        settings.active_heads = 4;
        settings.block_size = 32;
        settings.candidates = 128;
        settings.blocks = 5;
        const IndexerSpec spec = make_indexer(indexer.name, settings);
        const Chosen wanted = choose(*backend, workload, spec);
        const Placement placement(*backend, workload);
        PlanOptions plan_options;
        plan_options.rows_per_chunk = seed % 2 == 0 ? 7 : 0;
        for (const bool stages : {false, true}) {
          Plan plan(*backend, spec, placement.problem(), plan_options);
          const auto clock = backend->clock();
          StageTimer timer(*clock);
          const auto forget = [&] {
            const View<const i32, 2> tokens = plan.tokens();
            const std::vector<i32> garbage(static_cast<std::size_t>(tokens.size()), -7);
            backend->upload(reinterpret_cast<std::byte*>(const_cast<i32*>(tokens.data)),
                            reinterpret_cast<const std::byte*>(garbage.data()), tokens.size() * 4);
          };
          forget();
          const auto recording = backend->record([&] {
            timer.start();
            plan.run(stages ? &timer : nullptr);
            timer.stop();
          });
          CHECK((recording != nullptr) == (name == "cuda"));
          CHECK(fetch(*backend, plan.tokens()).front() == -7);  // recording itself does nothing
          for (int i = 0; i < 3; ++i) {
            forget();
            backend->prepare_run(i % 2 == 0);
            if (recording) {
              recording->replay();
            } else {
              timer.start();
              plan.run(stages ? &timer : nullptr);
              timer.stop();
            }
            const RunTimes times = timer.times();
            CHECK(times.seconds > 0);
            CHECK(times.stages.empty() == !stages);
            CHECK(chosen_by(*backend, workload.rows(), plan) == wanted);
          }
        }
      }
    }
  }
}
