#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "backends/backends.hpp"
#include "core/selection/run_selection.hpp"
#include "core/workload/key_layout.hpp"
#include "core/workload/placement.hpp"
#include "core/workload/quantise.hpp"

namespace misa::testing {

/// What the numbers of a drawn case look like.
enum class Numbers { normal, few_keys, zeros, negative_gates, nan, infinite, denormal, hostile };

/// A small workload, drawn by seed. Everything a failure needs to be run again is in describe().
struct CaseOptions {
  u64 seed = 1;
  i64 rows = 4, heads = 8, dim = 32;
  Dtype dtype = Dtype::f32;
  Numbers numbers = Numbers::normal;
  std::vector<i64> contexts = {100};  ///< of each sequence
  bool paged = false;
  i64 page_size = 16, next_n = 1;
  i64 compress_ratio = 1;  ///< above 1 keys are entries, and `contexts` counts them

  std::string describe() const {
    std::string text = "seed " + std::to_string(seed) + ", rows " + std::to_string(rows) + ", heads " +
                       std::to_string(heads) + ", dim " + std::to_string(dim) + ", " + std::string(dtype_name(dtype)) +
                       ", numbers " + std::to_string(static_cast<int>(numbers)) + (paged ? ", paged" : "") +
                       ", next_n " + std::to_string(next_n) +
                       (compress_ratio > 1 ? ", entries of " + std::to_string(compress_ratio) : "") + ", contexts";
    for (i64 context : contexts) text.append(1, ' ').append(std::to_string(context));
    return text;
  }
};

class Draw {
 public:
  explicit Draw(u64 seed) : engine_(seed) {}
  i64 whole(i64 least, i64 most) { return std::uniform_int_distribution<i64>(least, most)(engine_); }
  float normal() { return std::normal_distribution<float>()(engine_); }
  template <class T>
  const T& one_of(const std::vector<T>& from) {
    return from[static_cast<std::size_t>(whole(0, static_cast<i64>(from.size()) - 1))];
  }
  /// The size of a vector of hostile numbers: most are near 1, some near the ends of f32.
  float hostile_size() { return one_of<float>({1, 1, 1, 1, 1, 1, 1e-42f, 1e-38f, 1e-20f, 1e10f, 1e19f, 1e30f, 1e38f}); }
  /// One number in 400 is an infinity, NaN or 0.
  float hostile(float number) {
    if (whole(0, 399) > 0) return number;
    constexpr float kInfinity = std::numeric_limits<float>::infinity();
    return one_of<float>({kInfinity, -kInfinity, std::numeric_limits<float>::quiet_NaN(), 0.0f});
  }
  std::mt19937_64& engine() { return engine_; }

 private:
  std::mt19937_64 engine_;
};

inline void store(HostTensor& tensor, i64 i, float value) {
  const std::size_t at = static_cast<std::size_t>(i);
  switch (tensor.dtype) {
    case Dtype::f32: tensor.span<float>()[at] = value; break;
    case Dtype::bf16: tensor.span<Bf16>()[at] = to_bf16(value); break;
    default: tensor.span<E4m3>()[at] = to_e4m3(value); break;
  }
}

/// The vectors of `from` [.., D] f32 as INT8, with a scale each, or as MXFP4, with those of its blocks.
inline void quantise(const HostTensor& from, HostTensor& to, HostTensor& block_scales, float* scales) {
  const i64 dim = from.shape.back();
  for (i64 i = 0; i < from.size() / dim; ++i) {
    const float* first = from.storage.as<const float>() + i * dim;
    std::vector<float> vector(first, first + dim);
    if (to.dtype == Dtype::e2m1) {
      quantise_mxfp4(vector, to.storage.as<u8>() + i * dim / 2,
                     block_scales.storage.as<u8>() + i * key_scale_bytes(Dtype::e2m1, dim));
    } else {
      // INT8 has no NaN and no infinity: its scale has.
      bool finite = true;
      for (float& number : vector) {
        finite = finite && std::isfinite(number);
        if (!std::isfinite(number)) number = 0;
      }
      scales[i] = quantise_int8(vector, to.storage.as<i8>() + i * dim);
      if (!finite) scales[i] = std::numeric_limits<float>::quiet_NaN();
    }
  }
}

inline Workload draw_workload(const CaseOptions& options) {
  Draw draw(options.seed);
  Workload workload;
  workload.name = options.describe();
  const i64 sequences = static_cast<i64>(options.contexts.size());
  const i64 rows = options.paged ? sequences * options.next_n : options.rows;
  const i64 heads = options.heads, dim = options.dim, ratio = options.compress_ratio;
  const bool fp8 = options.dtype == Dtype::e4m3;
  const bool narrow = options.dtype == Dtype::int8 || options.dtype == Dtype::e2m1;
  workload.compress_ratio = ratio;
  // Tokens of a sequence: those of its keys, and of several a part of one more.
  const auto tokens_in = [&](i64 keys) { return keys * ratio + (ratio > 1 ? draw.whole(0, ratio - 1) : 0); };

  const bool hostile = options.numbers == Numbers::hostile;
  // Numbers are drawn in a dtype that can be written one by one.
  const Dtype drawn = narrow ? Dtype::f32 : options.dtype;
  make_queries(workload, options.dtype, rows, heads, dim);
  HostTensor queries(drawn, {rows, heads, dim});
  float magnitude = 1;
  for (i64 i = 0; i < queries.size(); ++i) {
    float x = draw.normal();
    if (hostile && !fp8) {
      if (i % dim == 0) magnitude = draw.hostile_size();
      x = draw.hostile(x * magnitude);
    }
    store(queries, i, options.numbers == Numbers::zeros ? std::abs(x) : x * (fp8 ? 50.0f : 1.0f));
  }
  if (narrow) {
    std::vector<float> dropped(static_cast<std::size_t>(rows * heads));
    quantise(queries, workload.q, workload.q_block_scale, dropped.data());
  } else {
    workload.q = std::move(queries);
  }
  workload.weights = HostTensor(Dtype::f32, {rows, heads});
  for (float& weight : workload.weights.span<float>()) {
    weight = draw.normal() * (options.numbers == Numbers::infinite ? 1e37f : 0.1f);
    if (options.numbers == Numbers::negative_gates) weight = -std::abs(weight);
    if (options.numbers == Numbers::denormal) weight *= 1e-38f;
    if (hostile) weight = draw.hostile(weight * draw.hostile_size());
  }
  workload.q_norm = HostTensor(Dtype::f32, {rows, heads});
  for (float& norm : workload.q_norm.span<float>()) norm = std::abs(draw.normal());

  const i64 tokens = std::accumulate(options.contexts.begin(), options.contexts.end(), i64{0});
  std::vector<std::vector<float>> few;
  for (int i = 0; i < 3; ++i) {
    few.emplace_back();
    for (i64 d = 0; d < dim; ++d) few.back().push_back(draw.normal());
  }
  HostTensor keys(drawn, {tokens, dim}), scales(Dtype::f32, {tokens});
  for (i64 t = 0; t < tokens; ++t) {
    const i64 kind = draw.whole(0, 2);
    if (hostile) magnitude = draw.hostile_size();
    for (i64 d = 0; d < dim; ++d) {
      float x = draw.normal();
      if (options.numbers == Numbers::few_keys) x = few[static_cast<std::size_t>(kind)][static_cast<std::size_t>(d)];
      if (options.numbers == Numbers::zeros) x = -std::abs(x);
      if (options.numbers == Numbers::infinite && !fp8) x *= 10.0f;
      if (hostile && !fp8) x = draw.hostile(x * magnitude);
      store(keys, t * dim + d, x * (fp8 ? 60.0f : 1.0f));
    }
    scales.span<float>()[static_cast<std::size_t>(t)] =
        options.numbers == Numbers::few_keys ? 0.5f : std::exp2(static_cast<float>(draw.whole(-4, 4)));
    if (hostile) scales.span<float>()[static_cast<std::size_t>(t)] = draw.hostile(magnitude);
    if (options.numbers == Numbers::nan && draw.whole(0, 3) == 0) {
      store(keys, t * dim, std::numeric_limits<float>::quiet_NaN());
    }
  }

  if (narrow) {
    Workload quantised;
    make_keys(quantised, options.dtype, tokens, dim);
    std::vector<float> own(static_cast<std::size_t>(tokens));
    quantise(keys, quantised.k, quantised.k_block_scale, own.data());
    // A scale as hostile as that of FP8 keys would be, or the key's own.
    for (i64 t = 0; t < tokens && !hostile; ++t) scales.span<float>()[static_cast<std::size_t>(t)] *= own[t];
    keys = std::move(quantised.k);
    if (options.dtype == Dtype::e2m1) scales = std::move(quantised.k_block_scale);
  }
  const KeyLayout layout = key_layout(options.dtype, dim, options.paged ? options.page_size : 0);
  if (!options.paged) {
    workload.k = std::move(keys);
    if (layout.scale_bytes > 0)
      (options.dtype == Dtype::e2m1 ? workload.k_block_scale : workload.k_scale) = std::move(scales);
    // Rows of a sequence stand together, at random positions.
    i64 start = 0, row = 0;
    for (i64 s = 0; s < sequences; ++s) {
      const i64 context = options.contexts[static_cast<std::size_t>(s)];
      const i64 count = s + 1 == sequences ? rows - row : rows / sequences;
      std::vector<i64> positions;
      const i64 length = tokens_in(context);
      for (i64 i = 0; i < count; ++i) positions.push_back(draw.whole(0, length - 1));
      std::sort(positions.begin(), positions.end());
      for (i64 position : positions) {
        workload.sequence.push_back(static_cast<i32>(s));
        workload.q_pos.push_back(static_cast<i32>(position));
        workload.ks.push_back(static_cast<i32>(start));
        workload.ke.push_back(static_cast<i32>(start + workload.keys_after(position + 1)));
        ++row;
      }
      start += context;
    }
    return workload;
  }

  const i64 size = options.page_size;
  workload.next_n = options.next_n;
  i64 most = 1, used = 0;
  for (i64 context : options.contexts) {
    most = std::max(most, ceil_div(context, size));
    used += ceil_div(context, size);
  }
  const i64 pages = used + 3;
  std::vector<i32> order(static_cast<std::size_t>(pages));
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), draw.engine());
  workload.k_pages = key_pages(options.dtype, pages, size, dim);
  std::byte* data = workload.k_pages.storage.data();
  std::fill(data, data + workload.k_pages.bytes(), std::byte{0x55});  // finite garbage
  workload.block_table = HostTensor(Dtype::int32, {sequences, most});
  for (i32& page : workload.block_table.span<i32>()) page = -1;
  workload.seq_lens = HostTensor(Dtype::int32, {sequences});
  i64 next_page = 0, token = 0;
  for (i64 s = 0; s < sequences; ++s) {
    const i64 context = options.contexts[static_cast<std::size_t>(s)];
    const i64 length = tokens_in(context);
    workload.seq_lens.span<i32>()[static_cast<std::size_t>(s)] = static_cast<i32>(length);
    for (i64 t = 0; t < context; ++t, ++token) {
      i32& page = workload.block_table.span<i32>()[static_cast<std::size_t>(s * most + t / size)];
      if (t % size == 0) page = order[static_cast<std::size_t>(next_page++)];
      const i64 slot = page * size + t % size, bytes = layout.value_bytes;
      std::memcpy(data + layout.values_at(slot), keys.storage.data() + token * bytes, static_cast<std::size_t>(bytes));
      if (layout.scale_bytes > 0) {
        std::memcpy(data + layout.scales_at(slot), scales.storage.data() + token * layout.scale_bytes,
                    static_cast<std::size_t>(layout.scale_bytes));
      }
    }
    for (i64 j = 0; j < options.next_n; ++j) {
      const i64 tokens_seen = std::max<i64>(0, length - options.next_n + j + 1);
      workload.sequence.push_back(static_cast<i32>(s));
      workload.q_pos.push_back(static_cast<i32>(tokens_seen - 1));
      workload.ks.push_back(0);
      workload.ke.push_back(static_cast<i32>(workload.keys_after(tokens_seen)));
    }
  }
  return workload;
}

/// Gives each row up to `runs` runs of `length` keys that it sees, drawn by seed; one row in eight is given none.
inline void give_candidates(Workload& workload, u64 seed, i64 runs, i64 length) {
  Draw draw(seed);
  std::vector<i32> all;
  for (std::size_t m = 0; m < workload.ks.size(); ++m) {
    std::vector<i32> ids(static_cast<std::size_t>(ceil_div(workload.ke[m] - workload.ks[m], length)));
    std::iota(ids.begin(), ids.end(), 0);
    std::shuffle(ids.begin(), ids.end(), draw.engine());
    ids.resize(draw.whole(0, 7) == 0 ? 0 : std::min(ids.size(), static_cast<std::size_t>(runs)));
    std::sort(ids.begin(), ids.end());
    ids.resize(static_cast<std::size_t>(runs), -1);
    all.insert(all.end(), ids.begin(), ids.end());
  }
  workload.candidates = HostTensor::from<i32>(all, {workload.rows(), runs});
  workload.candidate_length = length;
}

inline std::vector<std::string> indexer_names() {
  std::vector<std::string> names;
  for (const IndexerInfo& info : indexers()) names.emplace_back(info.name);
  return names;
}

/// A selection, in host memory.
struct Chosen {
  i64 rows = 0;
  std::vector<i32> tokens, heads, blocks;
  friend bool operator==(const Chosen&, const Chosen&) = default;

  /// Tokens of row m without pads.
  std::vector<i32> row(i64 m) const {
    const i64 k = rows == 0 ? 0 : static_cast<i64>(tokens.size()) / rows;
    std::vector<i32> found(tokens.begin() + m * k, tokens.begin() + (m + 1) * k);
    found.erase(std::find(found.begin(), found.end(), -1), found.end());
    return found;
  }
};

inline std::vector<i32> fetch(Backend& backend, const View<const i32, 2>& view) {
  const HostTensor ids = fetch_ids(backend, view);
  return ids.empty() ? std::vector<i32>() : std::vector<i32>(ids.span<i32>().begin(), ids.span<i32>().end());
}

inline Chosen chosen_by(Backend& backend, i64 rows, const Plan& plan) {
  return {.rows = rows,
          .tokens = fetch(backend, plan.tokens()),
          .heads = fetch(backend, plan.heads()),
          .blocks = fetch(backend, plan.blocks())};
}

inline Chosen choose(Backend& backend, const Workload& workload, const IndexerSpec& spec,
                     const PlanOptions& options = {}) {
  const Placement placement(backend, workload);
  Plan plan(backend, spec, placement.problem(), options);
  plan.run(nullptr);
  return chosen_by(backend, workload.rows(), plan);
}

inline Chosen choose(std::string_view backend, const Workload& workload, const IndexerSpec& spec,
                     const PlanOptions& options = {}, int threads = 2) {
  const std::unique_ptr<Backend> made = make_backend(backend, threads);
  return choose(*made, workload, spec, options);
}

/// Scores of row m over its window by the formula, in double, with every head; and the largest that rounding of f32
/// dots may add or take away: D * 2^-23 * scale * sum over h of |w| * sum over d of |q| |k|.
struct ExactRow {
  std::vector<double> score, bound;
};

inline double value_at(const HostTensor& tensor, i64 i) {
  const std::size_t at = static_cast<std::size_t>(i);
  switch (tensor.dtype) {
    case Dtype::f32: return tensor.span<const float>()[at];
    case Dtype::bf16: return to_float(tensor.span<const Bf16>()[at]);
    case Dtype::int8: return tensor.span<const i8>()[at];
    default: return to_float(tensor.span<const E4m3>()[at]);
  }
}

/// The i-th number of a workload's queries.
inline double query_at(const Workload& workload, i64 i) {
  if (workload.q.dtype != Dtype::e2m1) return value_at(workload.q, i);
  const i64 dim = workload.head_dim(), vector = i / dim;
  return visit_queries(workload, [&](const auto& queries) {
    return static_cast<double>(to_float(queries(vector / workload.heads(), vector % workload.heads(), i % dim)));
  });
}

inline ExactRow exact_row(const Workload& workload, i64 m) {
  const i64 heads = workload.heads(), dim = workload.head_dim();
  ExactRow row;
  std::vector<double> query(static_cast<std::size_t>(heads * dim));
  for (i64 i = 0; i < heads * dim; ++i) query[static_cast<std::size_t>(i)] = value_at(workload.q, m * heads * dim + i);
  for (i64 token = workload.ks[static_cast<std::size_t>(m)]; token < workload.ke[static_cast<std::size_t>(m)];
       ++token) {
    double sum = 0, room = 0;
    for (i64 h = 0; h < heads; ++h) {
      double dot = 0, size = 0;
      for (i64 d = 0; d < dim; ++d) {
        const double product = query[static_cast<std::size_t>(h * dim + d)] * value_at(workload.k, token * dim + d);
        dot += product;
        size += std::abs(product);
      }
      const double weight = workload.weights.span<const float>()[static_cast<std::size_t>(m * heads + h)];
      sum += weight * std::max(0.0, dot);
      room += std::abs(weight) * size;
    }
    const double scale =
        workload.k_scale.empty() ? 1.0 : workload.k_scale.span<const float>()[static_cast<std::size_t>(token)];
    row.score.push_back(scale * sum);
    row.bound.push_back(static_cast<double>(dim) * 0x1p-23 * scale * room + std::abs(scale * sum) * 0x1p-23);
  }
  return row;
}

}  // namespace misa::testing
