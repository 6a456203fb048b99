#pragma once

#include "core/report/report.hpp"

namespace misa {

inline ReportStage sample_stage(StageSet stages, double median_s, i64 flops, i64 bytes, double share,
                                double roof_fraction, Bound bound) {
  return {.stages = stages,
          .seconds = {.median = median_s, .p10 = 0.97 * median_s, .p90 = 1.06 * median_s, .samples = 12},
          .cost = StageCost{.stages = stages, .flops = flops, .bytes = bytes},
          .flops_per_second = static_cast<double>(flops) / median_s,
          .bytes_per_second = static_cast<double>(bytes) / median_s,
          .seconds_per_pair = median_s / 1040448,
          .share = share,
          .roofline = Roofline{.floor_seconds = roof_fraction * median_s,
                               .fraction = roof_fraction,
                               .bound = bound,
                               .peak = stages == Stage::score ? Dtype::bf16 : Dtype::e4m3}};
}

/// A run with everything in it: four indexers, one of them not timed, a skip, a warning.
inline Report sample_report() {
  Report report;
  report.tool_version = "0.1.0";
  report.command_line = {"misa-prof", "profile", "--indexer", "all"};
  report.environment = {
      .machine = {.cpu = "AMD EPYC 9654 96-Core Processor",
                  .cores = 2,
                  .memory_bytes = 16'777'216'000,
                  .cache_bytes = 32 << 20,
                  .governor = "performance",
                  .os = "Linux 6.1.0-18-amd64 x86_64"},
      .threads = 2,
      .load_average = 0.42,
      .timestamp_utc = "2026-01-31T12:00:00Z",
      .host = {},
      .build = {.commit = "0123456789ab",
                .changed = true,
                .compiler = "GNU 12.2.0",
                .type = "Release",
                .flags = "-O3 -DNDEBUG",
                .kernel_flags = "-march=x86-64-v3",
                .libraries = {{.name = "oneDNN", .version = "2.6.3"}}},
      .backends = {{.name = "cpu",
                    .description = "OpenMP, oneDNN 2.6.3, AVX2",
                    .roofs = Roofs{.flops_per_second = 1.5e11, .bytes_per_second = 2.1e10, .launch_seconds = 3.2e-6}}}};
  report.workload = {.name = "deepseek-v3.2/prefill-8k",
                     .provenance = "synthetic",
                     .model = "deepseek-v3.2",
                     .phase = "prefill",
                     .rows = 128,
                     .heads = 64,
                     .head_dim = 128,
                     .keys = 8192,
                     .sequences = 1,
                     .top_k = 2048,
                     .dtype = Dtype::e4m3,
                     .paged = false,
                     .pairs = 1040448,
                     .context = {.minimum = 8065, .median = 8128, .maximum = 8192},
                     .visible = {.minimum = 8065, .median = 8128, .maximum = 8192},
                     .preset = "natural",
                     .seed = "18446744073709551615",
                     .trace_path = {},
                     .recall = {.chance = 0.25195, .window = 0.3125}};

  const Shape shape{.rows = 128,
                    .heads = 64,
                    .head_dim = 128,
                    .keys = 8192,
                    .max_window = 8192,
                    .dtype = Dtype::e4m3,
                    .paged = false};
  ReportCase dsa;
  dsa.spec.name = "dsa";
  dsa.backend = "cpu";
  dsa.spec.top_k = 2048;
  dsa.shape = shape;
  dsa.threads = 2;
  dsa.stages = {sample_stage(Stage::score, 0.1171, 17246466048, 6307840, 0.9123, 0.9827, Bound::compute),
                sample_stage(Stage::select, 0.01126, 0, 5210368, 0.0877, 0.0221, Bound::memory)};
  dsa.end_to_end = Summary{.median = 0.1289, .p10 = 0.1265, .p90 = 0.1351, .samples = 12};
  dsa.end_to_end->raw = {0.1289, 0.1265, 0.1351};
  dsa.first_call_s = 0.1523;
  dsa.closure_residual = 0.0042;
  dsa.closure_ok = true;
  dsa.speedup_over_dsa = 1.0;
  dsa.quality_reason = "reference";

  ReportCase misa = dsa;
  misa.spec.name = "misa";
  misa.spec.heads = HeadRouting{.router = Router::pooled, .active = 8, .block_size = 1024};
  misa.stages = {sample_stage(Stage::pool, 0.000412, 2162688, 1150976, 0.0146, 0.133, Bound::memory),
                 sample_stage(Stage::route, 0.000981, 16777216, 1900544, 0.0348, 0.0922, Bound::compute),
                 sample_stage(Stage::score, 0.01552, 2155808256, 5375488, 0.5507, 0.9262, Bound::compute),
                 sample_stage(Stage::select, 0.01127, 0, 5210368, 0.3999, 0.022, Bound::memory)};
  misa.end_to_end = Summary{.median = 0.0307, .p10 = 0.0301, .p90 = 0.0322, .samples = 12};
  misa.end_to_end->raw = {0.0307, 0.0301, 0.0322};
  misa.first_call_s = 0.0341;
  misa.closure_residual = 0.0821;
  misa.closure_ok = false;
  misa.closure_doubt = Doubt::noise;
  misa.speedup_over_dsa = 4.199;
  misa.speedup = PairedRatio{.median = 4.21, .rounds = 12, .low = 4.11, .high = 4.27};
  misa.quality = Quality{.reference = "dsa",
                         .rows = 128,
                         .recall = {.mean = 0.91234, .median = 0.9201, .p1 = 0.8112, .worst = 0.7905, .worst_row = 17},
                         .iou = 0.8388,
                         .attention_rows = 64,
                         .attention_mass = 0.9934,
                         .attention_mass_absolute = 0.9812,
                         .reference_attention_mass = 0.9877,
                         .needle_cells = 40,
                         .needle_hit_rate = 0.975};
  misa.quality_reason.clear();

  ReportCase dagger = misa;
  dagger.spec.name = "misa-dagger";
  dagger.spec.heads->router = Router::qnorm;
  dagger.spec.rerank = Rerank{.candidates = 4096};
  dagger.stages = {
      sample_stage(Stage::route, 0.000031, 0, 1900544, 0.0005, 1.02, Bound::memory),
      sample_stage(StageSet(Stage::score) | Stage::select, 0.0262, 2155808256, 2262016, 0.4267, 0.5486, Bound::compute),
      sample_stage(Stage::rerank, 0.0351, 4345298944, 13107200, 0.5728, 0.8253, Bound::compute)};
  dagger.stages[0].roof_doubt = Doubt::cache_resident;
  dagger.end_to_end = Summary{.median = 0.0619, .p10 = 0.0608, .p90 = 0.0644, .samples = 12};
  dagger.closure_residual = 0.0092;
  dagger.closure_ok = true;
  dagger.closure_doubt = {};
  dagger.speedup_over_dsa = 2.082;
  dagger.speedup = PairedRatio{.median = 2.1, .rounds = 12, .low = 0.93, .high = 2.4};

  ReportCase hisa;
  hisa.spec.name = "hisa";
  hisa.backend = "cpu";
  hisa.spec.blocks = BlockPruning{.blocks = 32, .block_size = 128};
  hisa.shape = shape;
  hisa.threads = 2;
  hisa.quality = misa.quality;
  hisa.quality->attention_mass = {};
  hisa.quality->needle_hit_rate = {};
  hisa.quality->needle_cells = 0;

  Contention& contention = report.measurement.contention.emplace();
  contention.seconds = 4.25;
  contention.own_cpu_share = 0.981;
  contention.waiting_share = 0.0021;
  contention.others_share = 0.013;
  contention.pressure_share = 0.0104;
  contention.voluntary_switches = 12;
  contention.involuntary_switches = 34;
  contention.load_average_before = 0.42;
  contention.load_average_after = 1.87;
  contention.most_runnable = 3;
  contention.clock_min_hz = 3.6e9;
  contention.clock_max_hz = 3.7e9;

  report.cases = {dsa, misa, dagger, hisa};
  for (ReportCase& one : report.cases) one.used = one.spec;
  report.skipped = {{.indexer = "misa", .backend = "cuda", .reason = "no device"}};
  report.warnings = {{.id = "MP-W012", .what = "the machine was busy", .where = "misa"}};
  return report;
}

/// The same, measured on a device.
inline Report device_report() {
  Report report = sample_report();
  Roofs& roofs = *report.environment.backends[0].roofs;
  roofs.copy_bytes_per_second = 4.1e12;
  roofs.recorded_launch_seconds = 1.1e-6;
  roofs.peaks = {{.dtype = Dtype::e4m3, .flops_per_second = 1.31e15}, {.dtype = Dtype::bf16, .flops_per_second = 0}};
  DeviceRecord& device = report.measurement.device.emplace();
  device.before.sm_clock_hz = 345e6;
  device.after = {.sm_clock_hz = 1965e6,
                  .memory_clock_hz = 3201e6,
                  .power_watts = 412.4,
                  .temperature_celsius = 47,
                  .throttled = {}};
  device.sm_clock_min_hz = 1830e6;
  device.sm_clock_max_hz = 1980e6;
  device.throttled = {"power cap"};
  report.measurement.cache = "cold";
  report.measurement.launch = "graph";
  return report;
}

}  // namespace misa
