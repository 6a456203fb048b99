#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "core/base/error.hpp"
#include "core/base/interrupt.hpp"
#include "core/platform/threads.hpp"
#include "core/workload/block_scales.hpp"
#include "core/workload/key_layout.hpp"
#include "core/workload/rng.hpp"
#include "core/workload/synthetic.hpp"
#include "core/workload/synthetic_layout.hpp"

namespace misa {
namespace {

using namespace synthetic;

constexpr i64 kPiece = 256;  // keys a thread draws at a time

/// The keys of one sequence with its needles planted.
struct KeySource {
  const SyntheticSequence& sequence;
  i64 needle_length = 0;  // keys
  std::vector<i64> needle_starts;

  void read(i64 first, i64 count, i64 dim, float* to) const {
    sequence.keys(first, count, to);
    for (std::size_t n = 0; n < needle_starts.size(); ++n) {
      const i64 begin = std::max(first, needle_starts[n]);
      const i64 end = std::min(first + count, needle_starts[n] + needle_length);
      if (begin < end) sequence.needle_keys(static_cast<i64>(n), begin, end - begin, to + (begin - first) * dim);
    }
  }
};

/// Writes the query rows [first, first + count) of the workload.
void write_queries(const SyntheticRequest& request, const SyntheticSequence& sequence, const std::vector<Row>& rows,
                   i64 first, i64 count, Workload& workload) {
  const i64 heads = request.heads, dim = request.head_dim;
  const i64 vector_bytes = dtype_bytes(element_dtype(request.format), dim);
  const i64 scale_bytes = key_scale_bytes(element_dtype(request.format), dim);
  const bool scaled = has_vector_scale(request.format);
  std::byte* scales = (scaled ? workload.q_scale : workload.q_block_scale).storage.data();
  const auto head_count = static_cast<std::size_t>(heads), width = static_cast<std::size_t>(dim);
#pragma omp parallel num_threads(default_threads())
  {
    std::vector<float> q(head_count * width);
#pragma omp for schedule(static)
    for (i64 m = first; m < first + count; ++m) {
      if (interrupted()) continue;
      const Row& row = rows[static_cast<std::size_t>(m)];
      float* weights = workload.weights.storage.as<float>() + m * heads;
      float* norms = workload.q_norm.storage.as<float>() + m * heads;
      std::optional<NeedleQuestion> question;
      if (row.needle >= 0) {
        question = NeedleQuestion{.id = row.needle, .mode = request.needles->mode, .gain = request.needles->gain};
      }
      sequence.query(std::max<i64>(row.position, 0), q.data(), weights, question ? &*question : nullptr);
      for (std::size_t j = 0; j < head_count; ++j) {
        const std::span<const float> values(q.data() + j * width, width);
        double squares = 0;
        for (float value : values) squares += static_cast<double>(value) * value;
        norms[j] = static_cast<float>(std::sqrt(squares));
        const i64 at = m * heads + static_cast<i64>(j);
        quantise(values, request.format, workload.q.storage.data() + at * vector_bytes,
                 scales == nullptr ? nullptr : scales + at * scale_bytes);
        if (scaled) weights[j] *= workload.q_scale.storage.as<float>()[at];
      }
    }
  }
}

/// Contiguous keys of one sequence, from key `first` of the buffer on.
void write_keys(const SyntheticRequest& request, const KeySource& source, i64 first, i64 count, Workload& workload) {
  const i64 dim = request.head_dim;
  const KeyLayout layout = layout_of(request);
  std::byte* keys = key_values(workload).storage.data();
  std::byte* scales = key_scales(workload).storage.data();
  const i64 pieces = ceil_div(count, kPiece);
#pragma omp parallel num_threads(default_threads())
  {
    std::vector<float> piece(static_cast<std::size_t>(kPiece * dim));
#pragma omp for schedule(static)
    for (i64 p = 0; p < pieces; ++p) {
      if (interrupted()) continue;
      const i64 begin = p * kPiece, drawn = std::min(kPiece, count - begin);
      source.read(begin, drawn, dim, piece.data());
      for (i64 i = 0; i < drawn; ++i) {
        const i64 key = first + begin + i;
        quantise({piece.data() + i * dim, static_cast<std::size_t>(dim)}, request.format, keys + layout.values_at(key),
                 scales == nullptr ? nullptr : scales + layout.scales_at(key));
      }
    }
  }
}

/// sum over heads of weights * relu(q . key)
double score(std::span<const float> q, std::span<const float> weights, std::span<const double> key) {
  double total = 0;
  for (std::size_t j = 0; j < weights.size(); ++j) {
    double product = 0;
    for (std::size_t d = 0; d < key.size(); ++d) product += static_cast<double>(q[j * key.size() + d]) * key[d];
    total += weights[j] * std::max(product, 0.0);
  }
  return total;
}

/// A key that beats every real one for the sequence's last row, as far as its weights allow: what unused page slots
/// hold, so that reading one shows in the selection. [D]
std::vector<float> winning_key(const SyntheticRequest& request, const SyntheticSequence& sequence, i64 position) {
  const auto heads = static_cast<std::size_t>(request.heads), dim = static_cast<std::size_t>(request.head_dim);
  std::vector<float> q(heads * dim), weights(heads);
  sequence.query(std::max<i64>(position, 0), q.data(), weights.data());
  std::vector<std::vector<double>> tries;
  std::vector<double> liked(dim, 0.0), away(dim, 0.0);
  for (std::size_t j = 0; j < heads; ++j) {
    std::vector<double> head(q.begin() + static_cast<i64>(j * dim), q.begin() + static_cast<i64>((j + 1) * dim));
    for (std::size_t d = 0; d < dim; ++d) {
      away[d] -= head[d];
      liked[d] += std::max(weights[j], 0.0f) * head[d];
    }
    if (weights[j] <= 0) continue;
    tries.push_back(std::move(head));
  }
  tries.push_back(liked);
  tries.push_back(away);
  const double size = find_preset(request.preset).pattern == Pattern::extremes ? 0x1p40 : 64.0;
  std::vector<double> best(dim, 1.0);
  double highest = 0;
  bool found = false;
  for (std::vector<double>& key : tries) {
    const double norm = std::sqrt(std::inner_product(key.begin(), key.end(), key.begin(), 0.0));
    if (norm == 0) continue;
    for (double& value : key) value /= norm;
    const double reached = score(q, weights, key);
    if (found && reached <= highest) continue;
    found = true;
    highest = reached;
    best = key;
  }
  std::vector<float> key(dim);
  for (std::size_t d = 0; d < dim; ++d)
    key[d] = static_cast<float>(best[d] * size * std::sqrt(static_cast<double>(dim)));
  return key;
}

/// One slot of a page.
void write_slot(const SyntheticRequest& request, std::span<const float> key, i64 page, i64 slot, Workload& workload) {
  const KeyLayout layout = layout_of(request);
  std::byte* pages = workload.k_pages.storage.data();
  const i64 at = page * request.page_size + slot;
  quantise(key, request.format, pages + layout.values_at(at), pages + layout.scales_at(at));
}

/// Paged keys of one sequence, `count` of them; `pages` are its physical pages in order.
void write_pages(const SyntheticRequest& request, const KeySource& source, i64 count, std::span<const i32> pages,
                 std::span<const float> garbage, Workload& workload) {
  const i64 dim = request.head_dim, size = request.page_size;
  const auto width = static_cast<std::size_t>(dim);
#pragma omp parallel num_threads(default_threads())
  {
    std::vector<float> piece(static_cast<std::size_t>(size * dim));
#pragma omp for schedule(static)
    for (i64 p = 0; p < static_cast<i64>(pages.size()); ++p) {
      if (interrupted()) continue;
      const i64 begin = p * size, keys = std::min(size, count - begin);
      source.read(begin, keys, dim, piece.data());
      for (i64 slot = 0; slot < size; ++slot) {
        const std::span<const float> key =
            slot < keys ? std::span<const float>(piece.data() + slot * dim, width) : garbage;
        write_slot(request, key, pages[static_cast<std::size_t>(p)], slot, workload);
      }
    }
  }
}

/// 0 .. count-1 in an order drawn by the seed.
std::vector<i32> shuffled_pages(i64 count, u64 seed) {
  std::vector<i32> pages(static_cast<std::size_t>(count));
  std::iota(pages.begin(), pages.end(), 0);
  for (std::size_t i = pages.size() - 1; i > 0; --i)
    std::swap(pages[i], pages[h64(seed, Stream::page, i, 0) % (i + 1)]);
  return pages;
}

}  // namespace

Workload generate(const SyntheticRequest& request) {
  Workload workload = lay_out(request);
  const PresetInfo& preset = find_preset(request.preset);
  const SyntheticKnobs& values = request.knobs ? *request.knobs : preset.knobs;
  const bool decode = request.phase == Phase::decode;
  const auto sequences = static_cast<i64>(request.contexts.size());
  const std::vector<Row> rows = lay_out_rows(request);
  const auto count = static_cast<i64>(rows.size());
  const std::vector<i64> first_row = first_rows(rows, request.contexts.size());

  std::vector<i32> pages;
  const i64 table_width = decode ? table_columns(request) : 0;
  if (decode) {
    pages = shuffled_pages(total_pages(request), request.seed);
    std::fill_n(workload.block_table.storage.as<i32>(), sequences * table_width, -1);
  }

  i64 key_start = 0, row_start = 0;
  std::size_t page_start = 0;
  std::vector<float> garbage;
  for (i64 s = 0; s < sequences; ++s) {
    const auto index = static_cast<std::size_t>(s);
    const i64 context = request.contexts[index], keys = request.keys_after(context);
    const SyntheticSequence sequence(preset.pattern, values, sequence_seed(request.seed, s, request.layer),
                                     std::max<i64>(context, 1), request.heads, request.head_dim,
                                     request.compress_ratio);
    KeySource source{.sequence = sequence, .needle_length = 0, .needle_starts = {}};
    if (request.needles) {
      source.needle_length = needle_keys(request);
      source.needle_starts = needle_starts(request, first_row[index]);
    }
    if (decode) {
      const auto used = static_cast<std::size_t>(pages_of(request, context));
      const std::span<const i32> own = std::span<const i32>(pages).subspan(page_start, used);
      garbage = winning_key(request, sequence, context - 1);
      write_pages(request, source, keys, own, garbage, workload);
      std::copy(own.begin(), own.end(), workload.block_table.storage.as<i32>() + s * table_width);
      page_start += used;
    } else {
      write_keys(request, source, key_start, keys, workload);
    }

    i64 own_rows = 0;
    while (row_start + own_rows < count && rows[static_cast<std::size_t>(row_start + own_rows)].sequence == s)
      ++own_rows;
    write_queries(request, sequence, rows, row_start, own_rows, workload);
    stop_if_interrupted();
    for (i64 m = row_start; m < row_start + own_rows; ++m) {
      const Row& row = rows[static_cast<std::size_t>(m)];
      if (row.needle < 0 || (decode && s > 0)) continue;  // decode: the same tokens and positions in every sequence
      const i64 start = key_start + source.needle_starts[static_cast<std::size_t>(row.needle)];
      workload.needles.push_back({.start = static_cast<i32>(start),
                                  .length = static_cast<i32>(source.needle_length),
                                  .question_start = static_cast<i32>(row.position),
                                  .question_length = 1});
    }
    row_start += own_rows;
    if (!decode) key_start += keys;
  }
  for (; page_start < pages.size(); ++page_start) {
    for (i64 slot = 0; slot < request.page_size; ++slot) {
      write_slot(request, garbage, pages[page_start], slot, workload);
    }
  }
  return workload;
}

}  // namespace misa
