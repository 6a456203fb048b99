// logits[m, c] = k_scale * sum over h of weights[m, h] * relu(q[m, h] . k): INT8 and MXFP4 keys, head_dim 128
//
// Keys are read as they are stored, widened to bf16 in registers, exactly, and multiplied on tensor cores. A warpgroup
// takes rows that see the same keys, as many as have 64 heads together, or one row's candidates, and tiles of 64 keys.
// Lane l of a warp has numbers 32 (l % 4) + [0, 32) of keys l / 4 and l / 4 + 8: 16 bytes of MXFP4, which share a
// scale, or 32 of INT8. By twos they are the operand of eight steps as they come, for the dimensions of queries, which
// lie in shared memory, are put in the same order. A lane reads its part of the next tile while one is multiplied.
// Bound by issue slots: 10 instructions widen a key of MXFP4, 20 one of INT8. The head sum has the order of
// score_tile.cu.

#include <algorithm>
#include <limits>
#include <type_traits>

#include "backends/cuda/kernels.hpp"
#include "backends/cuda/pipeline/keys.cuh"
#include "backends/cuda/pipeline/launch.cuh"
#include "backends/cuda/ptx/warp.cuh"
#include "backends/cuda/ptx/wgmma.cuh"
#include "backends/cuda/score/head_sum.cuh"

namespace misa::cuda {
namespace {

constexpr int kDim = 128, kTileKeys = 64, kVectors = 64;  ///< query vectors of a warpgroup
constexpr int kGroups = 4;                                ///< warpgroups of a block
constexpr int kPairs = 16;                                ///< of a lane's numbers of a key
constexpr int kSteps = kPairs / 2;                        ///< in which tensor cores take them

/// A lane's numbers of a key, as they are stored.
template <class K>
struct Numbers {
  static constexpr int kWords = std::is_same_v<K, Mxfp4> ? 4 : 8;
  u32 words[kWords];
  u32 scale;  ///< of MXFP4: its byte

  /// Which of the lane's numbers is the first, or with `e` = 1 the second, of pair p.
  static constexpr int number(int p, int e) {
    return std::is_same_v<K, Mxfp4> ? 8 * (p / 4) + p % 4 + 4 * e : 2 * p + e;
  }

  __device__ void read(const Keys<K>& keys, int sequence, int token, float& key_scale) {
    const int quad = static_cast<int>(threadIdx.x % 4);
    if (token < 0) {
#pragma unroll
      for (u32& word : words) word = 0;
      scale = 0;
      key_scale = 1;
      return;
    }
    const auto key = keys.vector(sequence, token, key_scale);
    const uint4* from = nullptr;
    if constexpr (std::is_same_v<K, Mxfp4>) {
      from = reinterpret_cast<const uint4*>(key.codes) + quad;
      scale = key.scales[quad];
    } else {
      from = reinterpret_cast<const uint4*>(key) + 2 * quad;
    }
#pragma unroll
    for (int i = 0; i < kWords / 4; ++i) {
      const uint4 four = from[i];
      words[4 * i] = four.x, words[4 * i + 1] = four.y, words[4 * i + 2] = four.z, words[4 * i + 3] = four.w;
    }
  }

  /// Writes the numbers as bf16, by twos: the operand of kSteps steps, for key `r` of the lane's two.
  __device__ void widen(u32 (&keys)[kSteps][4], int r) const {
    if constexpr (std::is_same_v<K, Mxfp4>) {
      widen_mxfp4(keys, r);
    } else {
#pragma unroll
      for (int i = 0; i < kWords; ++i) {
        // 2^23 + 128 + x has 128 + x in its lowest byte.
        const u32 above = words[i] ^ 0x80808080u;
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const float low = __uint_as_float(__byte_perm(above, 0x4B000000u, 0x7440 + 2 * half)) - 8388736.0f;
          const float high = __uint_as_float(__byte_perm(above, 0x4B000000u, 0x7441 + 2 * half)) - 8388736.0f;
          keys[i][r + 2 * half] = __byte_perm(__float_as_uint(low), __float_as_uint(high), 0x7632);
        }
      }
    }
  }

 private:
  /// The bits of a number at the place of a bf16's lowest exponent and highest fraction bits are the number times
  /// 2^-126.
  __device__ void widen_mxfp4(u32 (&keys)[kSteps][4], int r) const {
    constexpr u32 kNan = 255, kMost = 128, kNanBits = 0x7FC0;
    const u32 low = min(scale, kMost), high = scale == kNan ? 0 : scale - low;  // 2^(low - 1) 2^high is a bf16 each
    const u32 factor = scale == kNan ? kNanBits : (low + 126) << 7;
#pragma unroll
    for (int i = 0; i < kWords; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const u32 size = j < 2 ? words[i] << (6 - 4 * j) : words[i] >> (4 * j - 6);
        const u32 bits = (size & 0x01C001C0u) | (words[i] << (12 - 4 * j) & 0x80008000u);
        keys[2 * i + j / 2][r + 2 * (j % 2)] = multiply_bf16(bits, factor | factor << 16);
      }
    }
    if (high == 0) return;
    const u32 rest = (high + 127) << 7;
#pragma unroll
    for (int p = 0; p < kPairs; ++p) {
      u32& pair = keys[p / 2][r + 2 * (p % 2)];
      pair = multiply_bf16(pair, rest | rest << 16);
    }
  }
};

template <class Q, class K>
struct Arguments {
  Vectors<Q> queries;
  View<const float, 2> weights;
  Keys<K> keys;
  Windows windows;
  Columns columns;
  View<float, 2> logits;
  int rows, rows_of_group, columns_of_row, tiles;  ///< tiles of a row
};

struct Shared {
  alignas(1024) u8 queries[kGroups][2][kVectors * 128];  ///< panels of 64 dimensions
};

/// H: heads, rounded up to a power of two from 8 on; the missing ones have weight 0.
template <class Q, class K, int H>
class Scorer {
  static constexpr int kRows = kVectors / H;

 public:
  __device__ Scorer(const Arguments<Q, K>& arguments, Shared& shared, int warp)
      : arguments_(arguments),
        group_(warp / 4),
        lane_(static_cast<int>(threadIdx.x % 32)),
        key_(warp % 4 * 16 + lane_ / 4),
        queries_(shared_address(shared.queries[group_])),
        memory_(shared.queries[group_][0]) {}

  /// Part `part` of `parts` of the line of tiles.
  __device__ void run(i64 part, i64 parts) {
    const int size = arguments_.rows_of_group;
    const i64 all = static_cast<i64>((arguments_.rows + size - 1) / size) * arguments_.tiles;
    const i64 end = all * (part + 1) / parts;
    for (i64 at = all * part / parts; at < end;) {
      const i64 group = at / arguments_.tiles;
      const int first = static_cast<int>(at - group * arguments_.tiles);
      const int last = static_cast<int>(min(static_cast<i64>(arguments_.tiles), first + end - at));
      const int row = static_cast<int>(group) * size;
      u32 left = (1u << min(size, arguments_.rows - row)) - 1;
      while (left != 0) {
        const u32 members = alike(row, left);
        left &= ~members;
        take_rows(row, members);
        score(first, last);
      }
      at += last - first;
    }
  }

 private:
  /// Returns which of the rows `left` of the group see the keys of the first of them.
  __device__ u32 alike(int row, u32 left) {
    const int lead = row + __ffs(static_cast<int>(left)) - 1;
    sequence_ = arguments_.windows.sequence[lead];
    begin_ = arguments_.windows.begin[lead];
    lead_ = lead;
    u32 members = 0;
    for (int i = 0; i < arguments_.rows_of_group; ++i) {
      const bool same = (left >> i & 1) != 0 && arguments_.windows.sequence[row + i] == sequence_ &&
                        arguments_.windows.begin[row + i] == begin_;
      members |= same ? 1u << i : 0;
    }
    return members;
  }

  __device__ void take_rows(int row, u32 members) {
    row_ = row;
    members_ = members;
    most_visible_ = 0;
    const int heads = static_cast<int>(arguments_.queries.shape[1]);
    group_barrier(1 + group_, 128);
    for (int at = static_cast<int>(threadIdx.x % 128); at < kVectors * 4 * kPairs; at += 128) {
      const int vector = at / (4 * kPairs), quad = at / kPairs % 4, p = at % kPairs;
      const int i = vector / H, head = vector % H;
      if ((members >> i & 1) == 0) continue;  // what is there is never stored
      u32 two = 0;
      if (head < heads) {
        two = bits_of(row + i, head, 32 * quad + Numbers<K>::number(p, 0)) |
              bits_of(row + i, head, 32 * quad + Numbers<K>::number(p, 1)) << 16;
      }
      const int byte = 32 * (p / 2 % 4) + 16 * (p % 2) + 4 * quad;
      *reinterpret_cast<u32*>(memory_ + p / 8 * kVectors * 128 + swizzled(vector, byte)) = two;
    }
    fence_for_tensor_cores();
    group_barrier(1 + group_, 128);
#pragma unroll
    for (int i = 0; i < kRows; ++i) {
      const int m = min(row + i, arguments_.rows - 1);
      heads_[i] = SpreadHeads<H, Bf16>(arguments_.weights, m);
      visible_[i] = max(0, arguments_.windows.end[m] - arguments_.windows.begin[m]);
      if ((members >> i & 1) != 0) most_visible_ = max(most_visible_, visible_[i]);
    }
  }

  __device__ u32 bits_of(int m, int head, int d) const {
    return from_float<Bf16>(to_float(arguments_.queries(m, head, d))).bits;
  }

  __device__ void score(int first, int last) {
    const bool listed = arguments_.columns.listed;
    const int seen = listed ? last : max(first, min(last, (most_visible_ + kTileKeys - 1) / kTileKeys));
    if (first < seen) fetch(first);
    for (int tile = first; tile < seen; ++tile) {
      u32 keys[kSteps][4];
      numbers_[0].widen(keys, 0);
      numbers_[1].widen(keys, 1);
      const float scales[2] = {scales_[0], scales_[1]};
      const bool tokens[2] = {token_[0] >= 0, token_[1] >= 0};
      if (tile + 1 < seen) fetch(tile + 1);
      float sums[kVectors / 2];
      multiply(sums, keys);
      const bool odd = lane_ % 2 != 0;
      store_sums(tile, sums, odd ? scales[1] : scales[0], !listed || (odd ? tokens[1] : tokens[0]));
    }
    for (int tile = seen; tile < last; ++tile) {
#pragma unroll
      for (int i = 0; i < kRows; ++i) {
        if (lane_ % 4 < 2) store(tile, i, -std::numeric_limits<float>::infinity());
      }
    }
  }

  /// Begins to load this lane's numbers of a tile's keys.
  __device__ void fetch(int tile) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int column = tile * kTileKeys + key_ + 8 * r;
      token_[r] = -1;
      if (arguments_.columns.listed) {
        if (column < arguments_.columns_of_row) {
          token_[r] = static_cast<int>(arguments_.columns.token(arguments_.windows, lead_, column));
        }
      } else if (column < most_visible_) {
        token_[r] = begin_ + column;
      }
      numbers_[r].read(arguments_.keys, sequence_, token_[r], scales_[r]);
    }
  }

  /// sums[64 keys of the warpgroup, 64 query vectors].
  __device__ void multiply(float (&sums)[kVectors / 2], const u32 (&keys)[kSteps][4]) const {
    wgmma_fence();
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      const u64 b = wgmma_operand(queries_ + static_cast<u32>(step / 4 * kVectors * 128)) + 2 * (step % 4);
      wgmma_from_registers<Bf16, kVectors>(sums, keys[step], b, step > 0);
    }
    wgmma_commit();
    wgmma_wait<0>(sums);
  }

  /// Reduces over heads and stores. `scale` and `seen` are those of the key whose scores this lane gets.
  __device__ void store_sums(int tile, const float (&sums)[kVectors / 2], float scale, bool seen) const {
    const auto score_of = [&](int i, float sum) {
      const int column = tile * kTileKeys + key_ + lane_ % 2 * 8;
      const bool is_seen = arguments_.columns.listed ? seen : column < visible(i);
      return is_seen ? scale * sum : -std::numeric_limits<float>::infinity();
    };
    if constexpr (kRows == 1) {
      const float low = heads_[0].partial(sums, 0, 0), high = heads_[0].partial(sums, 0, 1);
      const bool odd = lane_ % 2 != 0;
      float sum = __fadd_rn(odd ? high : low, __shfl_xor_sync(kFullWarp, odd ? low : high, 1));
      sum = __fadd_rn(sum, __shfl_xor_sync(kFullWarp, sum, 2));
      if (lane_ % 4 < 2) store(tile, 0, score_of(0, sum));
    } else {
#pragma unroll
      for (int i = 0; i < kRows; i += 2) {
        float partial[2][2];
#pragma unroll
        for (int n = 0; n < 4; ++n) {
          partial[n / 2][n % 2] = heads_[i + n / 2].partial(sums, (i + n / 2) * H / 2, n % 2);
        }
        const float sum = sum_partials(partial);
        const int own = i + lane_ % 4 / 2;
        store(tile, own, score_of(own, sum));
      }
    }
  }

  __device__ int visible(int i) const {
    int found = visible_[0];
#pragma unroll
    for (int other = 1; other < kRows; ++other) found = other == i ? visible_[other] : found;
    return found;
  }

  __device__ void store(int tile, int i, float score) const {
    const int column = tile * kTileKeys + key_ + lane_ % 2 * 8;
    if ((members_ >> i & 1) != 0 && column < arguments_.columns_of_row) arguments_.logits(row_ + i, column) = score;
  }

  const Arguments<Q, K>& arguments_;
  const int group_, lane_, key_;
  const u32 queries_;  ///< its address in shared memory
  u8* memory_;
  int row_, lead_, sequence_, begin_, most_visible_;
  u32 members_;
  int visible_[kRows];
  SpreadHeads<H, Bf16> heads_[kRows];
  Numbers<K> numbers_[2];
  float scales_[2];
  int token_[2];
};

template <class Q, class K, int H>
__global__ void __launch_bounds__(128 * kGroups, 1)
    score_widened_kernel(const __grid_constant__ Arguments<Q, K> arguments) {
  const int warp = __shfl_sync(kFullWarp, static_cast<int>(threadIdx.x / 32), 0);
  Scorer<Q, K, H>(arguments, shared_as<Shared>(), warp)
      .run(static_cast<i64>(blockIdx.x) * kGroups + warp / 4, static_cast<i64>(gridDim.x) * kGroups);
}

/// Queries of these go with such keys here.
template <class Q, class K>
constexpr bool kWidened = (std::is_same_v<K, i8> || std::is_same_v<K, Mxfp4>)&&(std::is_same_v<Q, K> ||
                                                                                std::is_same_v<Q, Bf16>);

template <class Q, class K>
void launch(const Vectors<Q>& queries, const Keys<K>& keys, const ScoreTask& task, int num_sms, cudaStream_t stream) {
  const View<float, 2> logits = std::get<View<float, 2>>(task.logits);
  with_heads(heads_of(task.queries), [&]<int H>() {
    const Columns columns = columns_of(task.candidates);
    const Arguments<Q, K> arguments{.queries = queries,
                                    .weights = task.queries.weights,
                                    .keys = keys,
                                    .windows = task.windows,
                                    .columns = columns,
                                    .logits = logits,
                                    .rows = static_cast<int>(logits.shape[0]),
                                    .rows_of_group = columns.listed ? 1 : kVectors / H,
                                    .columns_of_row = static_cast<int>(logits.shape[1]),
                                    .tiles = static_cast<int>(ceil_div(logits.shape[1], kTileKeys))};
    const i64 items = ceil_div(logits.shape[0], arguments.rows_of_group) * arguments.tiles;
    launch_kernel("score_widened", score_widened_kernel<Q, K, H>,
                  {std::min<i64>(num_sms, ceil_div(items, kGroups)), 128 * kGroups, sizeof(Shared), stream}, false,
                  arguments);
  });
}

bool aligned(const void* data, i64 page, i64 vector) {
  return reinterpret_cast<std::uintptr_t>(data) % 16 == 0 && page % 16 == 0 && vector % 16 == 0;
}
template <class T>
bool aligned(const View<const T, 3>& values) {
  return aligned(values.data, values.stride[0], values.stride[1]);
}
bool aligned(const Mxfp4View& values) {
  return aligned(values.codes.data, values.codes.stride[0], values.codes.stride[1]);
}

}  // namespace

bool scores_widened(const ScoreTask& task) {
  bool takes = false;
  with_types(task.queries.values, task.keys, [&](const auto& queries, const auto& keys) {
    using Q = Element<decltype(queries)>;
    using K = Element<decltype(keys.values)>;
    if constexpr (kWidened<Q, K>) {
      takes = queries.shape[2] == kDim && queries.shape[1] <= 64 && aligned(keys.values) &&
              keys.values.shape[0] * keys.values.shape[1] > 0;
    }
  });
  return takes;
}

void score_widened(const ScoreTask& task, int num_sms, cudaStream_t stream) {
  with_types(task.queries.values, task.keys, [&](const auto& queries, const auto& keys) {
    using Q = Element<decltype(queries)>;
    using K = Element<decltype(keys.values)>;
    if constexpr (kWidened<Q, K>) launch<Q, K>(queries, keys, task, num_sms, stream);
  });
}

}  // namespace misa::cuda
