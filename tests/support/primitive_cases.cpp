#include "tests/support/primitive_cases.hpp"

#include <fmt/format.h>

#include <cstdlib>
#include <cstring>
#include <random>
#include <sstream>
#include <stdexcept>

#include "tests/support/cases.hpp"
#include "tests/support/select_rows.hpp"

namespace misa::testing {
namespace {

constexpr i64 kDim = 128, kPage = 64;
constexpr i64 kCached = 1 << 21;  // tokens that no cache holds

// Inputs of cases that are timed: drawn fast, and whole windows.

/// Normal numbers of size `size`, which repeat.
template <class T>
void fill(std::span<T> values, u64 seed, float size) {
  std::mt19937_64 engine(seed);
  std::normal_distribution<float> normal(0.0f, size);
  std::vector<T> pattern(1 << 16);
  for (T& one : pattern) one = from_float<T>(normal(engine));
  for (T& value : values) value = pattern[engine() & 0xFFFF];
}

HostTensor normal_tensor(Dtype dtype, std::vector<i64> shape, u64 seed) {
  HostTensor tensor(dtype, std::move(shape));
  switch (dtype) {
    case Dtype::f32: fill(tensor.span<float>(), seed, 1); break;
    case Dtype::bf16: fill(tensor.span<Bf16>(), seed, 1); break;
    default: fill(tensor.span<E4m3>(), seed, 100); break;
  }
  return tensor;
}

Workload queries_only(i64 rows, i64 heads, Dtype dtype) {
  Workload workload;
  workload.q = normal_tensor(dtype, {rows, heads, kDim}, 1);
  workload.weights = normal_tensor(Dtype::f32, {rows, heads}, 2);
  workload.q_pos.assign(static_cast<std::size_t>(rows), 0);
  return workload;
}

/// Rows of one sequence, each of which sees all keys.
Workload prefill(i64 rows, i64 keys, i64 heads, Dtype queries = Dtype::e4m3, Dtype of_keys = Dtype::e4m3) {
  Workload workload = queries_only(rows, heads, queries);
  workload.k = normal_tensor(of_keys, {keys, kDim}, 3);
  if (of_keys == Dtype::e4m3) {
    workload.k_scale = HostTensor(Dtype::f32, {keys});
    for (float& scale : workload.k_scale.span<float>()) scale = 0.01f;
  }
  workload.sequence.assign(static_cast<std::size_t>(rows), 0);
  workload.ks.assign(static_cast<std::size_t>(rows), 0);
  workload.ke.assign(static_cast<std::size_t>(rows), static_cast<i32>(keys));
  return workload;
}

/// `batch` sequences of `length` tokens in pages of FP8 values and their scales, next_n rows each. Ragged: any sequence
/// of a group of 32 has another length, from a 32nd of it on.
Workload decode(i64 batch, i64 length, i64 heads, i64 next_n, bool ragged = false) {
  Workload workload = queries_only(batch * next_n, heads, Dtype::e4m3);
  const i64 pages = batch * ceil_div(length, kPage), page_bytes = kPage * (kDim + 4);
  workload.k_pages = HostTensor(Dtype::uint8, {pages, kPage, kDim + 4});
  fill(std::span(workload.k_pages.storage.as<E4m3>(), static_cast<std::size_t>(pages * page_bytes)), 4, 100);
  workload.block_table = HostTensor(Dtype::int32, {batch, pages / batch});
  workload.seq_lens = HostTensor(Dtype::int32, {batch});
  workload.next_n = next_n;
  for (i64 i = 0; i < pages; ++i) {
    workload.block_table.span<i32>()[static_cast<std::size_t>(i)] = static_cast<i32>((i * 7919) % pages);
    float* scales = reinterpret_cast<float*>(workload.k_pages.storage.data() + i * page_bytes + kPage * kDim);
    std::fill(scales, scales + kPage, 0.01f);
  }
  for (i64 m = 0; m < batch * next_n; ++m) {
    const i64 tokens = ragged ? length * (m / next_n * 5 % 32 + 1) / 32 : length;
    workload.seq_lens.span<i32>()[static_cast<std::size_t>(m / next_n)] = static_cast<i32>(tokens);
    workload.sequence.push_back(static_cast<i32>(m / next_n));
    workload.ks.push_back(0);
    workload.ke.push_back(static_cast<i32>(tokens - next_n + 1 + m % next_n));
  }
  return workload;
}

// Inputs of cases that are only tested: small, of all dtypes, layouts and adversarial numbers.

CaseOptions draw_options(u64 seed) {
  Draw draw(seed * 2654435761u + 3);
  CaseOptions options;
  options.seed = seed;
  options.heads = draw.one_of<i64>({1, 2, 5, 8, 16, 32, 64, 100, 128});
  options.dim = draw.one_of<i64>({32, 64, 128, 256});
  options.dtype = draw.one_of<Dtype>({Dtype::f32, Dtype::bf16, Dtype::e4m3});
  options.numbers = draw.one_of<Numbers>({Numbers::normal, Numbers::few_keys, Numbers::zeros, Numbers::negative_gates,
                                          Numbers::nan, Numbers::infinite, Numbers::denormal});
  options.paged = draw.whole(0, 1) == 1;
  options.page_size = draw.one_of<i64>({1, 16, 64});
  options.next_n = draw.whole(1, 4);
  options.rows = draw.one_of<i64>({1, 2, 3, 5, 9, 17, 40, 70});
  options.contexts.clear();
  for (i64 n = draw.whole(1, 3); n > 0; --n) options.contexts.push_back(draw.whole(options.paged ? 0 : 1, 700));
  if (options.paged) options.contexts.push_back(1);
  return options;
}

/// Options in INT8 or MXFP4.
CaseOptions as_narrow(CaseOptions options) {
  options.dtype = options.seed % 3 == 0 ? Dtype::int8 : Dtype::e2m1;
  return options;
}

/// What kernels for tensor cores take: many rows of a sequence, head_dim 128, up to 64 heads, narrow elements.
CaseOptions draw_wide_options(u64 seed) {
  Draw draw(seed * 2654435761u + 5);
  CaseOptions options = draw_options(seed);
  options.heads = draw.one_of<i64>({1, 3, 8, 13, 16, 32, 48, 64});
  options.dim = 128;
  options.dtype = draw.one_of<Dtype>({Dtype::bf16, Dtype::e4m3});
  options.rows = draw.whole(16, 40);
  options.page_size = draw.one_of<i64>({8, 24, 64, 128});
  options.next_n = draw.whole(8, 16);
  options.contexts.resize(std::min<std::size_t>(2, options.contexts.size()));
  return options;
}

/// Ascending runs, some behind the window, -1 pads.
Listed draw_list(Draw& draw, i64 rows) {
  Listed listed{.count = draw.whole(1, 40), .length = draw.one_of<i64>({1, 1, 7, 16})};
  for (i64 m = 0; m < rows; ++m) {
    i64 next = 0;
    const i64 used = draw.whole(0, listed.count);
    for (i64 r = 0; r < listed.count; ++r) {
      next += draw.whole(0, 5) + (r > 0 ? 1 : 0);
      listed.runs.push_back(r < used ? static_cast<i32>(next) : -1);
    }
  }
  return listed;
}

// The families: how the inputs of a case are made of its parameters.

using Given = std::vector<i64>;  ///< parameters
using Task = std::unique_ptr<PlacedTask>;

Task score_prefill(Backend& backend, const Given& of, Dtype dtype) {
  const i64 heads = of[0], rows = of[1], keys = of[2];
  Task task = place_score(backend, prefill(rows, keys, heads, dtype, dtype));
  task->pairs = static_cast<double>(rows) * static_cast<double>(keys);
  task->flops = task->pairs * static_cast<double>(heads) * 2 * kDim;
  return task;
}

Task score_decode(Backend& backend, const Given& of, bool ragged) {
  const i64 heads = of[0], batch = of[1], length = of[2], next_n = of[3];
  const i64 turns = batch * length < kPage * 1024 ? 1 : ceil_div(kCached, batch * length);
  Task task = place_score(backend, decode(turns * batch, length, heads, next_n, ragged), {}, turns);
  task->bytes = static_cast<double>((ragged ? batch * length * 33 / 64 : batch * length) * (kDim + 4));
  return task;
}

/// Every row lists runs in even steps, `shared` percent of them those of the row before.
Task score_candidates(Backend& backend, const Given& of, Dtype dtype) {
  const i64 rows = of[0], keys = of[1], count = of[2], length = of[3], heads = of[4], shared = of[5];
  Listed listed{.count = count, .length = length};
  std::mt19937 engine(5);
  const i64 step = keys / length / count;
  for (i64 m = 0; m < rows; ++m) {
    for (i64 r = 0; r < count; ++r) {
      const i32 drawn = static_cast<i32>(r * step + static_cast<i64>(engine()) % step);
      const bool again = m > 0 && static_cast<i64>(engine() % 100) < shared;
      listed.runs.push_back(again ? listed.runs[static_cast<std::size_t>((m - 1) * count + r)] : drawn);
    }
  }
  Task task = place_score(backend, prefill(rows, keys, heads, dtype, dtype), listed);
  task->flops = static_cast<double>(rows * count * length * heads) * 2 * kDim;
  return task;
}

/// All heads over block means: HISA's blocks. Rows see as many means as `blocks`, or fewer, by threes from 0 or `apart`
/// on.
Task score_means(Backend& backend, const Given& of) {
  Workload workload = prefill(of[0], of[1] + of[2], 64, Dtype::e4m3, Dtype::f32);
  for (i64 m = 0; m < of[0]; ++m) {
    const std::size_t row = static_cast<std::size_t>(m);
    workload.ks[row] = static_cast<i32>(m / 3 % 2 * of[2]);
    workload.ke[row] = static_cast<i32>(workload.ks[row] + of[1] - (of[2] > 0 ? m % 5 * of[1] / 6 : 0));
  }
  return place_score(backend, std::move(workload));
}

Task score_drawn(Backend& backend, const Given& of, bool narrow) {
  const u64 seed = static_cast<u64>(of[0]);
  const bool wide = narrow ? seed % 2 == 0 : seed > 150;
  const CaseOptions options = wide ? draw_wide_options(seed) : draw_options(seed);
  Workload workload = draw_workload(narrow ? as_narrow(options) : options);
  Draw draw(seed);
  const Listed listed = seed % 3 == 0 ? Listed{} : draw_list(draw, workload.rows());
  return place_score(backend, std::move(workload), listed);
}

Task select(Backend& backend, const Given& of) {
  Task task = place_select(backend, plain_rows(of[0], of[1], of[2], of[3]));
  task->bytes = static_cast<double>(of[0] * of[1] * 4);
  return task;
}

Task pool(Backend& backend, const Given& of) {
  constexpr i64 kSequences = 8;
  const i64 sequences = of[0], keys = of[1], block = of[2];
  Ranges ranges;
  for (i64 s = 0; s < kSequences; ++s) {
    for (i64 begin = 0; begin < keys; begin += block) ranges.add(s, begin, std::min(keys, begin + block));
  }
  Task task = place_pool(backend, decode(kSequences, keys, 1, 1), ranges, kSequences / sequences);
  task->bytes = static_cast<double>(sequences * keys * (kDim + 4));
  return task;
}

/// Means of each row's own last block: ranges that share a begin, ends one token apart.
Task pool_tails(Backend& backend, const Given& of) {
  const i64 rows = of[0], block = of[1], keys = 131072;
  Ranges ranges;
  for (i64 last = keys - rows; last < keys; ++last) ranges.add(0, last / block * block, last + 1);
  return place_pool(backend, prefill(1, keys, 1), ranges);
}

/// A few ranges of each row's window, some of which share their begin.
Task pool_drawn(Backend& backend, const Given& of, bool narrow) {
  CaseOptions options = draw_options(static_cast<u64>(of[0]));
  if (narrow) options = as_narrow(options);
  if (options.numbers == Numbers::nan) options.numbers = Numbers::normal;
  Workload workload = draw_workload(options);
  Draw draw(options.seed);
  Ranges ranges;
  for (std::size_t m = 0; m < workload.ks.size(); ++m) {
    const i64 first = draw.whole(workload.ks[m], workload.ke[m]);
    i64 last = first;
    for (i64 i = draw.whole(1, 3); i > 0; --i) {
      last = draw.whole(last, workload.ke[m]);
      ranges.add(workload.sequence[m], first, last);
    }
  }
  return place_pool(backend, std::move(workload), ranges);
}

IndexerSpec routing(const HeadRouting& heads) {
  return {.name = "test", .top_k = 8, .heads = heads, .blocks = {}, .rerank = {}};
}

/// Heads by their weights, of more rows than a grid's second axis has blocks too.
Task rank_gate(Backend& backend, const Given& of) {
  return place_route(backend, Primitive::rank, prefill(of[1], 5, of[0]), routing({.router = Router::gate, .active = 1}),
                     true);
}

/// Blocks of one key each stand for block means.
Task route(Backend& backend, const Given& of) {
  return place_route(backend, Primitive::rank_gather, prefill(of[1], of[2], of[0], Dtype::e4m3, Dtype::f32),
                     routing({.router = Router::pooled, .active = 8, .block_size = 1}));
}

/// Heads by sampled keys, with a linear head; 1: by covariances.
Task route_samples(Backend& backend, const Given& of) {
  return place_route(backend, Primitive::rank_gather, prefill(of[1], of[2], of[0], Dtype::e4m3, Dtype::f32),
                     routing({.router = of[3] == 1 ? Router::covariance : Router::linear_residual,
                              .active = 8,
                              .samples = of[2],
                              .linear = true}));
}

Task route_drawn(Backend& backend, const Given& of, Primitive primitive, bool narrow) {
  const u64 seed = static_cast<u64>(of[0]);
  CaseOptions options = seed % 4 < 3 ? draw_options(seed) : draw_wide_options(seed);
  if (narrow) options = as_narrow(options);
  if (options.numbers == Numbers::infinite) options.numbers = Numbers::few_keys;
  const Router router = routers()[(seed + seed / 8) % routers().size()].router;
  IndexerSpec spec = routing({router, std::max<i64>(1, options.heads / 3), 16});
  spec.block_window = seed % 2 == 0 ? BlockWindow::visible : BlockWindow::upstream;
  spec.seed = seed;
  if (samples_keys(router)) {
    spec.heads->samples = 24;
    spec.heads->active = std::max<i64>(2, spec.heads->active);
    spec.heads->linear = seed % 3 > 0;
  }
  // Which samples count hangs on rounding.
  const bool same =
      !samples_keys(router) && (options.numbers == Numbers::normal || options.numbers == Numbers::negative_gates);
  return place_route(backend, primitive, draw_workload(options), spec, same);
}

Task gather_drawn(Backend& backend, const Given& of, bool narrow) {
  const CaseOptions drawn = draw_options(static_cast<u64>(of[0])), options = narrow ? as_narrow(drawn) : drawn;
  const Workload workload = draw_workload(options);
  Draw draw(options.seed);
  const bool has_linear = options.seed % 2 == 0;
  const i64 kept = draw.whole(has_linear ? 0 : 1, options.heads);
  std::vector<i32> heads;
  HostTensor linear(routed_dtype(options.dtype), {workload.rows(), options.dim + 1});
  for (i64 m = 0; m < workload.rows(); ++m) {
    for (i64 h = 0, left = kept; h < options.heads && left > 0; ++h) {
      if (draw.whole(1, options.heads - h) > left) continue;
      heads.push_back(static_cast<i32>(h));
      --left;
    }
  }
  std::vector<float> queries;
  for (i64 i = 0; has_linear && i < linear.size(); ++i) {
    store(linear, i, draw.normal());
    queries.push_back(static_cast<float>(value_at(linear, i)));
  }
  return place_gather(backend, workload, heads, queries);
}

struct Family {
  Primitive primitive;
  std::string_view name, parameters;
  std::function<Task(Backend&, const Given&)> place;
  std::vector<Given> tested, timed = {};
};

/// Numbers of cases: "64 1024, 32 1024".
std::vector<Given> list(const char* text) {
  std::vector<Given> all(1);
  for (char* end = nullptr; *text != 0; text = end + std::strspn(end, ", ")) {
    all.back().push_back(std::strtoll(text, &end, 10));
    if (*end == ',') all.emplace_back();
  }
  return all;
}

std::vector<Given> seeds(i64 count) {
  std::vector<Given> all;
  for (i64 seed = 1; seed <= count; ++seed) all.push_back({seed});
  return all;
}

/// Every pair of numbers.
std::vector<Given> pairs(const Given& first, const Given& second) {
  std::vector<Given> all;
  for (const i64 a : first) {
    for (const i64 b : second) all.push_back({a, b});
  }
  return all;
}

template <auto Place>
auto with(auto... last) {
  return [last...](Backend& backend, const Given& of) { return Place(backend, of, last...); };
}

/// Some rows are as wide as they can be and some are seen in part, with forced columns.
Task select_forced(Backend& backend, const Given& of) {
  SelectCase from = many_rows(of[0], of[1], of[2]);
  from.forced = {of[3], of[4]};
  return place_select(backend, std::move(from));
}

Task forced_drawn(Backend& backend, const Given& of, bool many) {
  return place_select(backend, with_forced(drawn_rows(static_cast<u64>(of[0]), many), of[0]));
}

Family hard_select(std::string_view name, const std::vector<Given>& tested) {
  constexpr std::string_view kPrefix = "select_";
  const auto place = [kind = name.substr(kPrefix.size())](Backend& backend, const Given& of) {
    return place_select(backend, hard_rows(kind, of[0], of[1]));
  };
  return {Primitive::select, name, "columns k", place, tested};
}

/// Sizes around buffers of 4096 and 16384, and numbers of columns kept.
const Given kSizes{4095, 4096, 4097, 16383, 16384, 16385, 16448}, kCounts{1, 64, 2048};

std::vector<Family> families() {
  using enum Primitive;
  const auto candidates = list(
      "1024 131072 8192 1 64 0, 1024 131072 8192 1 64 65, 1024 131072 8192 1 32 0, 1024 131072 8192 1 32 65, "
      "1024 131072 64 128 64 0, 1024 131072 64 128 64 90");
  const auto few_candidates = list("5 2000 300 1 64 0, 40 2000 10 128 32 65, 3 2000 20 7 13 90");
  return {
      {pool, "pool", "sequences keys block", testing::pool, list("1 500 64, 8 1000 128"),
       list("1 131072 1024, 1 131072 128, 8 131072 1024, 8 131072 128")},
      {pool, "pool_tails", "rows block", pool_tails, list("70 64, 9 1024"), list("4096 1024")},
      {pool, "pool_drawn", "seed", with<pool_drawn>(false), seeds(100)},
      {pool, "pool_narrow", "seed", with<pool_drawn>(true), seeds(20)},
      {rank, "rank_drawn", "seed", with<route_drawn>(rank, false), seeds(240)},
      {rank, "rank_narrow", "seed", with<route_drawn>(rank, true), seeds(24)},
      {rank, "rank_gate", "heads rows", rank_gate, list("2 70000, 64 5")},
      {gather, "gather_drawn", "seed", with<gather_drawn>(false), seeds(60)},
      {gather, "gather_narrow", "seed", with<gather_drawn>(true), seeds(20)},
      {rank_gather, "route", "heads rows blocks", route, list("64 40 17, 32 5 130"),
       list("64 4096 128, 64 1024 32, 32 4096 128, 64 32 64")},
      {rank_gather, "route_samples", "heads rows samples covariance", route_samples,
       list("64 9 64 0, 64 9 64 1, 32 5 256 0, 40 3 128 1"),
       list("64 1024 256 0, 64 1024 256 1, 64 1024 128 0, 64 1024 128 1, 64 1024 64 0, 64 1024 64 1, 64 4096 64 1, "
            "32 1024 64 1, 64 32 64 1, 32 1024 256 0, 32 1024 256 1")},
      {rank_gather, "route_drawn", "seed", with<route_drawn>(rank_gather, false), seeds(240)},
      {rank_gather, "route_narrow", "seed", with<route_drawn>(rank_gather, true), seeds(24)},
      {score, "score_prefill", "heads rows keys", with<score_prefill>(Dtype::e4m3),
       list("64 40 300, 32 33 1000, 8 16 130, 3 50 300, 48 20 300, 16 3 700, 2 70000 5"),
       list("64 1024 8192, 64 1024 32768, 64 1024 65536, 64 1024 131072, 64 2048 131072, 64 4096 131072, "
            "32 1024 131072, 8 1024 32768, 8 1024 131072, 8 4096 131072, 16 1024 131072, 3 1024 131072")},
      {score, "score_prefill_bf16", "heads rows keys", with<score_prefill>(Dtype::bf16),
       list("64 40 300, 13 33 1000, 2 70000 5"), list("64 1024 32768, 64 1024 131072, 32 1024 131072, 8 1024 131072")},
      {score, "score_decode", "heads batch length next_n", with<score_decode>(false),
       list("64 3 700 1, 64 5 300 2, 32 2 1000 4, 8 1 2000 1"),
       list("64 32 65536 1, 64 32 65536 2, 64 32 65536 4, 64 1 131072 1, 32 32 65536 1, 32 32 65536 4, 8 32 65536 1, "
            "8 1 131072 1")},
      {score, "score_decode_ragged", "heads batch length next_n", with<score_decode>(true),
       list("64 32 320 2, 8 400 90 3"), list("64 32 65536 1")},
      {score, "score_candidates", "rows keys runs length heads shared", with<score_candidates>(Dtype::e4m3),
       few_candidates, candidates},
      {score, "score_candidates_bf16", "rows keys runs length heads shared", with<score_candidates>(Dtype::bf16),
       few_candidates, candidates},
      {score, "score_means", "rows blocks apart", score_means,
       list("33 70 0, 5 600 40, 1060 70 20, 150 600 0, 540 600 7"), list("1024 1024 0, 1 1024 0, 32 512 0")},
      {score, "score_drawn", "seed", with<score_drawn>(false), seeds(190)},
      {score, "score_narrow", "seed", with<score_drawn>(true), seeds(44)},
      // On 132 processors 4,097 to 8,192 columns are held from 265 rows on, up to 32,768 from 67 rows on; fewer rows of
      // more than 8,192 are spread. 20,001 columns are no multiple of 4, and 16,000 of them too many for a sample.
      {select, "select", "rows columns k kind", testing::select,
       list("270 4100 64 0, 70 8196 2048 1, 70 16388 2048 0, 70 32768 64 2, 1 9000 2048 0, 16 20000 64 1, "
            "1 131072 2048 3, 3 1000 64 0, 2 16384 16385 0, 2 20001 2048 0, 2 20001 16000 1, 266 32772 64 0, 266 40000 "
            "2048 1, "
            "266 33000 2048 3, 270 132000 64 0, 70000 5 1 0"),
       list("1024 8192 2048 0, 1024 32768 2048 0, 1024 32768 8192 0, 1024 131072 2048 0, 1024 131072 2048 1, "
            "1024 131072 8192 0, "
            "1 131072 2048 0, 32 65536 2048 0, 64 131072 2048 0, 16 1048576 2048 0")},
      hard_select("select_equal",
                  pairs({1, 15, 16, 64, 65, 4095, 4096, 4097, 16384, 16385, 16448}, {1, 64, 2048, 4094})),
      hard_select("select_zeros", pairs(kSizes, kCounts)),
      hard_select("select_few_zeros", pairs({20000, 20001, 20004, 20008}, {1024})),
      hard_select("select_near", pairs(kSizes, kCounts)),
      hard_select("select_only_near", pairs(kSizes, kCounts)),
      hard_select("select_denormal", pairs(kSizes, kCounts)),
      hard_select("select_infinite", pairs(kSizes, kCounts)),
      hard_select("select_nan", pairs(kSizes, kCounts)),
      hard_select("select_regular", pairs({4096, 8192, 12345, 16384, 16448}, {1, 64, 1024, 2048})),
      hard_select("select_few_visible", pairs({0, 1, 63, 64, 2047, 2048}, {1, 64, 2048})),
      {select, "select_many", "rows columns k",
       [](Backend& backend, const Given& of) { return place_select(backend, many_rows(of[0], of[1], of[2])); },
       list("600 4100 64, 600 4100 8192, 40 16400 2048, 40 16400 8192, 1 131072 64, 2 300001 2048, 2 300001 8192, "
            "270 4100 1, 270 4100 64, 270 4100 2048, 270 8192 1, 270 8192 64, 270 8192 2048, 270 12300 64, "
            "270 12300 2048, 270 16384 1, 270 16384 64, 270 16384 2048, 140 16400 64, 140 16400 2048, 140 32768 1, "
            "140 32768 64, 140 32768 2048, 70 32772 64, 70 32772 2048, 270 33000 2048, 270 8192 4096, 270 16384 8192, "
            "270 16384 8193, 140 32768 8192, 140 32768 16384")},
      {select, "select_drawn", "seed",
       [](Backend& backend, const Given& of) {
         return place_select(backend, drawn_rows(static_cast<u64>(of[0]), false));
       },
       seeds(550)},
      {select, "select_drawn_many", "seed",
       [](Backend& backend, const Given& of) {
         return place_select(backend, drawn_rows(static_cast<u64>(of[0]), true));
       },
       seeds(2)},
      // Forced columns: within each kernel's reach, as many as are kept, and more.
      {select, "select_forced", "rows columns k first last", select_forced,
       list("3 1000 64 2 5, 2 1000 64 64 1, 2 1000 64 0 64, 2 1000 64 40 40, 4 16384 2048 16 1024, 270 4100 64 0 1, "
            "1 20001 2048 16 1024, 5 40000 2048 2047 0, 3 20000 2048 0 2048, 266 33001 2048 16 1024, "
            "266 33000 64 1 62, 2 40000 16000 7000 8000, 2 132000 2048 16 1024"),
       list("1 131072 2048 16 1024, 64 131072 2048 16 1024, 1024 8192 2048 16 1024")},
      {select, "select_forced_drawn", "seed", with<forced_drawn>(false), seeds(300)},
      {select, "select_forced_many", "seed", with<forced_drawn>(true), seeds(2)},
  };
}

PrimitiveCase make_case(const Family& family, const Given& given) {
  PrimitiveCase made{.primitive = family.primitive, .name = std::string(family.name)};
  std::istringstream parameters{std::string(family.parameters)};
  std::string parameter;
  for (const i64 number : given) {
    parameters >> parameter;
    made.name += fmt::format("/{}:{}", parameter, number);
  }
  made.place = [place = family.place, given](Backend& backend) { return place(backend, given); };
  return made;
}

}  // namespace

std::vector<PrimitiveCase> primitive_cases() {
  std::vector<PrimitiveCase> all;
  for (const Family& family : families()) {
    for (const Given& given : family.tested) all.emplace_back(make_case(family, given)).tested = true;
    for (const Given& given : family.timed) all.emplace_back(make_case(family, given)).timed = true;
  }
  return all;
}

PrimitiveCase primitive_case(std::string_view family, const std::vector<i64>& parameters) {
  for (const Family& one : families()) {
    if (one.name == family) return make_case(one, parameters);
  }
  throw std::out_of_range("no family of cases is called " + std::string(family));
}

}  // namespace misa::testing
