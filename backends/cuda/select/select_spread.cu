// A few windows of many columns: the blocks of a cluster hold a row's ranks in registers
//
// Each counts the digits of its own; then it adds up a slice of the bins over all blocks, by distributed shared memory,
// and gives every block the sums, so that all find the same k-th best. Each writes what is selected of its columns, for
// it knows how many the blocks before it select.
// One read of the scores. Bound by latencies: of the launch, of one read, and of two barriers of the cluster a digit.

#include <cooperative_groups.h>

#include "backends/cuda/pipeline/launch.cuh"
#include "backends/cuda/ptx/cp_async.cuh"
#include "backends/cuda/select/held.cuh"
#include "backends/cuda/select/select.cuh"

namespace misa::cuda::topk {
namespace {

namespace cg = cooperative_groups;

constexpr int kMostBlocks = 16, kFours = kBins / 4;
static_assert(kFours == kThreads);

/// Histograms of the blocks of a cluster.
struct Joint {
  uint4 parts[kFours];           ///< a slice of every block's
  uint4 sums[kFours];            ///< of all blocks, which each of them gives a slice
  unsigned counts[kMostBlocks];  ///< of what each block selects
};

/// Puts the sums over the blocks' histograms into each of them, with two barriers of the cluster within.
__device__ __forceinline__ void add_up(const Block& team, Counters& shared, Joint& joint,
                                       const cg::cluster_group& cluster, int blocks, int block) {
  uint4* const own = reinterpret_cast<uint4*>(shared.histogram);
  const int slice = kFours / blocks, from = slice * block;
  cluster.sync();
  joint.parts[team.thread] = cluster.map_shared_rank(own, team.thread / slice)[from + team.thread % slice];
  team.sync();
  if (team.thread < slice) {
    uint4 sum = joint.parts[team.thread];
#pragma unroll 4
    for (int b = 1; b < blocks; ++b) {
      const uint4 part = joint.parts[b * slice + team.thread];
      sum = {sum.x + part.x, sum.y + part.y, sum.z + part.z, sum.w + part.w};
    }
    for (int b = 0; b < blocks; ++b) cluster.map_shared_rank(joint.sums, b)[from + team.thread] = sum;
  }
  cluster.sync();
  // find_digit() has a thread take the bins from the best on.
  own[kFours - 1 - team.thread] = joint.sums[kFours - 1 - team.thread];
}

template <int kEach>
__global__ void __launch_bounds__(kThreads, 2) select_spread_kernel(__grid_constant__ const Task task) {
  extern __shared__ float4 columns[];
  __shared__ Counters shared;
  __shared__ Joint joint;
  const cg::cluster_group cluster = cg::this_cluster();
  const int blocks = static_cast<int>(cluster.num_blocks()), block = static_cast<int>(cluster.block_rank());
  Held<kThreads, kEach> held(static_cast<int>(threadIdx.x));
  const Block& team = held.team;
  const int width = static_cast<int>(task.logits.shape[1]), k = static_cast<int>(task.selected.shape[1]);
  const i64 m = blockIdx.x / static_cast<unsigned>(blocks);
  const int each = (width / 4 + blocks - 1) / blocks * 4, from = min(width, each * block),
            vectors = min(width - from, each) / 4;

  wait_for_stream();
  const float4* const scores = reinterpret_cast<const float4*>(&task.logits(m, from));
  const u32 to = static_cast<u32>(__cvta_generic_to_shared(columns + team.thread));
#pragma unroll
  for (int i = 0; i < kEach / 4; ++i) {
    if (team.thread + i * kThreads < vectors) {
      copy_async(to + 16 * i * kThreads, scores + team.thread + i * kThreads);
    }
  }
  const int visible = max(0, min(width, task.windows.end[m] - task.windows.begin[m]));
  reinterpret_cast<uint4*>(shared.histogram)[team.thread] = make_uint4(0, 0, 0, 0);
  commit_copies();
  wait_for_copies<0>();
  team.sync();
  held.load(columns, min(4 * vectors, visible - from));

  Cut cut{0, k, false};
#pragma unroll
  for (int round = 0; round < kRounds && visible > k; ++round) {
    held.count(shared, round, cut);
    add_up(team, shared, joint, cluster, blocks, block);
    find_digit(team, shared, cut.wanted);
    team.sync();
    held.narrow(shared, round, cut);
    if (!cut.tied) break;
  }
  if (visible > k)
    held.take(cut);
  else
    held.take_all();
  unsigned total = 0;
  const unsigned counts = scan(team, shared, held.counts(), total);
  if (visible <= k) cluster.sync();  // every block has started
  if (team.thread < blocks) *cluster.map_shared_rank(&joint.counts[block], team.thread) = total;
  cluster.sync();
  int before = static_cast<int>(counts & 0xffffu), ties = static_cast<int>(counts >> 16);
  for (int b = 0; b < block; ++b) {
    before += static_cast<int>(joint.counts[b] & 0xffffu);
    ties += static_cast<int>(joint.counts[b] >> 16);
  }
  held.write(cut, before, ties, from, &task.selected(m, 0));
  for (int i = visible + kThreads * block + team.thread; i < k; i += kThreads * blocks) task.selected(m, i) = -1;
}

/// As many blocks as have an SM to themselves, of more than 4096 columns.
int blocks_of(const Task& task, int num_sms) {
  const i64 rows = task.logits.shape[0], width = task.logits.shape[1];
  int blocks = 1;
  while (blocks < kMostBlocks && 2 * blocks * rows <= num_sms && width > 8192 * blocks) blocks *= 2;
  return blocks;
}

}  // namespace

bool is_spread(const Task& task, int num_sms) {
  const i64 width = task.logits.shape[1], blocks = blocks_of(task, num_sms);
  return is_plain(task) && blocks > 1 && width <= blocks * 32 * kThreads;
}

void select_spread(const Task& task, int num_sms, cudaStream_t stream) {
  const i64 rows = task.logits.shape[0], blocks = blocks_of(task, num_sms);
  const bool small = task.logits.shape[1] <= blocks * 16 * kThreads;
  const auto kernel = small ? select_spread_kernel<16> : select_spread_kernel<32>;
  launch_kernel("select", kernel, {rows * blocks, kThreads, 4 * kThreads * (small ? 16 : 32), stream, blocks}, true,
                task);
}

}  // namespace misa::cuda::topk
