// means[p] = mean of k_scale * k over the tokens of range p
//
// FP8 and bf16 of 128 dimensions: a warp sums a group of 32 keys (bf16: 16), counted from the range's begin, with all
// loads in flight at once; a mean adds these sums in order, and then that of the remaining keys. A block takes some
// ranges and splits its warps among them; ranges that share a begin share the sums of groups as well. Sums are f32, in
// an order that depends on the range alone. Where there are more ranges than one block an SM can take, an SM runs two
// smaller blocks, and a warp loads its next group while it sums one. Bound by memory.
//
// All else: a block takes a range, a thread a dimension; sums are f64, in token order. Bound by memory latency: one key
// after the other.

#include <algorithm>
#include <type_traits>
#include <utility>

#include "backends/cuda/kernels.hpp"
#include "backends/cuda/pipeline/keys.cuh"
#include "backends/cuda/pipeline/launch.cuh"
#include "backends/cuda/ptx/cp_async.cuh"
#include "backends/cuda/ptx/warp.cuh"

namespace misa::cuda {
namespace {

template <class K>
__global__ void pool_kernel(Keys<K> keys, Windows ranges, View<float, 2> means, View<const i32, 1> places) {
  const i64 p = blockIdx.x, begin = ranges.begin[p], end = ranges.end[p];
  const unsigned d = threadIdx.x;
  double sum = 0;
  for (i64 token = begin; token < end; ++token) {
    float scale = 1;
    const auto key = keys.vector(ranges.sequence[p], token, scale);
    // Two operations, each rounded as the reference rounds it.
    sum = __dadd_rn(sum, __dmul_rn(static_cast<double>(scale), static_cast<double>(to_float(key[d]))));
  }
  means(places.empty() ? p : places[p], d) =
      static_cast<float>(sum / static_cast<double>(end > begin ? end - begin : 1));
}

constexpr int kDim = 128, kEach = 8;  // keys that a lane sums at once: 16 bytes of each
constexpr int kMostRanges = 32;       // of a block: one a lane

/// Shape of blocks; `Many`: for more ranges than one block an SM can take.
template <bool Many>
struct Cut {
  static constexpr int kBlocks = Many ? 2 : 1;  ///< of an SM
  static constexpr int kLogWarps = Many ? 4 : 5, kWarps = 1 << kLogWarps;
  static constexpr int kMostTeams = 16;  ///< of a block's warps: as many as there are barriers
  static constexpr int kStageBytes = kWarps * kEach * 32 * 16;
};

/// Number of lanes that share a key.
template <class K>
constexpr int kLanes = kDim* static_cast<int>(sizeof(K)) / 16;
/// Number of keys that a warp sums at once.
template <class K>
constexpr int kGroup = kEach * 32 / kLanes<K>;

/// At most kGroup keys that a warp sums at once: lane l knows the l-th.
template <class K>
struct Group {
  const K* key = nullptr;
  float scale = 0;
  int count = 0;

  __device__ Group() = default;
  __device__ Group(const Keys<K>& keys, int sequence, int token, int tokens) : key(keys.values.data), count(tokens) {
    const int lane = static_cast<int>(threadIdx.x % 32);
    if (lane < count) key = keys.vector(sequence, token + lane, scale);
  }

  /// Begins to load the i-th of kEach parts into shared memory: registers for all of them would leave none for the
  /// sums. Lane l loads 16 bytes of every fourth (bf16: second) key.
  __device__ void load(int i, uint4 (*stage)[32]) const {
    const int lane = static_cast<int>(threadIdx.x % 32), part = lane % kLanes<K>, row = lane / kLanes<K>;
    constexpr int kRows = 32 / kLanes<K>;
    const u64 from = __shfl_sync(kFullWarp, __cvta_generic_to_global(key), kRows * i + row) + 16 * part;
    copy_async_or_zero(shared_address(&stage[i][lane]), from, kRows * i + row < count);
  }
  __device__ void load(uint4 (*stage)[32]) const {
#pragma unroll
    for (int i = 0; i < kEach; ++i) {
      load(i, stage);
      commit_copies();
    }
  }
};

/// Sum of scale * key over a group that loads, through a warp's part `stage` of shared memory; with `Ahead`, `next`
/// begins to load where that has been read. By a whole warp: lane l adds what it loaded; then it has dimensions
/// first_dimension(l) + {0, 1, 2, 3} of the sum.
template <bool Ahead, class K>
__device__ float4 sum_group(const Group<K>& group, const Group<K>& next, uint4 (*stage)[32]) {
  const int lane = static_cast<int>(threadIdx.x % 32), row = lane / kLanes<K>;
  constexpr int kRows = 32 / kLanes<K>, kDims = 16 / sizeof(K);
  float sum[kDims] = {};
  const auto add = [&]<int I>(std::integral_constant<int, I>) {
    const float one = __shfl_sync(kFullWarp, group.scale, kRows * I + row);
    wait_for_copies<kEach - 1 - (Ahead ? 0 : I)>();
    float value[kDims];
    widen(stage[I][lane], value);
#pragma unroll
    for (int d = 0; d < kDims; ++d) sum[d] = fmaf(one, value[d], sum[d]);
    if constexpr (Ahead) {
      if (next.count > 0) next.load(I, stage);
      commit_copies();
    }
  };
  [&]<int... I>(std::integer_sequence<int, I...>) { (add(std::integral_constant<int, I>{}), ...); }
  (std::make_integer_sequence<int, kEach>{});
  // Lanes that share dimensions: each keeps half of them, FP8 twice.
  float half[8], quarter[4];
#pragma unroll
  for (int d = 0; d < 8; ++d) {
    half[d] = sum[d];
    if constexpr (kDims == 16) {
      const bool upper = row / 2 == 1;
      if (upper) half[d] = sum[8 + d];
      half[d] += __shfl_xor_sync(kFullWarp, upper ? sum[d] : sum[8 + d], 16);
    }
  }
#pragma unroll
  for (int d = 0; d < 4; ++d) {
    const bool upper = row % 2 == 1;
    quarter[d] = upper ? half[4 + d] : half[d];
    quarter[d] += __shfl_xor_sync(kFullWarp, upper ? half[d] : half[4 + d], kLanes<K>);
  }
  return {quarter[0], quarter[1], quarter[2], quarter[3]};
}

template <class K>
__device__ int first_dimension(int lane) {
  const int part = lane % kLanes<K>, row = lane / kLanes<K>;
  return 16 / static_cast<int>(sizeof(K)) * part + 8 * (row / 2) + 4 * (row % 2);
}

__device__ inline float4 operator+(const float4& a, const float4& b) {
  return {a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w};
}

/// Ranges of a block that share their begin, and the warps that do them.
struct Run {
  int first, last;  ///< numbers in the block
  int sequence, begin;
};

template <class K, bool Many>
__global__ void __launch_bounds__(32 * Cut<Many>::kWarps, Cut<Many>::kBlocks)
    pool_vectors_kernel(Keys<K> keys, Windows ranges, View<float, 2> means, View<const i32, 1> places, int each) {
  constexpr int kLogWarps = Cut<Many>::kLogWarps, kWarps = Cut<Many>::kWarps, kMostTeams = Cut<Many>::kMostTeams;
  auto* stages = &shared_as<uint4[kEach][32]>();
  __shared__ float4 memory[kWarps + 2 * kMostTeams][32];
  __shared__ int sequence[kMostRanges], begin[kMostRanges], length[kMostRanges];
  wait_for_stream();
  const int lane = static_cast<int>(threadIdx.x % 32), warp = static_cast<int>(threadIdx.x / 32);
  const i64 first = static_cast<i64>(blockIdx.x) * each;
  const int count = static_cast<int>(min(static_cast<i64>(each), ranges.begin.shape[0] - first));
  if (static_cast<int>(threadIdx.x) < count) {  // registers are short
    const i64 range = first + threadIdx.x;
    sequence[threadIdx.x] = ranges.sequence[range];
    begin[threadIdx.x] = ranges.begin[range];
    length[threadIdx.x] = max(0, ranges.end[range] - ranges.begin[range]);
  }
  __syncthreads();
  u32 leaders = __ballot_sync(
      kFullWarp, lane < count && (lane == 0 || begin[lane] != begin[lane - 1] || sequence[lane] != sequence[lane - 1]));
  const int log_teams = 32 - __clz(min(__popc(leaders), kMostTeams) - 1), teams = 1 << log_teams;
  const int size = kWarps >> log_teams, team = warp >> (kLogWarps - log_teams), self = warp & (size - 1);
  const auto barrier = [&] { group_barrier(team, 32 * size); };
  float4(*sums)[32] = memory + team * (size + 2);

  for (int turn = 0; leaders != 0; ++turn) {
    const int lead = __ffs(static_cast<int>(leaders)) - 1;
    leaders &= leaders - 1;
    if ((turn & (teams - 1)) != team) continue;
    const Run run{lead, leaders == 0 ? count : __ffs(static_cast<int>(leaders)) - 1, sequence[lead], begin[lead]};
    const int most = __reduce_max_sync(kFullWarp, lane >= run.first && lane < run.last ? length[lane] / kGroup<K> : 0);
    const auto whole_group = [&](int number) {
      if (number >= most) return Group<K>();
      return Group<K>(keys, run.sequence, run.begin + number * kGroup<K>, kGroup<K>);
    };
    // Returns whether a range's last whole group is one of those from `base` on, or the range has none.
    const auto ends = [&](int tokens, int base) {
      const int whole = tokens / kGroup<K>;
      return whole <= base + size && (whole > base || base == 0);
    };
    Group<K> group;  // that is being loaded
    for (int base = 0;; base += size) {
      // sums[i]: the sum of the first base + i groups; a copy of the last one follows, for the next turn.
      if (base + self < most) {
        if (group.count == 0) {
          group = whole_group(base + self);
          group.load(stages[warp]);
        }
        Group<K> next;
        if constexpr (Many) {
          // The remaining keys of a range that ends here will need the stages.
          const bool left =
              lane >= run.first && lane < run.last && length[lane] % kGroup<K> != 0 && ends(length[lane], base);
          if (!__any_sync(kFullWarp, left)) next = whole_group(base + size + self);
        }
        sums[self + 1][lane] = sum_group<Many>(group, next, stages[warp]);
        group = next;
      }
      barrier();
      if (self == 0) {
        float4 sum = base == 0 ? float4{0, 0, 0, 0} : sums[size + 1][lane];
        sums[0][lane] = sum;
        for (int i = 1; i <= min(size, most - base); ++i) {
          sum = sum + sums[i][lane];
          sums[i][lane] = sum;
        }
        sums[size + 1][lane] = sum;
      }
      barrier();
      for (int i = run.first + self; i < run.last; i += size) {
        const int tokens = length[i], whole = tokens / kGroup<K>;
        if (!ends(tokens, base)) continue;
        float4 mean = sums[whole - base][lane];
        if (tokens % kGroup<K> != 0) {
          const Group<K> rest(keys, run.sequence, run.begin + whole * kGroup<K>, tokens % kGroup<K>);
          rest.load(stages[warp]);
          mean = mean + sum_group<false>(rest, {}, stages[warp]);
        }
        const float divisor = static_cast<float>(max(1, tokens));
        const i64 place = places.empty() ? first + i : places[first + i];
        float* to = &means(place, first_dimension<K>(lane));
        const i64 step = means.stride[1];
        to[0] = mean.x / divisor;
        to[step] = mean.y / divisor;
        to[2 * step] = mean.z / divisor;
        to[3 * step] = mean.w / divisor;
      }
      barrier();
      if (base + size >= most) break;
    }
  }
}

template <bool Many, class K>
void launch(const Keys<K>& keys, const PoolTask& task, int num_sms, cudaStream_t stream) {
  const i64 count = task.count();
  const i64 each = std::clamp<i64>(ceil_div(count, Cut<Many>::kBlocks * num_sms), 1, kMostRanges);
  launch_kernel("pool_vectors", pool_vectors_kernel<K, Many>,
                {ceil_div(count, each), 32 * Cut<Many>::kWarps, Cut<Many>::kStageBytes, stream}, true, keys,
                task.ranges, task.means, task.places, static_cast<int>(each));
}

template <class K>
bool accepts(const PoolTask& task) {
  const auto* vectors = std::get_if<View<const K, 3>>(&task.keys.values);
  return vectors != nullptr && vectors->shape[2] == kDim && vectors_align(*vectors);
}

}  // namespace

bool pools_vectors(const PoolTask& task) { return accepts<E4m3>(task) || accepts<Bf16>(task); }

void pool_vectors(const PoolTask& task, int num_sms, cudaStream_t stream) {
  const bool many = task.count() > static_cast<i64>(kMostRanges) * num_sms;
  with_keys(task.keys, [&]<class K>(const Keys<K>& keys) {
    if constexpr (std::is_same_v<K, E4m3> || std::is_same_v<K, Bf16>) {
      (many ? launch<true, K> : launch<false, K>)(keys, task, num_sms, stream);
    }
  });
}

void pool_plainly(const PoolTask& task, int /*num_sms*/, cudaStream_t stream) {
  with_keys(task.keys, [&]<class K>(const Keys<K>& keys) {
    launch_kernel("pool_plain", pool_kernel<K>, {task.count(), task.means.shape[1], 0, stream}, false, keys,
                  task.ranges, task.means, task.places);
  });
}

}  // namespace misa::cuda
