// Every primitive of a backend on the shapes that the project's targets name. Times are the device's own (its clock);
// inputs that would otherwise stay in the cache are rotated. MISA_BACKEND names another backend than cuda.

#include <benchmark/benchmark.h>

#include <cstdlib>
#include <random>

#include "core/measure/statistics.hpp"
#include "tests/support/on_backend.hpp"

namespace {

using namespace misa;
using testing::On;

constexpr i64 kDim = 128, kPage = 64;

std::unique_ptr<Backend> backend_under_test() {
  const char* name = std::getenv("MISA_BACKEND");
  return make_backend(name != nullptr ? name : "cuda", 0);
}

/// Normal numbers as e4m3: what a quantised vector looks like.
std::vector<E4m3> random_vectors(i64 count, u64 seed) {
  std::mt19937_64 engine(seed);
  std::normal_distribution<float> normal(0.0f, 100.0f);
  std::vector<E4m3> pattern(1 << 16);
  for (E4m3& one : pattern) {
    float x = normal(engine);
    u8 best = 0;
    float least = 1e9f;
    for (int bits = 0; bits < 256; ++bits) {
      if ((bits & 0x7F) == 0x7F) continue;
      const float off = std::abs(to_float(E4m3{static_cast<u8>(bits)}) - x);
      if (off < least) least = off, best = static_cast<u8>(bits);
    }
    one.bits = best;
  }
  std::vector<E4m3> values(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = pattern[engine() & 0xFFFF];
  return values;
}

/// Normal numbers; from the four millionth on, some of the first again.
std::vector<float> random_floats(i64 count, u64 seed) {
  constexpr i64 kDrawn = 1 << 22;
  std::mt19937 engine(static_cast<unsigned>(seed));
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<std::size_t>(count));
  for (i64 i = 0; i < count; ++i) values[i] = i < kDrawn ? normal(engine) : values[engine() % kDrawn];
  return values;
}

struct Inputs {
  Queries queries;
  KeyCache keys;
  Windows windows;
};

Windows whole_windows(On& on, i64 rows, i64 length, bool own_sequence) {
  std::vector<i32> sequence, begin(static_cast<std::size_t>(rows), 0),
      end(static_cast<std::size_t>(rows), static_cast<i32>(length));
  for (i64 m = 0; m < rows; ++m) sequence.push_back(own_sequence ? static_cast<i32>(m) : 0);
  return {on.place<i32, 1>(sequence, {rows}), on.place<i32, 1>(begin, {rows}), on.place<i32, 1>(end, {rows})};
}

Queries random_queries(On& on, i64 rows, i64 heads) {
  return {View<const E4m3, 3>(on.place<E4m3, 3>(random_vectors(rows * heads * kDim, 1), {rows, heads, kDim})),
          on.place<float, 2>(random_floats(rows * heads, 2), {rows, heads})};
}

Inputs prefill(On& on, i64 rows, i64 keys, i64 heads) {
  return {random_queries(on, rows, heads),
          {View<const E4m3, 3>(on.place<E4m3, 3>(random_vectors(keys * kDim, 3), {1, keys, kDim})),
           on.place<float, 2>(std::vector<float>(static_cast<std::size_t>(keys), 0.01f), {1, keys}),
           {}},
          whole_windows(on, rows, keys, false)};
}

Inputs prefill_bf16(On& on, i64 rows, i64 keys, i64 heads) {
  const auto vectors = [&](i64 count, u64 seed) {
    std::mt19937_64 engine(seed);
    const std::vector<float> pattern = random_floats(1 << 16, seed);
    std::vector<Bf16> values(static_cast<std::size_t>(count));
    for (Bf16& value : values) value = to_bf16(pattern[engine() & 0xFFFF]);
    return values;
  };
  return {{View<const Bf16, 3>(on.place<Bf16, 3>(vectors(rows * heads * kDim, 1), {rows, heads, kDim})),
           on.place<float, 2>(random_floats(rows * heads, 2), {rows, heads})},
          {View<const Bf16, 3>(on.place<Bf16, 3>(vectors(keys * kDim, 3), {1, keys, kDim})), {}, {}},
          whole_windows(on, rows, keys, false)};
}

/// `batch` sequences of `length` tokens in pages of FP8 values and their scales, next_n rows each. Ragged: any sequence
/// of a group of 32 has another length, from a 32nd of it on.
Inputs decode(On& on, i64 batch, i64 length, i64 heads, i64 next_n, bool ragged = false) {
  const i64 pages = batch * ceil_div(length, kPage), page_bytes = kPage * (kDim + 4);
  std::vector<E4m3> bytes = random_vectors(pages * page_bytes, 4);
  std::vector<i32> table;
  for (i64 i = 0; i < pages; ++i) {
    table.push_back(static_cast<i32>((i * 7919) % pages));
    float* scales = reinterpret_cast<float*>(bytes.data() + i * page_bytes + kPage * kDim);
    for (i64 t = 0; t < kPage; ++t) scales[t] = 0.01f;
  }
  E4m3* data = on.place<E4m3, 1>(bytes, {pages * page_bytes}).data;
  std::vector<i32> sequence, begin, end;
  for (i64 m = 0; m < batch * next_n; ++m) {
    const i64 tokens = ragged ? length * (m / next_n * 5 % 32 + 1) / 32 : length;
    sequence.push_back(static_cast<i32>(m / next_n));
    begin.push_back(0);
    end.push_back(static_cast<i32>(tokens - next_n + 1 + m % next_n));
  }
  const i64 rows = batch * next_n;
  return {
      random_queries(on, rows, heads),
      {View<const E4m3, 3>(data, {pages, kPage, kDim}, {page_bytes, kDim, 1}),
       View<const float, 2>(reinterpret_cast<const float*>(data + kPage * kDim), {pages, kPage}, {page_bytes / 4, 1}),
       on.place<i32, 2>(table, {batch, pages / batch})},
      {on.place<i32, 1>(sequence, {rows}), on.place<i32, 1>(begin, {rows}), on.place<i32, 1>(end, {rows})}};
}

/// Sets the time of one call of `work(i)`, i from 0 to `turns` - 1: the median of samples of several calls in a row,
/// which take a twentieth of a second in all. The calls are recorded where the backend records, and wait for no host.
/// One iteration of the benchmark is enough (--benchmark_min_time=0).
template <class Work>
double measure(benchmark::State& state, Backend& backend, const Work& work, i64 turns = 1) {
  constexpr int kLeastSamples = 10, kMostSamples = 200;
  const i64 calls = std::max<i64>(4, turns);
  const auto clock = backend.clock();
  int from = 0, to = 0;
  const auto run = [&] {
    clock->reset();
    from = clock->mark();
    for (i64 i = 0; i < calls; ++i) work(i % turns);
    to = clock->mark();
  };
  run();
  const auto recording = backend.record(run);
  std::vector<double> samples;
  double total = 0;
  while (static_cast<int>(samples.size()) < kLeastSamples ||
         (total < 0.05 && static_cast<int>(samples.size()) < kMostSamples)) {
    backend.prepare_run(false);
    recording ? recording->replay() : run();
    const double seconds = clock->seconds(from, to);
    samples.push_back(seconds / static_cast<double>(calls));
    total += seconds;
  }
  const double seconds = median(samples);
  for (auto _ : state) state.SetIterationTime(seconds);
  return seconds;
}

using MakeInputs = Inputs (*)(On& on, i64 rows, i64 keys, i64 heads);

template <MakeInputs Make = prefill>
void score_prefill(benchmark::State& state) {
  const i64 heads = state.range(0), rows = state.range(1), keys = state.range(2);
  const auto backend = backend_under_test();
  On on(*backend);
  const Inputs in = Make(on, rows, keys, heads);
  const ScoreTask task{in.queries, in.keys, in.windows, {}, on.logits(rows, keys)};
  const double seconds = measure(state, *backend, [&](i64) { backend->score(task); });
  const double pairs = static_cast<double>(rows) * static_cast<double>(keys);
  state.counters["tflops"] = pairs * static_cast<double>(heads) * 2 * kDim / seconds * 1e-12;
  state.counters["ps_per_pair"] = seconds / pairs * 1e12;
}

void score_decode_of(benchmark::State& state, bool ragged) {
  const i64 heads = state.range(0), batch = state.range(1), length = state.range(2), next_n = state.range(3);
  const i64 rows = batch * next_n, copies = ceil_div(i64{1} << 21, batch * length);  // more than the cache holds
  const auto backend = backend_under_test();
  On on(*backend);
  const Inputs in = decode(on, copies * batch, length, heads, next_n, ragged);
  const Logits logits = on.logits(rows, length);
  const auto score = [&](i64 turn) {
    const i64 first = turn * rows;
    backend->score({slice(in.queries, first, rows), in.keys, slice(in.windows, first, rows), {}, logits});
  };
  const double seconds = measure(state, *backend, score, copies);
  const i64 tokens = ragged ? batch * length * 33 / 64 : batch * length;
  state.counters["tbytes"] = static_cast<double>(tokens * (kDim + 4)) / seconds * 1e-12;
}

void score_decode(benchmark::State& state) { score_decode_of(state, false); }
void score_decode_ragged(benchmark::State& state) { score_decode_of(state, true); }

template <MakeInputs Make = prefill>
void score_candidates(benchmark::State& state) {
  const i64 rows = state.range(0), keys = state.range(1), runs = state.range(2), length = state.range(3);
  const i64 heads = state.range(4), shared = state.range(5);
  const auto backend = backend_under_test();
  On on(*backend);
  const Inputs in = Make(on, rows, keys, heads);
  std::mt19937 engine(5);
  std::vector<i32> chosen;
  for (i64 m = 0; m < rows; ++m) {  // an ascending draw with even steps, `shared` percent of it the row's before
    const i64 step = keys / length / runs;
    for (i64 r = 0; r < runs; ++r) {
      const i32 drawn = static_cast<i32>(r * step + static_cast<i64>(engine()) % step);
      const bool again = m > 0 && static_cast<i64>(engine() % 100) < shared;
      chosen.push_back(again ? chosen[static_cast<std::size_t>((m - 1) * runs + r)] : drawn);
    }
  }
  const ScoreTask task{in.queries, in.keys, in.windows,
                       Candidates{on.place<i32, 2>(chosen, {rows, runs}), in.windows.begin, length},
                       on.logits(rows, runs * length)};
  const double seconds = measure(state, *backend, [&](i64) { backend->score(task); });
  state.counters["tflops"] = static_cast<double>(rows * runs * length * heads) * 2 * kDim / seconds * 1e-12;
}

/// All heads over block means: HISA's blocks.
void score_means(benchmark::State& state) {
  const i64 rows = state.range(0), blocks = state.range(1);
  const auto backend = backend_under_test();
  On on(*backend);
  const Queries queries = random_queries(on, rows, 64);
  const KeyCache means{
      View<const float, 3>(on.place<float, 3>(random_floats(blocks * kDim, 7), {1, blocks, kDim})), {}, {}};
  const ScoreTask task{queries, means, whole_windows(on, rows, blocks, false), {}, on.logits(rows, blocks)};
  measure(state, *backend, [&](i64) { backend->score(task); });
}

void select(benchmark::State& state) {
  const i64 rows = state.range(0), columns = state.range(1), k = state.range(2), kind = state.range(3);
  const auto backend = backend_under_test();
  On on(*backend);
  std::vector<float> scores = random_floats(rows * columns, 6);
  if (kind == 1) {  // a plateau of exact zeros through the k-th place
    for (float& x : scores) x = std::max(0.0f, x - 2.5f);
  }
  const Windows windows = whole_windows(on, rows, columns, false);
  const SelectTask task{on.place_logits(scores, rows, columns), windows, {}, false, on.make<i32, 2>({rows, k})};
  const double seconds = measure(state, *backend, [&](i64) { backend->select(task); });
  state.counters["tbytes"] = static_cast<double>(rows * columns * 4) / seconds * 1e-12;
}

void pool(benchmark::State& state) {
  const i64 sequences = state.range(0), keys = state.range(1), block = state.range(2);
  constexpr i64 kSequences = 8;  // more than the cache holds
  const auto backend = backend_under_test();
  On on(*backend);
  const Inputs in = decode(on, kSequences, keys, 1, 1);
  const i64 blocks = sequences * ceil_div(keys, block);
  std::vector<PoolTask> tasks;
  for (i64 first = 0; first < kSequences; first += sequences) {
    std::vector<i32> sequence, begin, end;
    for (i64 b = 0; b < blocks; ++b) {
      const i64 from = b % ceil_div(keys, block) * block;
      sequence.push_back(static_cast<i32>(first + b / ceil_div(keys, block)));
      begin.push_back(static_cast<i32>(from));
      end.push_back(static_cast<i32>(std::min(keys, from + block)));
    }
    tasks.push_back(
        {in.keys,
         {on.place<i32, 1>(sequence, {blocks}), on.place<i32, 1>(begin, {blocks}), on.place<i32, 1>(end, {blocks})},
         on.make<float, 2>({blocks, kDim})});
  }
  const auto pool_one = [&](i64 turn) { backend->pool(tasks[static_cast<std::size_t>(turn)]); };
  const double seconds = measure(state, *backend, pool_one, std::ssize(tasks));
  state.counters["tbytes"] = static_cast<double>(sequences * keys * (kDim + 4)) / seconds * 1e-12;
}

/// Means of each row's own last block: ranges that share a begin, ends one token apart.
void pool_tails(benchmark::State& state) {
  const i64 rows = state.range(0), block = state.range(1), keys = 131072;
  const auto backend = backend_under_test();
  On on(*backend);
  const Inputs in = prefill(on, 1, keys, 1);
  std::vector<i32> sequence, begin, end;
  for (i64 m = 0; m < rows; ++m) {
    const i64 last = keys - rows + m;
    sequence.push_back(0);
    begin.push_back(static_cast<i32>(last / block * block));
    end.push_back(static_cast<i32>(last + 1));
  }
  const PoolTask task{
      in.keys,
      {on.place<i32, 1>(sequence, {rows}), on.place<i32, 1>(begin, {rows}), on.place<i32, 1>(end, {rows})},
      on.make<float, 2>({rows, kDim})};
  measure(state, *backend, [&](i64) { backend->pool(task); });
}

void route(benchmark::State& state) {
  const i64 heads = state.range(0), rows = state.range(1), blocks = state.range(2), active = 8;
  const auto backend = backend_under_test();
  On on(*backend);
  const Queries queries = random_queries(on, rows, heads);
  const KeyCache means{
      View<const float, 3>(on.place<float, 3>(random_floats(blocks * kDim, 7), {1, blocks, kDim})), {}, {}};
  const RankTask rank{.router = Router::pooled,
                      .queries = queries,
                      .keys = means,
                      .windows = whole_windows(on, rows, blocks, false),
                      .tails = on.place<float, 2>(random_floats(rows * kDim, 8), {rows, kDim}),
                      .norms = {},
                      .heads = on.make<i32, 2>({rows, active})};
  const GatherTask gather{.queries = queries,
                          .heads = rank.heads,
                          .values = View<const E4m3, 3>(on.make<E4m3, 3>({rows, active, kDim})),
                          .weights = on.make<float, 2>({rows, active})};
  measure(state, *backend, [&](i64) { backend->rank_gather({rank, gather}); });
}

/// Heads by sampled keys, with a linear head; 1: by covariances.
void route_samples(benchmark::State& state) {
  const i64 heads = state.range(0), rows = state.range(1), samples = state.range(2), active = 8;
  const auto backend = backend_under_test();
  On on(*backend);
  const Queries queries = random_queries(on, rows, heads);
  const KeyCache keys{
      View<const float, 3>(on.place<float, 3>(random_floats(samples * kDim, 7), {1, samples, kDim})), {}, {}};
  const RankTask rank{.router = state.range(3) == 1 ? Router::covariance : Router::linear_residual,
                      .queries = queries,
                      .keys = keys,
                      .windows = whole_windows(on, rows, samples, false),
                      .tails = {},
                      .norms = {},
                      .samples = samples,
                      .heads = on.make<i32, 2>({rows, active - 2}),
                      .slopes = on.make<double, 2>({rows, heads})};
  const GatherTask gather{.queries = queries,
                          .heads = rank.heads,
                          .slopes = rank.slopes,
                          .values = View<const E4m3, 3>(on.make<E4m3, 3>({rows, active, kDim})),
                          .weights = on.make<float, 2>({rows, active})};
  measure(state, *backend, [&](i64) { backend->rank_gather({rank, gather}); });
}

}  // namespace

BENCHMARK(score_prefill<>)
    ->Name("score_prefill")
    ->ArgNames({"heads", "rows", "keys"})
    ->UseManualTime()
    ->Unit(benchmark::kMicrosecond)
    ->Args({64, 1024, 8192})
    ->Args({64, 1024, 32768})
    ->Args({64, 1024, 65536})
    ->Args({64, 1024, 131072})
    ->Args({64, 2048, 131072})
    ->Args({64, 4096, 131072})
    ->Args({32, 1024, 131072})
    ->Args({8, 1024, 32768})
    ->Args({8, 1024, 131072})
    ->Args({8, 4096, 131072})
    ->Args({16, 1024, 131072})
    ->Args({3, 1024, 131072});
BENCHMARK(score_decode)
    ->ArgNames({"heads", "batch", "length", "next_n"})
    ->UseManualTime()
    ->Unit(benchmark::kMicrosecond)
    ->Args({64, 32, 65536, 1})
    ->Args({64, 32, 65536, 2})
    ->Args({64, 32, 65536, 4})
    ->Args({64, 1, 131072, 1})
    ->Args({32, 32, 65536, 1})
    ->Args({32, 32, 65536, 4})
    ->Args({8, 32, 65536, 1})
    ->Args({8, 1, 131072, 1});
BENCHMARK(score_decode_ragged)
    ->ArgNames({"heads", "batch", "length", "next_n"})
    ->UseManualTime()
    ->Unit(benchmark::kMicrosecond)
    ->Args({64, 32, 65536, 1});
BENCHMARK(score_candidates<>)
    ->Name("score_candidates")
    ->ArgNames({"rows", "keys", "runs", "length", "heads", "shared"})
    ->UseManualTime()
    ->Unit(benchmark::kMicrosecond)
    ->Args({1024, 131072, 8192, 1, 64, 0})
    ->Args({1024, 131072, 8192, 1, 64, 65})
    ->Args({1024, 131072, 8192, 1, 32, 0})
    ->Args({1024, 131072, 8192, 1, 32, 65})
    ->Args({1024, 131072, 64, 128, 64, 0})
    ->Args({1024, 131072, 64, 128, 64, 90});
BENCHMARK(score_prefill<prefill_bf16>)
    ->Name("score_prefill_bf16")
    ->ArgNames({"heads", "rows", "keys"})
    ->UseManualTime()
    ->Unit(benchmark::kMicrosecond)
    ->Args({64, 1024, 32768})
    ->Args({64, 1024, 131072})
    ->Args({32, 1024, 131072})
    ->Args({8, 1024, 131072});
BENCHMARK(score_candidates<prefill_bf16>)
    ->Name("score_candidates_bf16")
    ->ArgNames({"rows", "keys", "runs", "length", "heads", "shared"})
    ->UseManualTime()
    ->Unit(benchmark::kMicrosecond)
    ->Args({1024, 131072, 8192, 1, 64, 0})
    ->Args({1024, 131072, 8192, 1, 64, 65})
    ->Args({1024, 131072, 8192, 1, 32, 0})
    ->Args({1024, 131072, 8192, 1, 32, 65})
    ->Args({1024, 131072, 64, 128, 64, 0})
    ->Args({1024, 131072, 64, 128, 64, 90});
BENCHMARK(score_means)
    ->ArgNames({"rows", "blocks"})
    ->UseManualTime()
    ->Unit(benchmark::kMicrosecond)
    ->Args({1024, 1024});
BENCHMARK(select)
    ->ArgNames({"rows", "columns", "k", "kind"})
    ->UseManualTime()
    ->Unit(benchmark::kMicrosecond)
    ->Args({1024, 8192, 2048, 0})
    ->Args({1024, 32768, 2048, 0})
    ->Args({1024, 131072, 2048, 0})
    ->Args({1024, 131072, 2048, 1})
    ->Args({1024, 131072, 8192, 0})
    ->Args({1, 131072, 2048, 0})
    ->Args({64, 131072, 2048, 0})
    ->Args({16, 1048576, 2048, 0});
BENCHMARK(pool)
    ->ArgNames({"sequences", "keys", "block"})
    ->UseManualTime()
    ->Unit(benchmark::kMicrosecond)
    ->Args({1, 131072, 1024})
    ->Args({1, 131072, 128})
    ->Args({8, 131072, 1024})
    ->Args({8, 131072, 128});
BENCHMARK(pool_tails)->ArgNames({"rows", "block"})->UseManualTime()->Unit(benchmark::kMicrosecond)->Args({4096, 1024});
BENCHMARK(route)
    ->ArgNames({"heads", "rows", "blocks"})
    ->UseManualTime()
    ->Unit(benchmark::kMicrosecond)
    ->Args({64, 4096, 128})
    ->Args({64, 1024, 32})
    ->Args({32, 4096, 128})
    ->Args({64, 32, 64});
BENCHMARK(route_samples)
    ->ArgNames({"heads", "rows", "samples", "covariance"})
    ->UseManualTime()
    ->Unit(benchmark::kMicrosecond)
    ->Args({64, 1024, 256, 0})
    ->Args({64, 1024, 256, 1})
    ->Args({64, 1024, 128, 0})
    ->Args({64, 1024, 128, 1})
    ->Args({64, 1024, 64, 0})
    ->Args({64, 1024, 64, 1})
    ->Args({64, 4096, 64, 1})
    ->Args({32, 1024, 64, 1})
    ->Args({64, 32, 64, 1})
    ->Args({32, 1024, 256, 0})
    ->Args({32, 1024, 256, 1});
