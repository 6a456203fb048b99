// logits[m, c] = k_scale * sum over h of weights[m, h] * relu(q[m, h] . k): FP8, head_dim 128, many rows over windows
//
// Tiles and warps: see score_tile.cuh. Two warpgroups multiply half of a tile's columns on the tensor cores while they
// reduce the other half over heads. The queries are laid out in the tile so that a lane has all heads of the same
// queries: no shuffle. Three helper warps bring the key scales and the weights. Bound by register-file bandwidth, which
// MMA and head reduction share, and by power.
//
// The head sum has one order, which every FP8 kernel here follows: four partial sums, head h in number (h / 2) % 4,
// each ascending from its first term; then (0 + 1) + (2 + 3).

#include <array>

#include "backends/cuda/kernels.hpp"
#include "backends/cuda/score/score_tile.cuh"

namespace misa::cuda {
namespace {

using namespace score_tile;

/// How the H heads of the tile's rows are laid out in its columns.
///   H > 32: column 8 i + 2 c + e is head 2 i + e of row c
///   else:   column 8 (g H + i) + c is head i of row 8 g + c
template <int H>
struct Layout {
  static constexpr bool kPairs = H > 32;
  static constexpr int kGroups = kPairs ? 1 : 32 / H;
  static constexpr int kRows = kPairs ? 4 : 8 * kGroups;
  static constexpr int kWidth = kPairs ? 256 : 8 * H * kGroups;
  __device__ static constexpr int row(int column) {
    return kPairs ? column % 8 / 2 : 8 * (column / 8 / H) + column % 8;
  }
  __device__ static constexpr int head(int column) { return kPairs ? column / 8 * 2 + column % 2 : column / 8 % H; }
};

/// Scores tiles of keys against a tile of rows. The columns are multiplied in two halves; one of them is always being
/// multiplied while the other is reduced, also from one tile to the next.
template <int H>
class Scorer : Consumer<E4m3> {
  using L = Layout<H>;
  static constexpr bool kCarry = L::kGroups == 1;  // the halves share queries
  static constexpr int kSplit = kCarry ? L::kWidth / 2 : 8 * H * ((L::kGroups + 1) / 2);
  static constexpr int kQueries = L::kPairs ? 1 : 2;  // of a lane, of each group

 public:
  __device__ Scorer(const Arguments& arguments, Shared<E4m3>& shared, int self)
      : Consumer(arguments, shared, self), quad_(thread_ % 4) {}

  __device__ void run() {
    for (;;) {
      const KeyTile tile = wait_for_keys();
      if (tile.token < 0) return;
      if (tile.row0 >= 0) take_new_rows(tile.row0);
      tile.leads ? score<kGroup>(tile) : score<1>(tile);
    }
  }

 private:
  /// Scores `Count` tiles of keys for the same rows, the first of which has arrived. The compiler overlaps an MMA with
  /// reads of another's result only in straight code: in a loop it cannot prove that the wait covers them.
  template <int Count>
  __device__ void score(KeyTile tile) {
    float low[kSplit / 2], high[(L::kWidth - kSplit) / 2];
    start(low, 0);
#pragma unroll
    for (int i = 0; i < Count; ++i) {
      start(high, kSplit);
      const float scale[2] = {shared_.scales[at_.stage][key_], shared_.scales[at_.stage][key_ + 8]};
      const KeyTile now = tile;
      float partial[kQueries][2][4];  // of the queries that the halves share
      wgmma_wait<1>(low);
      finish<0, kSplit>(low, now, scale, partial);
      if constexpr (kCarry) {
#pragma unroll
        for (auto& query : partial) {
          keep_here(query[0]);
          keep_here(query[1]);
        }
      }
      const u32 done = shared_.ring.empty_at(at_.stage);
      at_.advance();
      if (i + 1 < Count) {
        tile = wait_for_keys();
        start(low, 0);
        wgmma_wait<1>(high);
      } else {
        wgmma_wait<0>(high);
      }
      __syncwarp();
      barrier_arrive_if(thread_ % 32 == 0, done);
      finish<kSplit, L::kWidth>(high, now, scale, partial);
    }
  }

  __device__ void take_new_rows(int row0) {
    take_rows(row0);
    wait_for_queries();
    const float* weights = shared_.weights[query_at_.stage];
#pragma unroll
    for (int i = 0; i < L::kWidth / 8; ++i) {
      const float2 pair = *reinterpret_cast<const float2*>(&weights[8 * i + 2 * quad_]);
      weights_[2 * i] = 0.5f * pair.x;
      weights_[2 * i + 1] = 0.5f * pair.y;
    }
  }

  /// Reduces columns [From, To) over heads and stores the queries whose last column is among them.
  template <int From, int To, int Count>
  __device__ void finish(const float (&sums)[Count], const KeyTile& tile, const float (&scale)[2],
                         float (&carried)[kQueries][2][4]) const {
    constexpr int kFirst = From / 8, kLast = To / 8;  // pairs of columns that a lane holds
    constexpr int kEach = L::kPairs ? H / 2 : H;      // pairs of a group
    constexpr int kFirstGroup = kFirst / kEach, kGroups = kLast / kEach - kFirstGroup;  // that end here
    float scores[kGroups > 0 ? kGroups : 1][kQueries][2];
#pragma unroll
    for (int group = kFirstGroup; group * kEach < kLast; ++group) {
      const int begin = max(kFirst, group * kEach), end = min(kLast, (group + 1) * kEach);
#pragma unroll
      for (int e = 0; e < kQueries; ++e) {
        float fresh[2][4] = {};
        float(&partial)[2][4] = kCarry ? carried[e] : fresh;
#pragma unroll
        for (int pair = begin; pair < end; ++pair) {
#pragma unroll
          for (int odd = 0; odd < (L::kPairs ? 2 : 1); ++odd) {
            const int head = L::kPairs ? 2 * pair + odd : pair - group * kEach, column = L::kPairs ? odd : e;
            const float w = weights_[2 * pair + column];
#pragma unroll
            for (int r = 0; r < 2; ++r) {
              const float x = twice_relu(sums[4 * (pair - kFirst) + 2 * r + column]);
              float& p = partial[r][head / 2 % 4];
              p = head < 8 && head % 2 == 0 ? __fmul_rn(w, x) : __fmaf_rn(w, x, p);
            }
          }
        }
        if (end == (group + 1) * kEach) {
#pragma unroll
          for (int r = 0; r < 2; ++r) {
            const float sum =
                __fadd_rn(__fadd_rn(partial[r][0], partial[r][1]), __fadd_rn(partial[r][2], partial[r][3]));
            scores[group - kFirstGroup][e][r] = scale[r] * sum;
          }
        }
      }
    }
    if constexpr (kGroups > 0) {
      tile.whole ? store_groups<true>(tile, kFirstGroup, scores) : store_groups<false>(tile, kFirstGroup, scores);
    }
  }

  /// Stores without branches where every row sees every key.
  template <bool Whole, int Groups>
  __device__ void store_groups(const KeyTile& tile, int first_group, const float (&scores)[Groups][kQueries][2]) const {
    const int* offsets = shared_.rows[query_at_.stage].offset;
#pragma unroll
    for (int i = 0; i < Groups; ++i) {
      const int row = L::kPairs ? quad_ : 8 * (first_group + i) + 2 * quad_;
      int offset[kQueries];
      if constexpr (L::kPairs) {
        offset[0] = offsets[row];
      } else {
        const int2 two = *reinterpret_cast<const int2*>(&offsets[row]);
        offset[0] = two.x;
        offset[1] = two.y;
      }
#pragma unroll
      for (int e = 0; e < kQueries; ++e) {
#pragma unroll
        for (int r = 0; r < 2; ++r) {
          store<Whole>(tile, row + e, offset[e], tile.token + key_ + 8 * r, scores[i][e][r]);
        }
      }
    }
  }

  const int quad_;
  float weights_[L::kWidth / 4];  ///< half of each: see twice_relu
};

template <int H>
struct Policy : Layout<H> {
  using T = E4m3;
  using Scorer = cuda::Scorer<H>;
  using Layout<H>::kRows, Layout<H>::kWidth;
  static constexpr int kCopied = kWidth, kFeeding = 40, kScoring = 232;
  static constexpr int kFills = 33, kQueryFills = 65;  // a warp of scales or weights, and the copying one
  static constexpr double kChange = 0.5;

  static CUtensorMap query_map(const View<const E4m3, 3>& queries) {
    const i64 vector = queries.stride[1], row = queries.stride[0], rows = queries.shape[0];
    if constexpr (Layout<H>::kPairs) {
      return tensor_map<4>(queries.data, {kDim, 2, rows, H / 2}, {vector, row, 2 * vector}, {kDim, 2, 4, H / 2});
    } else {
      return tensor_map<3>(queries.data, {kDim, rows, H}, {row, vector}, {kDim, 8, H});
    }
  }

  __device__ static void copy_queries(u32 to, const CUtensorMap& query_map, u32 full, int byte, int row0) {
    if constexpr (Layout<H>::kPairs) {
      tma_load(to, query_map, full, byte, 0, row0, 0);
    } else {
      for (int row = 0; row < kRows; row += 8) tma_load(to + row * H * 128, query_map, full, byte, row0 + row, 0);
    }
  }

  /// Brings the scales of every kHelpers-th tile of keys, and as the first helper the weights of rows.
  __device__ static void help(const Arguments& arguments, Shared<E4m3>& shared, int self) {
    const int lane = static_cast<int>(threadIdx.x % 32);
    Cursor<Shared<E4m3>::kStages> at;
    Cursor<Shared<E4m3>::kQueryStages> query_at;
    int turn = 0;
    for_each_tile<kRows>(arguments, [&](const Segment& segment, const KeyTile& tile) {
      if (tile.row0 >= 0) {
        if (self == 0) {
          shared.query_ring.wait_empty(query_at);
          for (int column = lane; column < kWidth; column += 32) {
            const int row = tile.row0 + Layout<H>::row(column);
            shared.weights[query_at.stage][column] =
                row < arguments.rows ? arguments.weights(row, Layout<H>::head(column)) : 0.0f;
          }
          barrier_arrive(shared.query_ring.full_at(query_at.stage));
        }
        query_at.advance();
      }
      if (turn == self) {
        float scale[kTileKeys / 32];
#pragma unroll
        for (int i = 0; i < kTileKeys / 32; ++i) {
          const int token = tile.token + 32 * i + lane;
          scale[i] = 1;
          if (arguments.scales.data == nullptr || token >= segment.high) continue;
          const int2 from = find_slot(arguments, segment.sequence, token);
          scale[i] = arguments.scales(from.x, from.y);
        }
        shared.ring.wait_empty(at);
#pragma unroll
        for (int i = 0; i < kTileKeys / 32; ++i) shared.scales[at.stage][32 * i + lane] = scale[i];
        barrier_arrive(shared.ring.full_at(at.stage));
      }
      at.advance();
      if (++turn == kHelpers) turn = 0;
    });
    if (turn == self) {
      shared.ring.wait_empty(at);
      barrier_arrive(shared.ring.full_at(at.stage));
    }
  }
};

template <int H>
void launch(const ScoreTask& task, int num_sms, cudaStream_t stream) {
  score_tile::launch<Policy<H>>("score_tile", task, num_sms, stream);
}

using LaunchHeads = void (*)(const ScoreTask&, int, cudaStream_t);
constexpr std::array<LaunchHeads, 17> kLaunches{nullptr,    launch<1>,  launch<2>,  launch<3>,  launch<4>,  launch<5>,
                                                launch<6>,  launch<7>,  launch<8>,  launch<9>,  launch<10>, launch<11>,
                                                launch<12>, launch<13>, launch<14>, launch<15>, launch<16>};

LaunchHeads launch_for(i64 heads) {
  if (heads <= 16) return kLaunches[static_cast<std::size_t>(heads)];
  return heads == 32 ? launch<32> : heads == 64 ? launch<64> : nullptr;
}

}  // namespace

bool tiles(const ScoreTask& task) {
  return takes<E4m3>(task, kVectors) && launch_for(heads_of(task.queries)) != nullptr;
}

void score_in_tiles(const ScoreTask& task, int num_sms, cudaStream_t stream) {
  launch_for(heads_of(task.queries))(task, num_sms, stream);
}

}  // namespace misa::cuda
