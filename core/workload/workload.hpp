#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "core/indexer/forced.hpp"
#include "core/tensor/host_tensor.hpp"

namespace misa {

/// Tokens a test planted, and the rows that should find them.
struct Needle {
  i32 start = 0, length = 0;                    ///< keys, counted as `Workload::ks` counts them
  i32 question_start = 0, question_length = 0;  ///< positions whose rows ask for it, as `Workload::q_pos` counts them
  i32 answer_start = 0, answer_length = 0;      ///< keys of the needle that answer the question; 0, 0: not known

  bool has_answer() const { return answer_length > 0; }
};

/// One (layer, phase) of indexer inputs in host memory: generated or recorded. Every tensor is as a kernel would
/// be given it (docs/traces.md has the meaning of each name). Move-only.
///
/// Keys are contiguous (`k`, with FP8 and INT8 `k_scale`, with MXFP4 `k_block_scale`) or paged (`k_pages`,
/// `block_table`, `seq_lens`), never both. MXFP4 queries go with MXFP4 keys.
struct Workload {
  std::string name;                             ///< for people: file stem, or model/workload
  std::map<std::string, std::string> metadata;  ///< misa-trace/1 keys: model, provenance, layer, phase, ...

  HostTensor q;        ///< [M, H, D] f32, bf16, e4m3, int8 or e2m1
  HostTensor weights;  ///< [M, H] f32
  HostTensor q_scale;  ///< [M, H] f32, or empty
  HostTensor q_norm;   ///< [M, H] f32, or empty

  HostTensor k;        ///< [N, D] f32, bf16, e4m3, int8 or e2m1
  HostTensor k_scale;  ///< [N] f32 with e4m3 and int8, else empty

  /// UE8M0 scales of MXFP4, each of 32 numbers: bytes in words of four, in their order in memory. Else empty.
  HostTensor q_block_scale;  ///< [M, H, W] i32, W = ceil(D / 128)
  HostTensor k_block_scale;  ///< [N, W] i32

  /// f32 or bf16 [pages, page_size, D]; or u8 (int8: i8) [pages, page_size, S], where a page is the numbers of its keys
  /// and then their scales (core/workload/key_layout.hpp): S is D + 4 of FP8 and INT8, D / 2 + 4 W of MXFP4.
  HostTensor k_pages;
  HostTensor block_table;  ///< [S, max_pages] i32, -1 after the used part
  HostTensor seq_lens;     ///< [S] i32 tokens
  i64 next_n = 1;          ///< rows per sequence at decode: M = S * next_n

  /// Tokens that a key stands for. Where it is more than 1, a key is an *entry* of so many tokens: positions (`q_pos`,
  /// questions) and `seq_lens` count tokens; windows, ids, pages and everything else count keys.
  i64 compress_ratio = 1;

  /// [Q, R] runs of `candidate_length` keys that a row may select from: run c is the keys ks + c * candidate_length +
  /// [0, candidate_length), as far as the row sees them. Ids ascend, -1 pads come last. Empty: none are given.
  HostTensor candidates;
  i64 candidate_length = 1;

  std::vector<i32> q_pos;     ///< [M] position in the row's own sequence, -1: before its first token
  std::vector<i32> sequence;  ///< [M]
  std::vector<i32> ks, ke;    ///< [M] half-open window (paged: ks = 0)

  HostTensor attention_mass;            ///< [R, N] f16, or empty
  std::vector<i32> attention_mass_row;  ///< [R] the row of each
  std::vector<Needle> needles;

  HostTensor topk;            ///< [R, k] i32 recorded selection relative to ks, -1 pads, or empty
  std::vector<i32> topk_row;  ///< [R]

  /// Host memory of all fields.
  i64 bytes() const;

  bool paged() const { return !k_pages.empty(); }
  i64 rows() const { return q.shape.at(0); }
  i64 heads() const { return q.shape.at(1); }
  i64 head_dim() const { return q.shape.at(2); }
  /// Keys stored: N, or pages * page_size.
  i64 keys() const { return paged() ? k_pages.shape.at(0) * k_pages.shape.at(1) : k.shape.at(0); }
  i64 page_size() const { return paged() ? k_pages.shape.at(1) : 0; }
  /// Keys that are whole after so many tokens of a sequence: floor(tokens / compress_ratio).
  i64 keys_after(i64 tokens) const { return tokens / compress_ratio; }
};

/// How many tokens each row keeps where nobody asks for a number: `index_topk` of the metadata, else the columns of the
/// recorded selection, else 2048, DeepSeek-V3.2's.
struct DefaultTopK {
  i64 k = 2048;
  std::string_view source = "default";  ///< "index_topk", "recorded" or "default"
};
DefaultTopK default_top_k(const Workload& workload);

/// The tokens that every selection holds where nobody asks for numbers: index_init_tokens and index_local_tokens of the
/// metadata, as the configuration of LongCat-2.0 calls them, else none.
Forced default_forced(const Workload& workload);
/// Writes them to `metadata`, which has them only where there are some.
void set_forced(const Forced& forced, std::map<std::string, std::string>& metadata);

/// Writes the columns of the recorded selection of `from` into `metadata` as index_topk, unless index_topk is there:
/// for a part of `from` that lacks the selection.
void keep_top_k(const Workload& from, std::map<std::string, std::string>& metadata);

}  // namespace misa
