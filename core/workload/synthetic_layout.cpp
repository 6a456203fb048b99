#include "core/workload/synthetic_layout.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <numeric>

#include "core/base/error.hpp"
#include "core/workload/block_scales.hpp"
#include "core/workload/rng.hpp"

namespace misa {
namespace {

constexpr i64 kNeedleFirst = 4;  // no needle before this token

[[noreturn]] void refuse(const std::string& what, const std::string& how) {
  throw Error(ErrorKind::usage, "MP-E308", what, {}, how);
}

void check_range(std::string_view name, i64 value, i64 least, i64 most) {
  if (value >= least && value <= most) return;
  refuse(fmt::format("{} is {}", name, value), fmt::format("a value from {} to {}", least, most));
}

i64 sum_of(const std::vector<i64>& values) { return std::accumulate(values.begin(), values.end(), i64{0}); }

/// `rows` over the sequences, equally, but no sequence gets more than it has tokens. [S]
std::vector<i64> share_rows(const std::vector<i64>& contexts, i64 rows) {
  std::vector<std::size_t> order(contexts.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return contexts[a] < contexts[b]; });
  std::vector<i64> share(contexts.size());
  i64 left = static_cast<i64>(order.size());
  for (std::size_t s : order) {
    share[s] = std::min(contexts[s], rows / left);
    rows -= share[s];
    --left;
  }
  return share;
}

/// No needle before this key.
i64 first_needle_key(const SyntheticRequest& request) { return ceil_div(kNeedleFirst, request.compress_ratio); }

/// Keys of all sequences together.
i64 keys_of(const SyntheticRequest& request) {
  i64 keys = 0;
  for (i64 context : request.contexts) keys += request.keys_after(context);
  return keys;
}

}  // namespace

namespace synthetic {

std::vector<Row> lay_out_rows(const SyntheticRequest& request) {
  const i64 needles = request.needles ? static_cast<i64>(request.needles->depths.size()) : 0;
  const std::vector<i64> share =
      request.phase == Phase::prefill ? share_rows(request.contexts, request.rows) : std::vector<i64>{};
  std::vector<Row> rows;
  for (std::size_t s = 0; s < request.contexts.size(); ++s) {
    const i64 context = request.contexts[s];
    const i64 count = request.phase == Phase::prefill ? share[s] : request.next_n;
    for (i64 i = 0; i < count; ++i) {
      i64 position = context - count + i;
      if (request.phase == Phase::prefill && request.spread) {
        const i64 first = std::min(context / 2, context - count);
        position = first + (i + 1) * (context - first) / count - 1;
      }
      rows.push_back({static_cast<i64>(s), std::max<i64>(position, -1), needles > 0 ? i % needles : -1});
    }
  }
  return rows;
}

std::vector<i64> needle_starts(const SyntheticRequest& request, i64 first_row) {
  const double room = static_cast<double>(needle_room(request, first_row));
  std::vector<i64> starts;
  for (double depth : request.needles->depths) {
    starts.push_back(first_needle_key(request) + static_cast<i64>(std::floor(depth * room)));
  }
  return starts;
}

std::vector<i64> first_rows(const std::vector<Row>& rows, std::size_t sequences) {
  std::vector<i64> first(sequences, -1);
  for (auto row = rows.rbegin(); row != rows.rend(); ++row)
    first[static_cast<std::size_t>(row->sequence)] = row->position;
  return first;
}

i64 pages_of(const SyntheticRequest& request, i64 context) {
  return ceil_div(request.keys_after(context), request.page_size);
}

i64 total_pages(const SyntheticRequest& request) {
  i64 used = 0;
  for (i64 context : request.contexts) used += pages_of(request, context);
  return used + 1 + used / 8;
}

i64 table_columns(const SyntheticRequest& request) {
  return std::max<i64>(1, pages_of(request, *std::max_element(request.contexts.begin(), request.contexts.end())));
}

KeyLayout layout_of(const SyntheticRequest& request) {
  const i64 page_size = request.phase == Phase::decode ? request.page_size : 0;
  return key_layout(element_dtype(request.format), request.head_dim, page_size);
}

}  // namespace synthetic

namespace {

using namespace synthetic;

void check_needles(const SyntheticRequest& request) {
  const NeedleRequest& needles = *request.needles;
  if (find_preset(request.preset).pattern != Pattern::structured) {
    refuse(fmt::format("preset '{}' has no place for needles", request.preset), "'natural'");
  }
  check_range("the number of needles", static_cast<i64>(needles.depths.size()), 1, 1024);
  check_range("the needles' length", needles.length, 1, 4096);
  if (!(needles.gain >= 0 && needles.gain <= 1000))
    refuse(fmt::format("the needles' gain is {}", needles.gain), "0..1000");
  for (double depth : needles.depths) {
    if (!(depth >= 0 && depth <= 1)) refuse(fmt::format("a needle's depth is {}", depth), "a value from 0 to 1");
  }
  const bool decode = request.phase == Phase::decode;
  if (decode && std::adjacent_find(request.contexts.begin(), request.contexts.end(), std::not_equal_to<>()) !=
                    request.contexts.end()) {
    refuse("needles in decode sequences of different lengths", "one context for all of them");
  }
  for (i64 first_row : first_rows(lay_out_rows(request), request.contexts.size())) {
    if (needle_room(request, first_row) < 0) {
      refuse(fmt::format("{} needle tokens do not fit before a row at position {}", needles.length, first_row),
             "a longer context, or shorter needles");
    }
    std::vector<i64> starts = needle_starts(request, first_row);
    std::sort(starts.begin(), starts.end());
    for (std::size_t i = 1; i < starts.size(); ++i) {
      if (starts[i] - starts[i - 1] < needle_keys(request)) {
        const i64 one = starts[i - 1] * request.compress_ratio, other = starts[i] * request.compress_ratio;
        refuse(fmt::format("needles of {} tokens overlap at tokens {} and {}", needles.length, one, other),
               "fewer or shorter needles, or a longer context");
      }
    }
  }
}

std::map<std::string, std::string> describe(const SyntheticRequest& request) {
  std::string quantisation(value_format_name(request.format));
  if (request.format == ValueFormat::e4m3) quantisation = "e4m3, f32 scale per vector = absmax/448";
  if (request.format == ValueFormat::e4m3_ue8m0) {
    quantisation = "e4m3, ue8m0 (power of two) scale per vector = 2^ceil(log2(absmax/448))";
  }
  if (request.format == ValueFormat::int8) quantisation = "int8, f32 scale per vector = absmax/127";
  if (request.format == ValueFormat::mxfp4) {
    quantisation = "mxfp4 (e2m1), ue8m0 scale per 32 numbers = 2^ceil(log2(absmax/6))";
  }
  const bool folded = has_vector_scale(request.format);
  std::map<std::string, std::string> metadata = {
      {"format", "misa-trace/1"},
      {"model", request.model},
      {"provenance", "synthetic"},
      {"layer", std::to_string(request.layer)},
      {"phase", std::string(phase_name(request.phase))},
      {"index_n_heads", std::to_string(request.heads)},
      {"index_head_dim", std::to_string(request.head_dim)},
      {"index_topk", std::to_string(request.top_k)},
      {"context_length", std::to_string(*std::max_element(request.contexts.begin(), request.contexts.end()))},
      {"rope_dims", fmt::format("first-{}, half-split", request.head_dim / 2)},
      {"hadamard", "false"},
      {"k_quant", quantisation},
      {"q_quant", folded ? quantisation + ", folded into weights" : quantisation},
      {"weights_folded", fmt::format("H^-0.5 * {}^-0.5{}", request.head_dim, folded ? " * q_scale" : "")},
      {"seed", std::to_string(request.seed)},
      {"preset", request.preset},
  };
  set_forced(request.forced, metadata);
  if (request.layers > 1) {
    metadata["layers"] = std::to_string(request.layers);
    metadata["indexer_layers"] = std::to_string(request.indexer_layers);
  }
  if (request.format == ValueFormat::int8 && request.phase == Phase::decode) {
    metadata[trace::kPagesDtype] = trace::kInt8Pages;
  }
  if (request.knobs) {
    const SyntheticKnobs& preset = find_preset(request.preset).knobs;
    std::string changed;
    for (const KnobInfo& knob : knobs()) {
      const double value = knob.of(*request.knobs);
      if (value != knob.of(preset)) changed += fmt::format("{}{}={}", changed.empty() ? "" : " ", knob.name, value);
    }
    if (!changed.empty()) metadata["knobs"] = changed;
  }
  return metadata;
}

}  // namespace

std::vector<i64> ragged_contexts(i64 shortest, i64 longest, i64 count, u64 seed) {
  std::vector<i64> contexts(static_cast<std::size_t>(count));
  const RandomRow random(seed, Stream::context, 0);
  for (std::size_t i = 0; i < contexts.size(); ++i) {
    contexts[i] = shortest + static_cast<i64>(random.hash(i) % static_cast<u64>(longest - shortest + 1));
  }
  return contexts;
}

void check_request(const SyntheticRequest& request) {
  check_range("heads", request.heads, 1, kMaxHeads);
  if (request.head_dim < 32 || request.head_dim > 256 || !std::has_single_bit(static_cast<u64>(request.head_dim))) {
    refuse(fmt::format("head_dim is {}", request.head_dim), "32, 64, 128 or 256");
  }
  check_range("top_k", request.top_k, 1, kMaxKeys);
  check_range("layer", request.layer, 0, 1 << 20);
  check_knobs(request.knobs ? *request.knobs : find_preset(request.preset).knobs);
  find_preset(request.preset);
  const bool decode = request.phase == Phase::decode;
  const auto sequences = static_cast<i64>(request.contexts.size());
  check_range("the number of sequences", sequences, 1, kMaxSequences);
  for (i64 context : request.contexts) check_range("a context", context, decode ? 0 : 1, kMaxKeys);
  check_range("compress_ratio", request.compress_ratio, 1, kMaxCompressRatio);
  if (decode) {
    check_range("next_n", request.next_n, 1, 4);
    check_range("page_size", request.page_size, 1, kMaxPageSize);
    check_range("the number of key slots", total_pages(request) * request.page_size, 1, kMaxKeys);
  } else {
    if (keys_of(request) == 0) {
      refuse(fmt::format("no sequence is as long as an entry of {} tokens", request.compress_ratio),
             "a longer context, or a smaller compress_ratio");
    }
    check_range("the number of keys", keys_of(request), 1, kMaxKeys);
    check_range("rows", request.rows, sequences, std::min(kMaxRows, sum_of(request.contexts)));
  }
  if (request.needles) check_needles(request);
}

i64 needle_keys(const SyntheticRequest& request) { return ceil_div(request.needles->length, request.compress_ratio); }

i64 needle_room(const SyntheticRequest& request, i64 first_row) {
  const i64 own = request.keys_after(first_row + 1) - 1;  // the last key that the row sees
  return own - needle_keys(request) - first_needle_key(request);
}

i64 generated_bytes(const SyntheticRequest& request) {
  const bool decode = request.phase == Phase::decode;
  const auto sequences = static_cast<i64>(request.contexts.size());
  const i64 keys = decode ? total_pages(request) * request.page_size : keys_of(request);
  const i64 rows = decode ? sequences * request.next_n : request.rows;
  const KeyLayout layout = layout_of(request);
  const i64 head_bytes = layout.value_bytes + std::max<i64>(4, layout.scale_bytes) + 8;
  return keys * (layout.value_bytes + layout.scale_bytes) + rows * request.heads * head_bytes + rows * 16 +
         (decode ? sequences * (4 + 4 * table_columns(request)) : 0);
}

Workload lay_out(const SyntheticRequest& request) {
  check_request(request);
  const bool decode = request.phase == Phase::decode;
  const Dtype dtype = element_dtype(request.format);
  const std::vector<Row> rows = lay_out_rows(request);
  const auto count = static_cast<i64>(rows.size());

  Workload workload;
  workload.name = request.name;
  workload.metadata = describe(request);
  workload.compress_ratio = request.compress_ratio;
  make_queries(workload, dtype, count, request.heads, request.head_dim);
  workload.weights = HostTensor(Dtype::f32, {count, request.heads});
  workload.q_norm = HostTensor(Dtype::f32, {count, request.heads});
  if (has_vector_scale(request.format)) workload.q_scale = HostTensor(Dtype::f32, {count, request.heads});

  if (decode) {
    const auto sequences = static_cast<i64>(request.contexts.size()), pages = total_pages(request);
    workload.next_n = request.next_n;
    workload.k_pages = key_pages(dtype, pages, request.page_size, request.head_dim);
    workload.block_table = HostTensor(Dtype::int32, {sequences, table_columns(request)});
    workload.seq_lens = HostTensor(Dtype::int32, {sequences});
    std::copy(request.contexts.begin(), request.contexts.end(), workload.seq_lens.storage.as<i32>());
  } else {
    make_keys(workload, dtype, keys_of(request), request.head_dim);
  }

  std::vector<i64> key_starts{0};
  for (const i64 context : request.contexts) {
    key_starts.push_back(decode ? 0 : key_starts.back() + request.keys_after(context));
  }
  for (const Row& row : rows) {
    const i64 key_start = key_starts[static_cast<std::size_t>(row.sequence)];
    workload.q_pos.push_back(static_cast<i32>(row.position));
    workload.sequence.push_back(static_cast<i32>(row.sequence));
    workload.ks.push_back(static_cast<i32>(key_start));
    workload.ke.push_back(static_cast<i32>(key_start + request.keys_after(row.position + 1)));
  }
  return workload;
}

}  // namespace misa
