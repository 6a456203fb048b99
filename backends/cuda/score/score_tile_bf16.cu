// logits[m, c] = sum over h of weights[m, h] * relu(q[m, h] . k): bf16, head_dim 128, many rows over windows
//
// Tiles and warps: see score_tile.cuh; a tile has 256 / H rows of H heads, H rounded up to a power of two from 8 on. A
// warpgroup multiplies two halves of 128 query vectors, and reduces one half over heads while the other, or the other
// warpgroup, multiplies. Up to 16 heads the vectors are laid out so that a lane has all heads of its queries; else it
// has a fourth of them, and four lanes add theirs for four pairs at a time. Bound by the tensor cores.
//
// The head sum has the order of score_tile.cu, as that of score_rows.cu: a pair's bits are the same from both.

#include <type_traits>

#include "backends/cuda/kernels.hpp"
#include "backends/cuda/score/head_sum.cuh"
#include "backends/cuda/score/score_tile.cuh"

namespace misa::cuda {
namespace {

using namespace score_tile;

constexpr int kHalf = kVectors / 2;

/// Scores tiles of keys against tiles of rows.
template <int H>
class Scorer : Consumer<Bf16> {
 public:
  /// Layout of the query vectors in a tile: grouped, vector 8 (g H + h) + c is head h of row 8 g + c; else vector H r +
  /// h is head h of row r.
  static constexpr bool kGrouped = H <= 16;
  static constexpr int kRows = kVectors / H;

  __device__ Scorer(const Arguments& arguments, Shared<Bf16>& shared, int self)
      : Consumer(arguments, shared, self), own_key_(key_ + (kGrouped ? 0 : thread_ % 2 * 8)) {}

  __device__ void run() {
    for (;;) {
      const KeyTile tile = wait_for_keys();
      if (tile.token < 0) return;
      if (tile.row0 >= 0) take_new_rows(tile.row0);
      float low[kHalf / 2], high[kHalf / 2];
      start(low, 0);
      start(high, kHalf);
      wgmma_wait<1>();
      tile.whole ? finish<true, 0>(low, tile) : finish<false, 0>(low, tile);
      wgmma_wait<0>();
      shared_.ring.release(at_.stage);
      at_.advance();
      tile.whole ? finish<true, 1>(high, tile) : finish<false, 1>(high, tile);
    }
  }

 private:
  using Heads = std::conditional_t<kGrouped, GroupedHeads<H>, SpreadHeads<H, Bf16>>;
  static constexpr int kEach = kGrouped ? 8 : 1;  ///< rows of a Heads

  __device__ void take_new_rows(int row0) {
    take_rows(row0);
#pragma unroll
    for (int i = 0; i < kRows / kEach; ++i) {
      heads_[i] = Heads(arguments_.weights, min(row0 + kEach * i, arguments_.rows - 1));
    }
    wait_for_queries();
  }

  /// Reduces half of the vectors over heads. No branches where every row sees every key.
  template <bool Whole, int Half>
  __device__ void finish(const float (&dots)[kHalf / 2], const KeyTile& tile) const {
    constexpr int kHere = kRows / 2, kFirst = Half * kHere;
    const int token = tile.token + own_key_, quad = thread_ % 4;
    const int* offsets = shared_.rows[query_at_.stage].offset;
    if constexpr (kGrouped) {
#pragma unroll
      for (int at = 0; at < kHere; at += 8) {
        const int row = kFirst + at + 2 * quad;
        const int2 offset = *reinterpret_cast<const int2*>(&offsets[row]);
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int e = i / 2, r = i % 2;
          const float sum = heads_[(kFirst + at) / 8].sum(dots, at * H / 2, e, r);
          store<Whole>(tile, row + e, e == 0 ? offset.x : offset.y, token + 8 * r, sum);
        }
      }
    } else {
#pragma unroll
      for (int at = 0; at < kHere; at += 2) {  // two rows x two keys of a lane
        const int row = kFirst + at + quad / 2, offset = offsets[row];
        float partial[2][2];
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          partial[i / 2][i % 2] = heads_[kFirst + at + i / 2].partial(dots, (at + i / 2) * H / 2, i % 2);
        }
        store<Whole>(tile, row, offset, token, sum_partials(partial));
      }
    }
  }

  const int own_key_;
  Heads heads_[kRows / kEach];
};

template <int H>
struct Policy {
  using T = Bf16;
  using Scorer = cuda::Scorer<H>;
  static constexpr int kRows = Scorer::kRows, kCopied = kVectors, kFeeding = 56, kScoring = 224;
  static constexpr int kFills = 1, kQueryFills = 33;
  static constexpr double kChange = 1;

  static CUtensorMap query_map(const View<const Bf16, 3>& queries) {
    const i64 row = queries.stride[0] * 2, vector = queries.stride[1] * 2;
    if constexpr (Scorer::kGrouped) {
      return tensor_map<3>(queries.data, {kDim * 2, queries.shape[0], queries.shape[1]}, {row, vector}, {128, 8, H});
    } else {
      return tensor_map<3>(queries.data, {kDim * 2, queries.shape[1], queries.shape[0]}, {vector, row},
                           {128, H, kRows});
    }
  }

  __device__ static void copy_queries(u32 to, const CUtensorMap& query_map, u32 full, int byte, int row0) {
    if constexpr (Scorer::kGrouped) {
      for (int row = 0; row < kRows; row += 8) tma_load(to + row * H * 128, query_map, full, byte, row0 + row, 0);
    } else {
      tma_load(to, query_map, full, byte, 0, row0);
    }
  }

  __device__ static void help(const Arguments&, Shared<Bf16>&, int) {}
};

}  // namespace

bool tiles_bf16(const ScoreTask& task) {
  return takes<Bf16>(task, kVectors / 8) && heads_of(task.queries) <= 64 && task.keys.scales.data == nullptr;
}

void score_in_bf16_tiles(const ScoreTask& task, int num_sms, cudaStream_t stream) {
  with_heads(heads_of(task.queries),
             [&]<int H>() { score_tile::launch<Policy<H>>("score_tile_bf16", task, num_sms, stream); });
}

}  // namespace misa::cuda
