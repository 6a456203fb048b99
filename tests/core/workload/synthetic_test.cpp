#include "core/workload/synthetic.hpp"

#include <doctest/doctest.h>
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>

#include "core/base/error.hpp"
#include "core/base/mix.hpp"
#include "core/platform/file.hpp"
#include "core/workload/trace.hpp"

namespace misa {
namespace {

using Json = nlohmann::json;

const Json& generator_golden() {
  static const Json values = Json::parse(read_text_file(MISA_SOURCE_DIR "/tests/core/workload/generator_golden.json"));
  return values;
}

float hex_f32(const Json& value) { return std::strtof(value.get<std::string>().c_str(), nullptr); }

/// Equal, or neighbours: libm's exp, cos and sin may differ in the last place.
void check_close(float value, const Json& expected) {
  const float wanted = hex_f32(expected);
  CHECK(value >= std::nextafter(wanted, -1e30f));
  CHECK(value <= std::nextafter(wanted, 1e30f));
}

u64 hash_bytes(const void* data, i64 bytes, u64 hash) {
  const auto* at = static_cast<const unsigned char*>(data);
  for (i64 i = 0; i < bytes; ++i) hash = mix64(hash ^ at[i]);
  return hash;
}

u64 hash_tensor(const HostTensor& tensor, u64 hash) {
  for (i64 extent : tensor.shape) hash = mix64(hash + static_cast<u64>(extent));
  return tensor.empty() ? hash : hash_bytes(tensor.storage.data(), tensor.bytes(), hash);
}

u64 hash_of(const Workload& w) {
  u64 hash = 1;
  for (const HostTensor* t :
       {&w.q, &w.weights, &w.q_scale, &w.q_norm, &w.k, &w.k_scale, &w.k_pages, &w.block_table, &w.seq_lens}) {
    hash = hash_tensor(*t, hash);
  }
  for (const std::vector<i32>* v : {&w.q_pos, &w.sequence, &w.ks, &w.ke}) {
    hash = hash_bytes(v->data(), static_cast<i64>(v->size() * sizeof(i32)), hash);
  }
  for (const Needle& n : w.needles) hash = hash_bytes(&n, sizeof(n), hash);
  return hash;
}

/// A small prefill of plain floats.
SyntheticRequest small_request() {
  SyntheticRequest request;
  request.heads = 4;
  request.head_dim = 32;
  request.top_k = 16;
  request.format = ValueFormat::f32;
  request.contexts = {200};
  request.rows = 8;
  return request;
}

/// The `count` largest, ties to the lower index.
std::vector<i64> largest(const std::vector<double>& values, i64 count) {
  std::vector<i64> order(values.size());
  std::iota(order.begin(), order.end(), i64{0});
  std::stable_sort(order.begin(), order.end(), [&](i64 a, i64 b) {
    return values[static_cast<std::size_t>(a)] > values[static_cast<std::size_t>(b)];
  });
  order.resize(static_cast<std::size_t>(std::min<i64>(count, static_cast<i64>(order.size()))));
  return order;
}

i64 sum(const std::vector<i64>& values) { return std::accumulate(values.begin(), values.end(), i64{0}); }

double recall(const std::vector<i64>& selection, const std::vector<i64>& reference) {
  const std::set<i64> wanted(reference.begin(), reference.end());
  const auto hits = std::count_if(selection.begin(), selection.end(), [&](i64 s) { return wanted.count(s) > 0; });
  return static_cast<double>(hits) / static_cast<double>(reference.size());
}

/// weights[j] * relu(q[j] . key) of every head, in double. [tokens][heads]
std::vector<std::vector<double>> terms(const std::vector<float>& q, const std::vector<float>& w,
                                       const std::vector<double>& keys) {
  const std::size_t heads = w.size(), dim = q.size() / heads, tokens = keys.size() / dim;
  std::vector<std::vector<double>> result(tokens, std::vector<double>(heads));
  for (std::size_t s = 0; s < tokens; ++s) {
    for (std::size_t j = 0; j < heads; ++j) {
      double product = 0;
      for (std::size_t d = 0; d < dim; ++d) product += static_cast<double>(q[j * dim + d]) * keys[s * dim + d];
      result[s][j] = w[j] * std::max(product, 0.0);
    }
  }
  return result;
}

std::string error_of(const SyntheticRequest& request) {
  try {
    check_request(request);
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::usage);
    CHECK(error.id() == "MP-E308");
    CHECK_FALSE(error.how().empty());
    return error.what();
  }
  return "accepted";
}

/// A token of a decode workload, dequantised.
std::vector<float> page_token(const Workload& w, i64 page, i64 slot, float* scale = nullptr) {
  const i64 size = w.page_size(), dim = w.head_dim();
  std::vector<float> key(static_cast<std::size_t>(dim));
  if (w.k_pages.dtype == Dtype::f32) {
    std::memcpy(key.data(), w.k_pages.storage.as<const float>() + (page * size + slot) * dim,
                key.size() * sizeof(float));
    return key;
  }
  const u8* base = w.k_pages.storage.as<const u8>() + page * size * (dim + 4);
  float factor = 0;
  std::memcpy(&factor, base + size * dim + slot * 4, sizeof(factor));
  if (scale != nullptr) *scale = factor;
  for (std::size_t d = 0; d < key.size(); ++d)
    key[d] = factor * to_float(E4m3{base[static_cast<std::size_t>(slot * dim) + d]});
  return key;
}

}  // namespace

TEST_CASE("weight profiles equal the specification's") {
  for (i64 heads : {64, 32}) {
    const std::vector<double> weights = weight_profile(heads, 6);
    const Json& expected = generator_golden()["weight_profile(" + std::to_string(heads) + ",6)[:8]"];
    double sum_of = 0, squares = 0;
    for (double weight : weights) {
      sum_of += weight;
      squares += weight * weight;
    }
    for (std::size_t r = 0; r < 8; ++r) {
      CHECK(weights[r] == doctest::Approx(std::strtod(expected[r].get<std::string>().c_str(), nullptr)).epsilon(1e-12));
    }
    CHECK(sum_of * sum_of / squares == doctest::Approx(6.0));
    CHECK(squares / static_cast<double>(heads) == doctest::Approx(1.0));
  }
}

TEST_CASE("keys equal the specification's within one unit in the last place") {
  const SyntheticSequence sequence(Pattern::structured, {}, 1, 4096, 64, 128);
  CHECK(sequence.segment_ends()[0] == generator_golden()["segment ends"][0].get<i64>());
  CHECK(sequence.segment_ends()[1] == generator_golden()["segment ends"][1].get<i64>());
  std::vector<float> keys(4096 * 128);
  sequence.keys(0, 4096, keys.data());
  for (std::size_t i = 0; i < 4; ++i) {
    check_close(keys[i], generator_golden()["K[0][:4]"][i]);
    check_close(keys[1000 * 128 + i], generator_golden()["K[1000][:4]"][i]);
    check_close(keys[1000 * 128 + 64 + i], generator_golden()["K[1000][64:68]"][i]);
    check_close(keys[4095 * 128 + i], generator_golden()["K[4095][:4]"][i]);
  }
  double total = 0;
  for (float key : keys) total += key;
  CHECK(total == doctest::Approx(generator_golden()["sum K (float64)"].get<double>()).epsilon(1e-9));
}

TEST_CASE("queries, scores, routing and selections equal the specification's") {
  for (i64 heads : {64, 32}) {
    CAPTURE(heads);
    const Json& expected = generator_golden()["H=" + std::to_string(heads) + " t=4095"];
    const SyntheticSequence sequence(Pattern::structured, {}, 1, 4096, heads, 128);
    const auto count = static_cast<std::size_t>(heads);
    std::vector<float> q(count * 128), w(count), keys(4096 * 128);
    sequence.keys(0, 4096, keys.data());
    sequence.query(4095, q.data(), w.data());
    for (std::size_t i = 0; i < 4; ++i) {
      check_close(q[i], expected["q[0][:4]"][i]);
      check_close(q[(count - 1) * 128 + 124 + i], expected["q[H-1][124:]"][i]);
    }
    for (std::size_t i = 0; i < 8; ++i) check_close(w[i], expected["w[:8]"][i]);
    std::vector<i64> negative;
    for (std::size_t j = 0; j < count; ++j) {
      if (w[j] < 0) negative.push_back(static_cast<i64>(j));
    }
    CHECK(negative == expected["negative heads"].get<std::vector<i64>>());

    // DSA: the 256 best of all scores.
    const auto token_terms = terms(q, w, {keys.begin(), keys.end()});
    std::vector<double> scores;
    for (const auto& row : token_terms) scores.push_back(std::accumulate(row.begin(), row.end(), 0.0));
    const std::size_t probes[] = {0, 1, 2048, 4095};
    for (std::size_t i = 0; i < 4; ++i) {
      CHECK(scores[probes[i]] == doctest::Approx(expected["I[0,1,2048,4095]"][i].get<double>()).epsilon(1e-6));
    }
    const std::vector<i64> dsa = largest(scores, 256);
    CHECK(sum(dsa) == expected["k=256: DSA index sum"].get<i64>());

    // MISA: 8 heads by mean |term| over the means of blocks of 128 tokens.
    std::vector<double> pooled(32 * 128);
    for (std::size_t s = 0; s < 4096; ++s) {
      for (std::size_t d = 0; d < 128; ++d) pooled[s / 128 * 128 + d] += static_cast<double>(keys[s * 128 + d]) / 128;
    }
    const auto block_terms = terms(q, w, pooled);
    std::vector<double> energy(count), block_scores;
    for (const auto& row : block_terms) {
      block_scores.push_back(std::accumulate(row.begin(), row.end(), 0.0));
      for (std::size_t j = 0; j < count; ++j) energy[j] += std::abs(row[j]) / 32;
    }
    const std::vector<i64> routed = largest(energy, 8);
    CHECK(routed == expected["router B=128 h=8 heads (by E)"].get<std::vector<i64>>());
    for (std::size_t i = 0; i < 8; ++i) {
      CHECK(energy[static_cast<std::size_t>(routed[i])] ==
            doctest::Approx(expected["E of those"][i].get<double>()).epsilon(1e-6));
    }
    std::vector<double> routed_scores;
    for (const auto& row : token_terms) {
      double score = 0;
      for (i64 j : routed) score += row[static_cast<std::size_t>(j)];
      routed_scores.push_back(score);
    }
    const std::vector<i64> misa = largest(routed_scores, 256);
    CHECK(sum(misa) == expected["MISA index sum"].get<i64>());
    CHECK(recall(misa, dsa) == doctest::Approx(expected["MISA recall"].get<double>()));

    // HISA: the tokens of 8 blocks, the first and the last among them.
    block_scores.front() = block_scores.back() = std::numeric_limits<double>::infinity();
    std::vector<double> pruned(4096, -std::numeric_limits<double>::infinity());
    for (i64 b : largest(block_scores, 8)) {
      for (i64 s = b * 128; s < (b + 1) * 128; ++s)
        pruned[static_cast<std::size_t>(s)] = scores[static_cast<std::size_t>(s)];
    }
    const std::vector<i64> hisa = largest(pruned, 256);
    CHECK(sum(hisa) == expected["HISA m=8 index sum"].get<i64>());
    CHECK(recall(hisa, dsa) == doctest::Approx(expected["HISA recall"].get<double>()));
  }
}

TEST_CASE("keys do not depend on the length, the heads, or where reading starts") {
  for (const PresetInfo& preset : presets()) {
    for (i64 dim : {32, 64, 128, 256}) {
      CAPTURE(preset.name);
      CAPTURE(dim);
      SyntheticKnobs knobs = preset.knobs;
      knobs.segment = std::min<i64>(knobs.segment, 64);
      const SyntheticSequence one(preset.pattern, knobs, 9, 400, 4, dim), two(preset.pattern, knobs, 9, 5000, 7, dim);
      const auto width = static_cast<std::size_t>(dim);
      std::vector<float> a(400 * width), b(100 * width);
      one.keys(0, 400, a.data());
      two.keys(300, 100, b.data());
      CHECK(std::equal(b.begin(), b.end(), a.begin() + static_cast<i64>(300 * width)));
      CHECK(std::all_of(a.begin(), a.end(), [](float x) { return std::isfinite(x); }));
    }
  }
}

TEST_CASE("one thread and two give the same bytes") {
  const int threads = omp_get_max_threads();
  for (const PresetInfo& preset : presets()) {
    for (ValueFormat format : {ValueFormat::f32, ValueFormat::bf16, ValueFormat::e4m3, ValueFormat::e4m3_ue8m0}) {
      for (Phase phase : {Phase::prefill, Phase::decode}) {
        CAPTURE(preset.name);
        SyntheticRequest request = small_request();
        request.preset = preset.name;
        request.format = format;
        request.phase = phase;
        request.contexts = {700, 33};
        request.next_n = 2;
        request.page_size = 16;
        omp_set_num_threads(1);
        const u64 one = hash_of(generate(request));
        omp_set_num_threads(2);
        CHECK(hash_of(generate(request)) == one);
        omp_set_num_threads(3);
        CHECK(hash_of(generate(request)) == one);
      }
    }
  }
  omp_set_num_threads(threads);
}

TEST_CASE("seeds and layers give different workloads, equal requests equal ones") {
  SyntheticRequest request = small_request();
  const u64 first = hash_of(generate(request));
  CHECK(hash_of(generate(request)) == first);
  request.layer = 1;
  const u64 layer = hash_of(generate(request));
  CHECK(layer != first);
  request.layer = 0;
  request.seed = 2;
  CHECK(hash_of(generate(request)) != first);
  CHECK(sequence_seed(5, 2, 3) == mix64(5 + kGolden * 3) + 3);
}

TEST_CASE("a sequence of a batch is the sequence of its seed") {
  SyntheticRequest request = small_request();
  request.contexts = {50, 70};
  request.rows = 4;
  const Workload workload = generate(request);
  const SyntheticSequence second(Pattern::structured, {}, sequence_seed(request.seed, 1, 0), 70, 4, 32);
  std::vector<float> keys(70 * 32), q(4 * 32), w(4);
  second.keys(0, 70, keys.data());
  CHECK(std::equal(keys.begin(), keys.end(), workload.k.span<float>().begin() + 50 * 32));
  second.query(69, q.data(), w.data());
  CHECK(std::equal(q.begin(), q.end(), workload.q.span<float>().begin() + 3 * 4 * 32));
  CHECK(std::equal(w.begin(), w.end(), workload.weights.span<float>().begin() + 3 * 4));
}

TEST_CASE("prefill rows are the last positions, windows end behind the row's own token") {
  SyntheticRequest request = small_request();
  request.contexts = {100, 3, 60};
  request.rows = 12;
  const Workload w = generate(request);
  CHECK(w.rows() == 12);
  CHECK(w.keys() == 163);
  CHECK_FALSE(w.paged());
  CHECK(std::count(w.sequence.begin(), w.sequence.end(), 1) == 3);  // a short sequence has no more rows than tokens
  CHECK(w.q_pos.front() == 100 - std::count(w.sequence.begin(), w.sequence.end(), 0));
  const i32 starts[] = {0, 100, 103};
  for (std::size_t m = 0; m < 12; ++m) {
    CHECK(w.ks[m] == starts[w.sequence[m]]);
    CHECK(w.ke[m] == w.ks[m] + w.q_pos[m] + 1);
  }
  CHECK(w.q_pos.back() == 59);
}

TEST_CASE("spread rows cover the last half evenly and end at the last token") {
  SyntheticRequest request = small_request();
  request.contexts = {1000};
  request.rows = 5;
  request.spread = true;
  CHECK(generate(request).q_pos == std::vector<i32>{599, 699, 799, 899, 999});
  request.contexts = {10};
  request.rows = 10;
  CHECK(generate(request).q_pos == std::vector<i32>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9});
}

TEST_CASE("FP8 folds the query's scale into the weights and keeps norms of the unquantised query") {
  SyntheticRequest request = small_request();
  const Workload plain = generate(request);
  CHECK(plain.q_scale.empty());
  for (ValueFormat format : {ValueFormat::e4m3, ValueFormat::e4m3_ue8m0}) {
    request.format = format;
    const Workload fp8 = generate(request);
    for (std::size_t i = 0; i < 8 * 4; ++i) {
      const float scale = fp8.q_scale.span<float>()[i];
      CHECK(fp8.weights.span<float>()[i] == plain.weights.span<float>()[i] * scale);
      CHECK(fp8.q_norm.span<float>()[i] == plain.q_norm.span<float>()[i]);
      double squares = 0;
      for (std::size_t d = 0; d < 32; ++d) {
        const float exact = plain.q.span<float>()[i * 32 + d];
        squares += static_cast<double>(exact) * exact;
        CHECK(std::abs(to_float(fp8.q.span<E4m3>()[i * 32 + d]) * scale - exact) <=
              std::abs(exact) / 16 + scale * 0x1p-10f);
      }
      CHECK(fp8.q_norm.span<float>()[i] == doctest::Approx(std::sqrt(squares)));
    }
    for (std::size_t s = 0; s < 200; ++s) {
      const float scale = fp8.k_scale.span<float>()[s];
      for (std::size_t d = 0; d < 32; ++d) {
        const float exact = plain.k.span<float>()[s * 32 + d];
        CHECK(std::abs(to_float(fp8.k.span<E4m3>()[s * 32 + d]) * scale - exact) <=
              std::abs(exact) / 16 + scale * 0x1p-10f);
      }
    }
  }
}

TEST_CASE("decode pages hold every token once, and unused slots hold garbage that would win") {
  for (ValueFormat format : {ValueFormat::f32, ValueFormat::e4m3, ValueFormat::e4m3_ue8m0}) {
    for (const char* preset : {"natural", "learned", "iid", "diffuse", "extremes"}) {
      CAPTURE(preset);
      SyntheticRequest request = small_request();
      request.format = format;
      request.preset = preset;
      request.phase = Phase::decode;
      request.contexts = {130, 0, 1, 64};
      request.next_n = 3;
      request.page_size = 16;
      const Workload w = generate(request);
      CHECK(w.paged());
      CHECK(w.rows() == 12);
      CHECK(w.next_n == 3);
      CHECK(w.block_table.shape == std::vector<i64>{4, 9});
      std::set<i32> used;
      for (i64 s = 0; s < 4; ++s) {
        const i64 context = request.contexts[static_cast<std::size_t>(s)], pages = ceil_div(context, 16);
        CHECK(w.seq_lens.span<i32>()[static_cast<std::size_t>(s)] == context);
        for (i64 p = 0; p < 9; ++p) {
          const i32 page = w.block_table.span<i32>()[static_cast<std::size_t>(s * 9 + p)];
          if (p >= pages) {
            CHECK(page == -1);
            continue;
          }
          CHECK(page >= 0);
          CHECK(page < w.k_pages.shape[0]);
          CHECK(used.insert(page).second);
        }
        for (i64 j = 0; j < 3; ++j) {
          const auto m = static_cast<std::size_t>(s * 3 + j);
          CHECK(w.sequence[m] == s);
          CHECK(w.ks[m] == 0);
          CHECK(w.ke[m] == std::max<i64>(0, context - 3 + j + 1));
          CHECK(w.q_pos[m] == w.ke[m] - 1);
        }
      }
      CHECK(static_cast<i64>(used.size()) < w.k_pages.shape[0]);

      // Row 2 is the last of sequence 0: its real scores against the garbage behind token 129.
      const auto score = [&](const std::vector<float>& key) {
        double total = 0;
        for (std::size_t j = 0; j < 4; ++j) {
          double product = 0;
          for (std::size_t d = 0; d < 32; ++d) {
            const std::size_t at = (2 * 4 + j) * 32 + d;
            const float q = format == ValueFormat::f32 ? w.q.span<float>()[at] : to_float(w.q.span<E4m3>()[at]);
            product += static_cast<double>(q) * key[d];
          }
          total += w.weights.span<float>()[2 * 4 + j] * std::max(product, 0.0);
        }
        return total;
      };
      double best = -std::numeric_limits<double>::infinity();
      const auto table = w.block_table.span<i32>();
      for (i64 t = 0; t < 130; ++t)
        best = std::max(best, score(page_token(w, table[static_cast<std::size_t>(t / 16)], t % 16)));
      for (i64 slot = 130 % 16; slot < 16; ++slot) {
        const double garbage = score(page_token(w, table[8], slot));
        CHECK(std::isfinite(static_cast<float>(garbage)));
        CHECK(garbage > best);
      }
      for (i64 page = 0; page < w.k_pages.shape[0]; ++page) {
        for (float x : page_token(w, page, 15)) CHECK(std::isfinite(x));
      }
    }
  }
}

TEST_CASE("decode pages hold the sequence's keys, and FP8 pages their scales behind the values") {
  SyntheticRequest request = small_request();
  request.phase = Phase::decode;
  request.contexts = {100};
  request.page_size = 16;
  const SyntheticSequence sequence(Pattern::structured, {}, sequence_seed(request.seed, 0, 0), 100, 4, 32);
  std::vector<float> keys(100 * 32);
  sequence.keys(0, 100, keys.data());
  for (ValueFormat format : {ValueFormat::f32, ValueFormat::e4m3_ue8m0}) {
    request.format = format;
    const Workload w = generate(request);
    for (std::size_t t = 0; t < 100; ++t) {
      float scale = 0;
      const std::vector<float> key = page_token(w, w.block_table.span<i32>()[t / 16], static_cast<i64>(t % 16), &scale);
      for (std::size_t d = 0; d < 32; ++d) {
        const float exact = keys[t * 32 + d];
        CHECK(std::abs(key[d] - exact) <= (format == ValueFormat::f32 ? 0 : std::abs(exact) / 16 + scale * 0x1p-10f));
      }
    }
  }
}

TEST_CASE("ragged contexts lie in their range and follow the seed") {
  const std::vector<i64> contexts = ragged_contexts(5, 9, 1000, 1);
  CHECK(*std::min_element(contexts.begin(), contexts.end()) == 5);
  CHECK(*std::max_element(contexts.begin(), contexts.end()) == 9);
  CHECK(ragged_contexts(5, 9, 1000, 2) != contexts);
  CHECK(ragged_contexts(7, 7, 2, 1) == std::vector<i64>{7, 7});
}

TEST_CASE("entries of several tokens: rows stand at tokens and see the entries that are whole") {
  for (const i64 ratio : {2, 4, 7}) {
    CAPTURE(ratio);
    SyntheticRequest request = small_request();
    request.compress_ratio = ratio;
    request.contexts = {203, 3, 50};
    request.rows = 12;
    const Workload flat = generate(request);
    CHECK(flat.compress_ratio == ratio);
    CHECK(flat.keys() == 203 / ratio + 3 / ratio + 50 / ratio);
    CHECK_NOTHROW(check_workload(flat, "flat"));
    const std::vector<i64> begin{0, 203 / ratio, 203 / ratio + 3 / ratio};
    const std::vector<i64> count{5, 3, 4};  // a sequence of 3 tokens has no more rows
    std::size_t m = 0;
    for (std::size_t s = 0; s < 3; ++s) {
      for (i64 i = 0; i < count[s]; ++i, ++m) {
        CHECK(flat.q_pos[m] == request.contexts[s] - count[s] + i);
        CHECK(flat.ks[m] == begin[s]);
        CHECK(flat.ke[m] == begin[s] + (flat.q_pos[m] + 1) / ratio);
      }
    }
    request.phase = Phase::decode;
    request.contexts = {130, 0, ratio, 64};
    request.next_n = 3;
    request.page_size = 4;
    const Workload paged = generate(request);
    CHECK_NOTHROW(check_workload(paged, "paged"));
    CHECK(paged.block_table.shape == std::vector<i64>{4, ceil_div(130 / ratio, 4)});
    CHECK(paged.seq_lens.span<i32>()[2] == ratio);
    CHECK(paged.ke[8] == 1);  // the last row of the third sequence ends its only entry
    CHECK(paged.ke[7] == 0);
    CHECK(paged.q_pos[3] == -1);
  }
}

TEST_CASE("an entry is the mean of what its tokens share, turned as its first token") {
  SyntheticKnobs knobs;
  knobs.topic = 1;  // tokens of a segment have nothing of their own
  knobs.sinks = 0;
  knobs.segment = 400;
  const SyntheticSequence entries(Pattern::structured, knobs, 5, 1000, 4, 64, 4),
      tokens(Pattern::structured, knobs, 5, 1000, 4, 64);
  std::vector<float> entry(64), token(64);
  i64 alike = 0;
  for (i64 e = 0; e < 250; ++e) {
    if (tokens.segment_of(4 * e) != tokens.segment_of(4 * e + 3)) continue;
    entries.keys(e, 1, entry.data());
    tokens.keys(4 * e, 1, token.data());
    for (std::size_t d = 0; d < 64; ++d) CHECK(entry[d] == doctest::Approx(token[d]).epsilon(1e-6));
    ++alike;
  }
  CHECK(alike > 200);
}

TEST_CASE("what tokens do not share counts less in their entry") {
  SyntheticKnobs knobs;
  knobs.recency = knobs.key_mean = 0;
  knobs.segment = 1 << 20;
  const auto likeness = [&](i64 ratio) {  // mean product of neighbouring keys
    const SyntheticSequence sequence(Pattern::structured, knobs, 6, 4096, 4, 128, ratio);
    std::vector<float> keys(256 * 128);
    sequence.keys(1024 / ratio, 256, keys.data());
    double sum = 0;
    for (std::size_t i = 0; i + 1 < 256; ++i) {
      // The dimensions that RoPE leaves alone.
      for (std::size_t d = 64; d < 128; ++d) sum += keys[i * 128 + d] * keys[(i + 1) * 128 + d];
    }
    return sum / 255 / 64;
  };
  // Of a token's energy .75 is its topic's. The noise of 4 tokens is .25 (equal shares) to 1 (one token alone) of that.
  const double more = likeness(4) / likeness(1);
  CHECK(more > 1.05 / (0.75 + 0.25 * 1));
  CHECK(more < 1 / (0.75 + 0.25 * 0.25));
}

TEST_CASE("rows that ask for a needle score its tokens highest") {
  for (auto [mode, ratio] : std::vector<std::pair<NeedleMode, i64>>{
           {NeedleMode::all, 1}, {NeedleMode::top, 1}, {NeedleMode::silent, 1}, {NeedleMode::top, 4}}) {
    for (Phase phase : {Phase::prefill, Phase::decode}) {
      SyntheticRequest request = small_request();
      request.compress_ratio = ratio;
      request.heads = 16;
      request.head_dim = 128;
      request.phase = phase;
      request.contexts = {2000 * ratio};
      request.rows = 4;
      request.next_n = 4;
      request.needles = NeedleRequest{.depths = {0.0, 0.5, 1.0}, .length = 24 * ratio, .mode = mode};
      const Workload w = generate(request);
      REQUIRE(w.needles.size() == 4);
      const i64 first = ratio == 1 ? 4 : 1, own = (2000 * ratio - 4 + 1) / ratio - 1;
      CHECK(w.needles[0].start == first);
      CHECK(w.needles[1].start == first + (own - 24 - first) / 2);
      CHECK(w.needles[2].start == own - 24);
      CHECK(w.needles[3].start == first);
      const SyntheticSequence sequence(Pattern::structured, {}, sequence_seed(1, 0, 0), 2000 * ratio, 16, 128, ratio);
      std::vector<float> keys(2000 * 128);
      sequence.keys(0, 2000, keys.data());
      for (i64 n = 0; n < 3; ++n) {
        const i64 start = w.needles[static_cast<std::size_t>(n)].start;
        sequence.needle_keys(n, start, 24, keys.data() + start * 128);
      }
      if (phase == Phase::prefill) CHECK(std::equal(keys.begin(), keys.end(), w.k.span<float>().begin()));
      for (std::size_t m = 0; m < 4; ++m) {
        CHECK(w.needles[m].question_start == w.q_pos[m]);
        CHECK(w.needles[m].question_length == 1);
        const auto q = w.q.span<float>().subspan(m * 16 * 128, 16 * 128);
        const auto weights = w.weights.span<float>().subspan(m * 16, 16);
        const std::vector<double> visible(keys.begin(), keys.begin() + w.ke[m] * 128);
        std::vector<double> scores;
        for (const auto& row : terms({q.begin(), q.end()}, {weights.begin(), weights.end()}, visible)) {
          scores.push_back(std::accumulate(row.begin(), row.end(), 0.0));
        }
        const std::vector<i64> best = largest(scores, 256);
        const auto found = std::count_if(best.begin(), best.end(),
                                         [&](i64 s) { return s >= w.needles[m].start && s < w.needles[m].start + 24; });
        CAPTURE(m);
        CHECK(found >= 22);
      }
    }
  }
}

TEST_CASE("needle keys do not see topics, mean key or sink") {
  // The direction is orthogonal to them, so two needles share only carrier, mean and noise with a topic key.
  const SyntheticKnobs bare = {.recency = 0, .key_mean = 0};
  for (i64 dim : {32, 64, 128, 256}) {
    const SyntheticSequence sequence(Pattern::structured, bare, 3, 100, 2, dim);
    std::vector<float> a(static_cast<std::size_t>(dim)), b(a.size());
    sequence.needle_keys(0, 50, 1, a.data());
    sequence.needle_keys(1, 50, 1, b.data());
    double norm = 0;
    for (float x : a) norm += static_cast<double>(x) * x;
    CHECK(norm == doctest::Approx(static_cast<double>(dim)));
    CHECK(a != b);
  }
}

TEST_CASE("zeros never score, negative never scores above zero, ties tie") {
  SyntheticRequest request = small_request();
  request.rows = 3;
  const auto scores_of = [&](const char* preset) {
    request.preset = preset;
    const Workload w = generate(request);
    const auto q = w.q.span<float>().subspan(0, 4 * 32);
    const auto weights = w.weights.span<float>().subspan(0, 4);
    std::vector<double> scores;
    for (const auto& row : terms({q.begin(), q.end()}, {weights.begin(), weights.end()},
                                 {w.k.span<float>().begin(), w.k.span<float>().end()})) {
      scores.push_back(std::accumulate(row.begin(), row.end(), 0.0));
    }
    return scores;
  };
  for (double score : scores_of("zeros")) CHECK(score == 0.0);
  for (double score : scores_of("negative")) CHECK(score <= 0.0);
  const std::vector<double> tied = scores_of("ties");
  CHECK(std::set<double>(tied.begin(), tied.end()).size() <= 16);
  CHECK(std::set<double>(tied.begin(), tied.end()).size() >= 2);
  for (double score : scores_of("extremes")) CHECK(std::abs(score) < 0x1p100);
}

TEST_CASE("extremes have zero keys, tiny ones and large ones, all finite after quantisation") {
  SyntheticRequest request = small_request();
  request.preset = "extremes";
  request.contexts = {2000};
  for (ValueFormat format : {ValueFormat::e4m3, ValueFormat::e4m3_ue8m0}) {
    request.format = format;
    const Workload w = generate(request);
    const auto scales = w.k_scale.span<float>();
    CHECK(*std::max_element(scales.begin(), scales.end()) > 0x1p20f);
    CHECK(*std::min_element(scales.begin(), scales.end()) < 1e-6f);
    for (float scale : scales) CHECK(scale > 0);
    for (E4m3 code : w.k.span<E4m3>()) CHECK((code.bits & 0x7F) != 0x7F);
    for (float weight : w.weights.span<float>()) CHECK(std::isfinite(weight));
  }
}

TEST_CASE("metadata says what a trace must say") {
  SyntheticRequest request = small_request();
  request.model = "tiny";
  request.seed = ~u64{0};
  request.format = ValueFormat::e4m3_ue8m0;
  request.knobs = SyntheticKnobs{.topic = 0.5};
  const Workload w = generate(request);
  for (const char* key :
       {"format", "model", "provenance", "layer", "phase", "index_n_heads", "index_head_dim", "index_topk",
        "context_length", "rope_dims", "hadamard", "k_quant", "q_quant", "weights_folded", "seed", "preset"}) {
    CAPTURE(key);
    CHECK(w.metadata.count(key) == 1);
  }
  CHECK(w.metadata.at("format") == "misa-trace/1");
  CHECK(w.metadata.at("provenance") == "synthetic");
  CHECK(w.metadata.at("seed") == "18446744073709551615");
  CHECK(w.metadata.at("context_length") == "200");
  CHECK(w.metadata.at("knobs") == "topic=0.5");
  CHECK(w.metadata.at("weights_folded") == "H^-0.5 * 32^-0.5 * q_scale");
}

TEST_CASE("generated_bytes counts the tensors") {
  SyntheticRequest request = small_request();
  for (Phase phase : {Phase::prefill, Phase::decode}) {
    for (ValueFormat format : {ValueFormat::f32, ValueFormat::bf16, ValueFormat::e4m3}) {
      request.phase = phase;
      request.format = format;
      const Workload w = generate(request);
      i64 bytes = 16 * w.rows();
      for (const HostTensor* t :
           {&w.q, &w.weights, &w.q_scale, &w.q_norm, &w.k, &w.k_scale, &w.k_pages, &w.block_table, &w.seq_lens}) {
        bytes += t->bytes();
      }
      CHECK(generated_bytes(request) >= bytes);
      CHECK(generated_bytes(request) <= bytes + 4 * w.rows() * w.heads());
    }
  }
}

TEST_CASE("what is laid out has the shapes, windows and metadata of what is generated") {
  for (const ValueFormat format : {ValueFormat::e4m3_ue8m0, ValueFormat::bf16}) {
    for (const Phase phase : {Phase::prefill, Phase::decode}) {
      CAPTURE(phase_name(phase));
      SyntheticRequest request;
      request.heads = 4;
      request.head_dim = 32;
      request.format = format;
      request.phase = phase;
      request.contexts = {70, 200};
      request.rows = 9;
      request.next_n = 2;
      const Workload drawn = generate(request), outline = lay_out(request);
      CHECK(outline.name == drawn.name);
      CHECK(outline.metadata == drawn.metadata);
      CHECK(outline.next_n == drawn.next_n);
      for (const auto windows : {&Workload::q_pos, &Workload::sequence, &Workload::ks, &Workload::ke}) {
        CHECK(outline.*windows == drawn.*windows);
      }
      for (const auto tensor : {&Workload::q, &Workload::weights, &Workload::q_scale, &Workload::q_norm, &Workload::k,
                                &Workload::k_scale, &Workload::k_pages, &Workload::block_table, &Workload::seq_lens}) {
        CHECK((outline.*tensor).shape == (drawn.*tensor).shape);
        CHECK((outline.*tensor).dtype == (drawn.*tensor).dtype);
      }
      CHECK(outline.bytes() == drawn.bytes());
    }
  }
}

TEST_CASE("requests out of range are refused by name") {
  const SyntheticRequest good = small_request();
  CHECK(error_of(good) == "accepted");
  const auto broken = [&](auto change) {
    SyntheticRequest request = good;
    change(request);
    return error_of(request);
  };
  using R = SyntheticRequest;
  CHECK(broken([](R& r) { r.heads = 0; }) == "heads is 0");
  CHECK(broken([](R& r) { r.heads = 129; }) == "heads is 129");
  CHECK(broken([](R& r) { r.head_dim = 96; }) == "head_dim is 96");
  CHECK(broken([](R& r) { r.preset = "naturel"; }) == "there is no preset 'naturel'");
  CHECK(broken([](R& r) { r.knobs = SyntheticKnobs{.topic = 1.5}; }) == "knob topic is 1.5");
  CHECK(broken([](R& r) { r.knobs = SyntheticKnobs{.agree = std::nan("")}; }) == "knob agree is nan");
  CHECK(broken([](R& r) { r.contexts = {}; }) == "the number of sequences is 0");
  CHECK(broken([](R& r) { r.contexts = {0}; }) == "a context is 0");
  CHECK(broken([](R& r) { r.contexts = {kMaxKeys, 1}; }).find("the number of keys is") == 0);
  CHECK(broken([](R& r) { r.rows = 201; }) == "rows is 201");
  CHECK(broken([](R& r) { r.rows = 0; }) == "rows is 0");
  CHECK(broken([](R& r) {
          r.phase = Phase::decode;
          r.next_n = 5;
        }) == "next_n is 5");
  CHECK(broken([](R& r) {
          r.phase = Phase::decode;
          r.page_size = 0;
        }) == "page_size is 0");
  CHECK(broken([](R& r) {
          r.preset = "iid";
          r.needles = NeedleRequest{};
        }) == "preset 'iid' has no place for needles");
  CHECK(broken([](R& r) { r.needles = NeedleRequest{.depths = {0.5, 0.51}}; }).find("overlap") != std::string::npos);
  CHECK(broken([](R& r) { r.needles = NeedleRequest{.length = 190}; }).find("do not fit") != std::string::npos);
  CHECK(broken([](R& r) { r.needles = NeedleRequest{.depths = {1.5}}; }) == "a needle's depth is 1.5");
}

TEST_CASE("presets have unique names and valid knobs, and near misses are suggested") {
  std::set<std::string_view> names;
  for (const PresetInfo& preset : presets()) {
    CHECK(names.insert(preset.name).second);
    CHECK_FALSE(preset.what.empty());
    CHECK_FALSE(preset.expect.empty());
    CHECK_NOTHROW(check_knobs(preset.knobs));
    CHECK(&find_preset(preset.name) == &preset);
  }
  try {
    find_preset("natral");
    FAIL("accepted");
  } catch (const Error& error) {
    CHECK(error.how() == "natural");
  }
}

TEST_CASE("every knob is in the table once") {
  std::set<std::string_view> names;
  for (const KnobInfo& knob : knobs()) {
    CHECK(names.insert(knob.name).second);
    CHECK((knob.real != nullptr) != (knob.whole != nullptr));
  }
  CHECK(sizeof(SyntheticKnobs) == names.size() * sizeof(double));
}

}  // namespace misa
