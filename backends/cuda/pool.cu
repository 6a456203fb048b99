// means[p] = mean of k_scale * k over the tokens of range p
//
// FP8 and bf16 of 128 dimensions: a warp sums a group of 32 keys (bf16: 16), counted from the range's begin, whose
// loads are all in flight at once; a mean adds these sums in order, and then that of the keys that are left. A block
// takes some ranges and splits its warps among them; ranges that share a begin share the sums of groups as well. Sums
// in f32, in an order that depends on the range alone. Bound by memory.
//
// All else: a block takes a range, a thread a dimension; sums in f64, in token order. Bound by memory latency: one key
// after the other.

#include <algorithm>
#include <type_traits>
#include <utility>

#include "backends/cuda/check.hpp"
#include "backends/cuda/kernels.hpp"
#include "backends/cuda/keys.cuh"
#include "backends/cuda/launch.cuh"
#include "backends/cuda/tma.cuh"

namespace misa::cuda {
namespace {

template <class K>
__global__ void pool_kernel(Keys<K> keys, Windows ranges, View<float, 2> means) {
  const i64 p = blockIdx.x, begin = ranges.begin[p], end = ranges.end[p];
  const unsigned d = threadIdx.x;
  double sum = 0;
  for (i64 token = begin; token < end; ++token) {
    float scale = 1;
    const K* key = keys.vector(ranges.sequence[p], token, scale);
    // As two operations, which is how the formulas' backend rounds.
    sum = __dadd_rn(sum, __dmul_rn(static_cast<double>(scale), static_cast<double>(to_float(key[d]))));
  }
  means(p, d) = static_cast<float>(sum / static_cast<double>(end > begin ? end - begin : 1));
}

constexpr int kDim = 128, kEach = 8;  // keys that a lane sums at once: 16 bytes of each
constexpr int kLogWarps = 5, kWarps = 1 << kLogWarps, kMostTeams = 16;  // of a block
constexpr int kMostRanges = 32;                                         // of a block: one a lane

/// Until at most `Pending` of this thread's copies are not done.
template <int Pending>
__device__ void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(Pending) : "memory");
}

/// Lanes that share a key.
template <class K>
constexpr int kLanes = kDim* static_cast<int>(sizeof(K)) / 16;
/// Keys that a warp sums at once.
template <class K>
constexpr int kGroup = kEach * 32 / kLanes<K>;

/// Sum of scale * key over `count` tokens, at most a group of them, from `token` on; by a whole warp, through its part
/// `stage` of shared memory: registers for all of the loads would leave none for the sums. Lane l adds 16 bytes of
/// every fourth (bf16: second) key; then it has dimensions first_dimension(l) + {0, 1, 2, 3} of the sum.
template <class K>
__device__ float4 sum_group(const Keys<K>& keys, int sequence, int token, int count, uint4 (*stage)[32]) {
  const int lane = static_cast<int>(threadIdx.x % 32), part = lane % kLanes<K>, row = lane / kLanes<K>;
  constexpr int kRows = 32 / kLanes<K>, kDims = 16 / sizeof(K);
  float scale = 0;
  const K* key = keys.values.data;
  if (lane < count) key = keys.vector(sequence, token + lane, scale);
#pragma unroll
  for (int i = 0; i < kEach; ++i) {
    const u64 from = __shfl_sync(0xffffffffu, __cvta_generic_to_global(key), kRows * i + row) + 16 * part;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(&stage[i][lane])), "l"(from),
                 "r"(kRows * i + row < count ? 16 : 0)
                 : "memory");
    asm volatile("cp.async.commit_group;" ::: "memory");
  }
  float sum[kDims] = {};
  const auto add = [&]<int I>(std::integral_constant<int, I>) {
    const float one = __shfl_sync(0xffffffffu, scale, kRows * I + row);
    wait_for_copies<kEach - 1 - I>();
    float value[kDims];
    widen(stage[I][lane], value);
#pragma unroll
    for (int d = 0; d < kDims; ++d) sum[d] = fmaf(one, value[d], sum[d]);
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
      half[d] += __shfl_xor_sync(0xffffffffu, upper ? sum[d] : sum[8 + d], 16);
    }
  }
#pragma unroll
  for (int d = 0; d < 4; ++d) {
    const bool upper = row % 2 == 1;
    quarter[d] = upper ? half[4 + d] : half[d];
    quarter[d] += __shfl_xor_sync(0xffffffffu, upper ? half[d] : half[4 + d], kLanes<K>);
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
  int first, last;  ///< lanes [first, last) know the ranges
  int sequence, begin, groups;
};

template <class K>
__global__ void __launch_bounds__(32 * kWarps, 1)
    pool_vectors_kernel(Keys<K> keys, Windows ranges, View<float, 2> means, int each) {
  extern __shared__ uint4 stages[][kEach][32];
  __shared__ float4 memory[kWarps + kMostTeams][32];
  wait_for_stream();
  const int lane = static_cast<int>(threadIdx.x % 32), warp = static_cast<int>(threadIdx.x / 32);
  const i64 first = static_cast<i64>(blockIdx.x) * each;
  const int count = static_cast<int>(min(static_cast<i64>(each), means.shape[0] - first));
  int sequence = 0, begin = 0, length = 0;
  if (lane < count) {
    sequence = ranges.sequence[first + lane];
    begin = ranges.begin[first + lane];
    length = max(0, ranges.end[first + lane] - begin);
  }
  const int before = __shfl_up_sync(0xffffffffu, begin, 1), sequence_before = __shfl_up_sync(0xffffffffu, sequence, 1);
  u32 leaders =
      __ballot_sync(0xffffffffu, lane < count && (lane == 0 || begin != before || sequence != sequence_before));
  const int log_teams = 32 - __clz(min(__popc(leaders), kMostTeams) - 1), teams = 1 << log_teams;
  const int size = kWarps >> log_teams, team = warp >> (kLogWarps - log_teams), self = warp & (size - 1);
  const auto barrier = [&] { asm volatile("bar.sync %0, %1;" ::"r"(team), "r"(32 * size) : "memory"); };
  float4(*sums)[32] = memory + team * (size + 1);

  for (int turn = 0; leaders != 0; ++turn) {
    const int lead = __ffs(static_cast<int>(leaders)) - 1;
    leaders &= leaders - 1;
    if ((turn & (teams - 1)) != team) continue;
    const Run run{lead, leaders == 0 ? count : __ffs(static_cast<int>(leaders)) - 1,
                  __shfl_sync(0xffffffffu, sequence, lead), __shfl_sync(0xffffffffu, begin, lead), 0};
    const int most = __reduce_max_sync(0xffffffffu, lane >= run.first && lane < run.last ? length / kGroup<K> : 0);
    float4 sum{0, 0, 0, 0};
    for (int base = 0;; base += size) {
      // sums[i]: of the first base + i groups.
      if (base + self < most) {
        sums[self + 1][lane] =
            sum_group(keys, run.sequence, run.begin + (base + self) * kGroup<K>, kGroup<K>, stages[warp]);
      }
      barrier();
      if (self == 0) {
        sums[0][lane] = sum;
        for (int i = 1; i <= min(size, most - base); ++i) {
          sum = sum + sums[i][lane];
          sums[i][lane] = sum;
        }
      }
      barrier();
      for (int i = run.first + self; i < run.last; i += size) {
        const int tokens = __shfl_sync(0xffffffffu, length, i), whole = tokens / kGroup<K>;
        if (whole > base + size || (whole <= base && base > 0)) continue;
        float4 mean = sums[whole - base][lane];
        if (tokens % kGroup<K> != 0) {
          mean = mean + sum_group(keys, run.sequence, run.begin + whole * kGroup<K>, tokens % kGroup<K>, stages[warp]);
        }
        const float divisor = static_cast<float>(max(1, tokens));
        float* to = &means(first + i, first_dimension<K>(lane));
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

/// Where the keys' vectors are of 128 dimensions and can be read 16 bytes at a time.
template <class K>
bool pool_vectors(const PoolTask& task, int processors, cudaStream_t stream) {
  const auto* vectors = std::get_if<View<const K, 3>>(&task.keys.values);
  if (vectors == nullptr || vectors->shape[2] != kDim || !vectors_align(*vectors)) return false;
  const i64 each = std::clamp<i64>(ceil_div(task.means.shape[0], processors), 1, kMostRanges);
  constexpr int kBytes = kWarps * kEach * 32 * 16;
  static const bool ready = [] {
    check(cudaFuncSetAttribute(pool_vectors_kernel<K>, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes),
          "pool: shared memory");
    return true;
  }();
  (void)ready;
  launch_early(pool_vectors_kernel<K>, ceil_div(task.means.shape[0], each), 32 * kWarps, kBytes, stream,
               Keys<K>{*vectors, task.keys.scales, task.keys.block_table}, task.ranges, task.means,
               static_cast<int>(each));
  return true;
}

}  // namespace

void pool(const PoolTask& task, int processors, cudaStream_t stream) {
  if (task.means.size() == 0) return;
  if (pool_vectors<E4m3>(task, processors, stream) || pool_vectors<Bf16>(task, processors, stream)) return;
  std::visit(
      [&](const auto& values) {
        using K = std::remove_const_t<std::remove_reference_t<decltype(*values.data)>>;
        pool_kernel<K>
            <<<static_cast<unsigned>(task.means.shape[0]), static_cast<unsigned>(task.means.shape[1]), 0, stream>>>(
                {values, task.keys.scales, task.keys.block_table}, task.ranges, task.means);
      },
      task.keys.values);
  check(cudaGetLastError(), "pool");
}

}  // namespace misa::cuda
