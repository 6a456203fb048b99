// INT8 and MXFP4 are exact in bf16: an indexer selects from them what it selects from the same numbers in bf16.

#include <doctest/doctest.h>

#include <array>
#include <cmath>

#include "core/workload/subset.hpp"
#include "tests/support/cases.hpp"

using namespace misa;
using namespace misa::testing;

namespace {

/// The MXFP4 numbers of `workload` in bf16.
Workload widened(const Workload& workload) {
  Workload wide = copy_of(workload);
  const i64 dim = workload.head_dim();
  const auto widen = [&](const u8* codes, const u8* scales, Bf16* to) {
    const Mxfp4Vector vector{codes, scales};
    for (i64 d = 0; d < dim; ++d) to[d] = to_bf16(vector[d]);
  };
  make_queries(wide, Dtype::bf16, workload.rows(), workload.heads(), dim);
  wide.q_block_scale = {};
  const i64 scale_bytes = key_scale_bytes(Dtype::e2m1, dim);
  for (i64 i = 0; i < workload.rows() * workload.heads(); ++i) {
    widen(workload.q.storage.as<u8>() + i * dim / 2, workload.q_block_scale.storage.as<u8>() + i * scale_bytes,
          wide.q.storage.as<Bf16>() + i * dim);
  }
  const KeyLayout from = key_layout(workload);
  if (workload.paged()) {
    wide.k_pages = key_pages(Dtype::bf16, workload.k_pages.shape[0], workload.page_size(), dim);
  } else {
    make_keys(wide, Dtype::bf16, workload.keys(), dim);
    wide.k_block_scale = {};
  }
  for (i64 slot = 0; slot < workload.keys(); ++slot) {
    widen(key_values(workload).storage.as<u8>() + from.values_at(slot),
          key_scales(workload).storage.as<u8>() + from.scales_at(slot),
          key_values(wide).storage.as<Bf16>() + slot * dim);
  }
  return wide;
}

}  // namespace

TEST_CASE("MXFP4 selects the tokens, heads and blocks that the same numbers in bf16 select, in every indexer") {
  for (const std::string& backend : {std::string("oracle"), std::string("cpu")}) {
    for (const std::string& indexer : indexer_names()) {
      for (u64 seed = 1; seed <= 12; ++seed) {
        CaseOptions options;
        options.seed = seed;
        options.dtype = Dtype::e2m1;
        options.heads = seed % 3 == 0 ? 16 : 5;
        options.dim = std::array<i64, 4>{32, 64, 128, 256}[seed % 4];
        options.contexts = {90, 41};
        options.paged = seed % 2 == 0;
        CAPTURE(backend);
        CAPTURE(indexer);
        CAPTURE(options.describe());
        const Workload narrow = draw_workload(options), wide = widened(narrow);
        IndexerSettings settings;
        settings.top_k = 20;
        settings.active_heads = 4;
        settings.candidates = 40;
        settings.blocks = 3;
        settings.block_size = 8;
        settings.samples = 8;
        const IndexerSpec spec = make_indexer(indexer, settings);
        CHECK(choose(backend, narrow, spec) == choose(backend, wide, spec));
      }
    }
  }
}

TEST_CASE("INT8 selects what the same numbers in f32, divided by their scales, select") {
  for (const std::string& backend : {std::string("oracle"), std::string("cpu")}) {
    for (const std::string& indexer : indexer_names()) {
      for (u64 seed = 1; seed <= 6; ++seed) {
        CaseOptions options;
        options.seed = seed;
        options.dtype = Dtype::int8;
        options.numbers = Numbers::few_keys;
        options.heads = 6;
        options.dim = seed % 2 == 0 ? 64 : 128;
        CAPTURE(backend);
        CAPTURE(indexer);
        CAPTURE(options.describe());
        const Workload narrow = draw_workload(options);
        // Scales of powers of two, so that multiplying them into f32 keys is exact.
        Workload powers = copy_of(narrow);
        for (float& scale : powers.k_scale.span<float>()) scale = std::exp2(std::round(std::log2(scale)));
        Workload wide = copy_of(powers);
        wide.q = HostTensor(Dtype::f32, narrow.q.shape);
        wide.k = HostTensor(Dtype::f32, narrow.k.shape);
        wide.k_scale = {};
        for (i64 i = 0; i < narrow.q.size(); ++i) store(wide.q, i, narrow.q.span<i8>()[static_cast<std::size_t>(i)]);
        for (i64 i = 0; i < narrow.k.size(); ++i) {
          store(wide.k, i,
                powers.k_scale.span<float>()[static_cast<std::size_t>(i / narrow.head_dim())] *
                    narrow.k.span<i8>()[static_cast<std::size_t>(i)]);
        }
        IndexerSettings settings;
        settings.top_k = 10;
        settings.active_heads = 3;
        settings.candidates = 30;
        settings.blocks = 3;
        settings.block_size = 8;
        settings.samples = 8;
        // A linear query is rounded to the batch's dtype, which is bf16 here and f32 there.
        if (indexer.starts_with("misa-lr")) continue;
        const IndexerSpec spec = make_indexer(indexer, settings);
        CHECK(choose(backend, powers, spec) == choose(backend, wide, spec));
      }
    }
  }
}
