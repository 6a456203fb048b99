// logits[m, c] = k_scale * sum over h of weights[m, h] * relu(q[m, h] . k): FP8, head_dim 128, few rows over windows
//
// Decode: up to two or four neighbouring rows of one sequence form a run and share one read of its keys. The tiles of
// 64 keys of all runs form one line, which is cut into equal parts, one a block; each block finds its part from the
// windows alone. Two warps bring keys and scales, box by box of a page, through a deep ring (TMA);
// warpgroups take turns at the tiles, three where runs are of up to two rows, else two with more registers: keys x the
// heads of a run on the tensor cores, then the head sum of score_tile.cu. Two more warps write -inf where no row sees a
// key. Bound by memory, 132 bytes a key; from four rows of 64 heads on by the tensor cores.

#include <algorithm>
#include <cstdint>
#include <limits>

#include "backends/cuda/kernels.hpp"
#include "backends/cuda/pipeline/keys.cuh"
#include "backends/cuda/pipeline/launch.cuh"
#include "backends/cuda/pipeline/ring.cuh"
#include "backends/cuda/ptx/tma.cuh"
#include "backends/cuda/ptx/warp.cuh"
#include "backends/cuda/ptx/wgmma.cuh"
#include "backends/cuda/score/head_sum.cuh"

namespace misa::cuda {
namespace {

constexpr int kDim = 128, kTileKeys = 64, kMaxRows = 512, kProducers = 2;
/// Warpgroups that score where runs are of up to RunRows rows.
template <int RunRows>
constexpr int kConsumers = RunRows > 2    ? 2
                           : RunRows == 2 ? 3
                                          : 4;
/// Registers of a thread that scores and of one that copies; their sum over the block is that of the launch.
template <int RunRows>
constexpr int kScoring = RunRows > 2    ? 224
                         : RunRows == 2 ? 152
                                        : 104;
template <int RunRows>
constexpr int kCopying = RunRows > 1 ? 56 : 64;
template <int RunRows>
constexpr int kThreads = 128 * (kConsumers<RunRows> + 1);
/// Stages of the ring, a multiple of the copying warps and of the warpgroups, so that each stage belongs to one of
/// both: a parity does not tell a round from the one before the last.
template <int RunRows>
constexpr int kStages = RunRows > 2    ? 16
                        : RunRows == 2 ? 18
                                       : 20;
constexpr int kQueryStages = 2;
constexpr int kScaleStep = 32;        // copies go to multiples of 128 bytes
constexpr int kHiddenColumns = 4096;  // that a warp fills with -inf at once

struct Arguments {
  View<const float, 2> weights;  ///< [M, H]
  View<const i32, 2> table;      ///< empty: contiguous
  int page_size;
  int box;         ///< keys that one copy brings: of one page
  int scale_step;  ///< from one copy's scales to the next one's
  bool scaled;     ///< otherwise every scale is 1
  Windows windows;
  View<float, 2> logits;
  int rows;
};

/// The tiles of all runs in one line, by the row that opens a run; other rows have none.
struct Line {
  int sequence[kMaxRows], begin[kMaxRows], end[kMaxRows];
  int count[kMaxRows];  ///< rows of the run
  int last[kMaxRows];   ///< after the run's last tile
  int shift[kMaxRows];  ///< from a tile's number in the line to its number in the sequence
  int high[kMaxRows];   ///< after the last token that the run sees
};

template <int H, int RunRows>
struct Shared {
  static_assert(kStages<RunRows> % kConsumers<RunRows> == 0 && kStages<RunRows> % kProducers == 0);
  alignas(1024) u8 queries[kQueryStages][RunRows * H * kDim];
  alignas(1024) u8 keys[kStages<RunRows>][kTileKeys * kDim];
  alignas(128) float scales[kStages<RunRows>][kTileKeys / 8 * kScaleStep];
  Line line;
  Ring<kStages<RunRows>> ring;
  Ring<kQueryStages> query_ring;
};

/// Lays out the tiles of all runs in a line; by one warp.
template <int RunRows>
__device__ void lay_out(Line& line, int rows) {
  const int lane = static_cast<int>(threadIdx.x % 32);
  int tiles_before = 0, opened = 0;  // the first row of the sequence that row `base` continues
  for (int base = 0; base < rows; base += 32) {
    const int row = base + lane;
    const bool fresh = row < rows && (row == 0 || line.sequence[row] != line.sequence[row - 1]);
    const unsigned openings = __ballot_sync(kFullWarp, fresh) & (kFullWarp >> (31 - lane));
    if (openings != 0) opened = base + 31 - __clz(static_cast<int>(openings));
    int count = 0, low = 0x7fffffff, high = 0;
    if (row < rows && (row - opened) % RunRows == 0) {
      for (; count < RunRows && row + count < rows && line.sequence[row + count] == line.sequence[row]; ++count) {
        const int begin = line.begin[row + count], end = line.end[row + count];
        if (begin < end) {
          low = min(low, begin);
          high = max(high, end);
        }
      }
    }
    const int first = low / kTileKeys, tiles = low < high ? (high + kTileKeys - 1) / kTileKeys - first : 0;
    int last = tiles;
#pragma unroll
    for (int step = 1; step < 32; step *= 2) {
      const int before = __shfl_up_sync(kFullWarp, last, step);
      if (lane >= step) last += before;
    }
    last += tiles_before;
    if (row < rows) {
      line.count[row] = count;
      line.last[row] = last;
      line.shift[row] = first - (last - tiles);
      line.high[row] = high;
    }
    tiles_before = __shfl_sync(kFullWarp, last, 31);
    opened = __shfl_sync(kFullWarp, opened, 31);
  }
}

/// The block's tiles of one run.
struct Part {
  int row, count;
  int first, last;  ///< tiles [first, last) of the line
};

/// Calls `body(part)` for each run of which this block has tiles. Tile t is number t - first_tile() of the block.
template <class Body>
__device__ void for_each_part(const Line& line, int rows, const Body& body) {
  const i64 tiles = line.last[rows - 1];
  int tile = static_cast<int>(tiles * blockIdx.x / gridDim.x), row = 0;
  const int end = static_cast<int>(tiles * (blockIdx.x + 1) / gridDim.x);
  for (int step = kMaxRows / 2; step > 0; step /= 2) {
    if (row + step <= rows && line.last[row + step - 1] <= tile) row += step;
  }
  while (tile < end) {
    while (line.last[row] <= tile) ++row;
    const int last = min(end, line.last[row]);
    body(Part{row, line.count[row], tile, last});
    tile = last;
  }
}

__device__ inline int first_tile(const Line& line, int rows) {
  return static_cast<int>(static_cast<i64>(line.last[rows - 1]) * blockIdx.x / gridDim.x);
}

/// Brings queries, keys and scales, as warp `self` of the kProducers that take turns at the tiles: one alone is slower
/// than the memory.
template <int H, int RunRows>
__device__ void copy(const Arguments& arguments, const CUtensorMap& query_map, const CUtensorMap& key_map,
                     const CUtensorMap& scale_map, Shared<H, RunRows>& shared, int self) {
  const Line& line = shared.line;
  const int lane = static_cast<int>(threadIdx.x % 32), origin = first_tile(line, arguments.rows);
  const int box = arguments.box, boxes = kTileKeys / box;  // of a tile
  Cursor<kStages<RunRows>> at{self};
  Cursor<kQueryStages> query_at;
  for_each_part(line, arguments.rows, [&](const Part& part) {
    const int sequence = line.sequence[part.row], high = line.high[part.row];
    const int begin = (part.first + line.shift[part.row]) * kTileKeys;
    const bool paged = arguments.table.data != nullptr;
    // The page and the slot of the box that begins at `token`; divisions are long.
    const auto find = [&](int token) {
      if (!paged || token >= high) return int2{0, token};
      const u32 size = static_cast<u32>(arguments.page_size), page = static_cast<u32>(token) / size;
      return int2{arguments.table(sequence, page), static_cast<int>(static_cast<u32>(token) - page * size)};
    };
    int token = begin + lane * box;
    int2 from = find(token);
    if (self == 0 && lane == 0) {
      const u32 full = shared.query_ring.full_at(query_at.stage);
      shared.query_ring.wait_empty(query_at);
      barrier_expect(full, static_cast<u32>(part.count * H * kDim));
      for (int i = 0; i < part.count; ++i) {
        tma_load(shared_address(shared.queries[query_at.stage] + i * H * kDim), query_map, full, 0, 0, part.row + i);
      }
    }
    query_at.advance();
    for (int tile = part.first; tile < part.last;) {
      const int2 next = find(token + 32 * box);
      for (int first_lane = 0; first_lane < 32 && tile < part.last; first_lane += boxes, ++tile) {
        if (static_cast<u32>(tile - origin) % kProducers != static_cast<u32>(self)) continue;
        const u32 full = shared.ring.full_at(at.stage);
        shared.ring.wait_empty(at);
        const bool mine = lane >= first_lane && lane < first_lane + boxes && token < high;
        const int copies = __popc(__ballot_sync(kFullWarp, mine));
        if (lane == 0) {
          barrier_expect(full, static_cast<u32>(copies * box * (arguments.scaled ? kDim + 4 : kDim)));
        }
        __syncwarp();
        if (mine) {
          const int i = lane - first_lane;
          tma_load(shared_address(shared.keys[at.stage] + i * box * kDim), key_map, full, 0, from.y, from.x);
          if (arguments.scaled) {
            const float* to = shared.scales[at.stage] + i * arguments.scale_step;
            tma_load(shared_address(to), scale_map, full, from.y, from.x);
          }
        }
        at.advance(kProducers);
      }
      token += 32 * box;
      from = next;
    }
  });
}

/// Writes -inf to the columns after the windows' ends, as thread `self` of `threads`.
__device__ void hide(const Arguments& arguments, const Line& line, int self, int threads) {
  const int columns = static_cast<int>(arguments.logits.shape[1]);
  const int pieces = (columns + kHiddenColumns - 1) / kHiddenColumns * arguments.rows;
  for (int piece = static_cast<int>(blockIdx.x); piece < pieces; piece += static_cast<int>(gridDim.x)) {
    const int row = piece % arguments.rows, from = piece / arguments.rows * kHiddenColumns;
    const int to = min(columns, from + kHiddenColumns);
    float* logits = &arguments.logits(row, 0);
    for (int c = max(from, line.end[row] - line.begin[row]) + self; c < to; c += threads) {
      logits[c] = -std::numeric_limits<float>::infinity();
    }
  }
}

/// One of the warpgroups that take turns at the tiles.
template <int H, int RunRows>
class Scorer {
 public:
  __device__ Scorer(const Arguments& arguments, Shared<H, RunRows>& shared, int self)
      : arguments_(arguments),
        shared_(shared),
        origin_(first_tile(shared.line, arguments.rows)),
        self_(self),
        thread_(static_cast<int>(threadIdx.x % 128)),
        at_{self} {}

  __device__ void run() {
    for_each_part(shared_.line, arguments_.rows, [&](const Part& part) {
      if (part.count == 1) return score<1>(part);
      if constexpr (RunRows > 1) {
        if (part.count == 2) return score<2>(part);
      }
      if constexpr (RunRows > 2) part.count == 3 ? score<3>(part) : score<4>(part);
    });
  }

 private:
  static constexpr int kTurns = kConsumers<RunRows>;

  /// The row of two of which this lane stores scores, and the tokens that the row sees.
  struct Target {
    float* logits;  ///< of token 0
    int begin, visible;
  };

  /// Scores keys against Rows rows: multiplies the last two while it reduces the first two.
  template <int Rows>
  __device__ void score(const Part& part) {
    constexpr int kLow = Rows < 2 ? 1 : 2, kHigh = Rows - kLow;
    const int quad = thread_ % 4;
    const int key = thread_ / 32 * 16 + thread_ % 32 / 4 + quad % 2 * 8;  // that this lane stores
    const int scale_at = key / arguments_.box * arguments_.scale_step + key % arguments_.box;
    SpreadHeads<H> heads[Rows];
#pragma unroll
    for (int i = 0; i < Rows; ++i) heads[i] = SpreadHeads<H>(arguments_.weights, part.row + i);
    Target targets[(Rows + 1) / 2];
#pragma unroll
    for (int i = 0; i < (Rows + 1) / 2; ++i) {
      const int row = part.row + min(2 * i + quad / 2, Rows - 1);
      const int begin = shared_.line.begin[row];
      const bool owner = 2 * i + quad / 2 < Rows;
      targets[i] = {&arguments_.logits(row, 0) - begin, begin, owner ? max(0, shared_.line.end[row] - begin) : 0};
    }
    const u64 b = wgmma_operand(shared_address(shared_.queries[query_at_.stage]));
    const int shift = shared_.line.shift[part.row];
    shared_.query_ring.wait_full(query_at_);
    const int ahead = (part.first - origin_) % kTurns;  // tile t of the block is that of group t % kTurns
    for (int tile = part.first + (self_ + kTurns - ahead) % kTurns; tile < part.last; tile += kTurns) {
      shared_.ring.wait_full(at_);
      const u64 a = wgmma_operand(shared_address(shared_.keys[at_.stage]));
      float low[kLow * H / 2], high[kHigh > 0 ? kHigh * H / 2 : 1];
      multiply(low, a, b);
      if constexpr (kHigh > 0) multiply(high, a, b + (kLow * H * kDim >> 4));
      const float scale = arguments_.scaled ? shared_.scales[at_.stage][scale_at] : 1.0f;
      const int token = (tile + shift) * kTileKeys + key;
      wgmma_wait<kHigh == 0 ? 0 : 1>();
      if constexpr (kHigh == 0) shared_.ring.release(at_.stage);
      reduce<kLow>(low, heads, targets[0], token, scale);
      if constexpr (kHigh > 0) {
        wgmma_wait<0>();
        shared_.ring.release(at_.stage);
        reduce<kHigh>(high, heads + kLow, targets[1], token, scale);
      }
      at_.advance(kTurns);
    }
    shared_.query_ring.release(query_at_.stage);
    query_at_.advance();
  }

  template <int Count>
  __device__ static void multiply(float (&dots)[Count], u64 a, u64 b) {
    wgmma_fence();
#pragma unroll
    for (int step = 0; step < kDim / 32; ++step) wgmma<2 * Count>(dots, a + 2 * step, b + 2 * step, step > 0);
    wgmma_commit();
  }

  template <int Rows, int Count>
  __device__ static void reduce(const float (&dots)[Count], const SpreadHeads<H>* heads, const Target& target,
                                int token, float scale) {
    float partial[2][2] = {};
#pragma unroll
    for (int i = 0; i < Rows; ++i) {
#pragma unroll
      for (int r = 0; r < 2; ++r) partial[i][r] = heads[i].partial(dots, i * H / 2, r);
    }
    const float sum = sum_partials(partial);
    if (static_cast<u32>(token - target.begin) < static_cast<u32>(target.visible)) target.logits[token] = scale * sum;
  }

  const Arguments& arguments_;
  Shared<H, RunRows>& shared_;
  const int origin_, self_, thread_;
  Cursor<kStages<RunRows>> at_;
  Cursor<kQueryStages> query_at_;
};

/// H: heads, rounded up to a power of two from 8 on; the missing ones have weight 0.
template <int H, int RunRows>
__global__ void __launch_bounds__(kThreads<RunRows>, 1)
    score_pages_kernel(const __grid_constant__ Arguments arguments, const __grid_constant__ CUtensorMap query_map,
                       const __grid_constant__ CUtensorMap key_map, const __grid_constant__ CUtensorMap scale_map) {
  auto& shared = shared_as<Shared<H, RunRows>>();
  const int thread = static_cast<int>(threadIdx.x), group = thread / 128, warp = thread / 32 % 4;
  if (thread == 0) {
    tma_prefetch(query_map);
    tma_prefetch(key_map);
    if (arguments.scaled) tma_prefetch(scale_map);
    shared.ring.init(1, 4);
    shared.query_ring.init(1, 4 * kConsumers<RunRows>);
    barrier_fence();
  }
  wait_for_stream();
  for (int row = thread; row < arguments.rows; row += kThreads<RunRows>) {
    shared.line.sequence[row] = arguments.windows.sequence[row];
    shared.line.begin[row] = arguments.windows.begin[row];
    shared.line.end[row] = arguments.windows.end[row];
  }
  __syncthreads();
  if (thread < 32) lay_out<RunRows>(shared.line, arguments.rows);
  __syncthreads();
  if (group == kConsumers<RunRows>) {
    shrink_registers<kCopying<RunRows>>();
    if (warp < kProducers) {
      copy(arguments, query_map, key_map, scale_map, shared, warp);
    } else {
      hide(arguments, shared.line, thread % 128 - 32 * kProducers, 128 - 32 * kProducers);
    }
  } else {
    grow_registers<kScoring<RunRows>>();
    Scorer<H, RunRows>(arguments, shared, group).run();
  }
}

template <int H, int RunRows>
void launch_runs(const ScoreTask& task, int num_sms, cudaStream_t stream) {
  const auto& queries = std::get<View<const E4m3, 3>>(task.queries.values);
  const auto& keys = std::get<View<const E4m3, 3>>(task.keys.values);
  const View<const float, 2>& scales = task.keys.scales;
  const View<float, 2> logits = std::get<View<float, 2>>(task.logits);
  Arguments arguments{.weights = {},
                      .table = task.keys.block_table,
                      .page_size = static_cast<int>(keys.shape[1]),
                      .box = kTileKeys,
                      .scale_step = 0,
                      .scaled = scales.data != nullptr,
                      .windows = {},
                      .logits = {},
                      .rows = 0};
  while (arguments.table.data != nullptr && keys.shape[1] % arguments.box != 0) arguments.box /= 2;
  arguments.scale_step = std::max(arguments.box, kScaleStep);
  const CUtensorMap key_map = tensor_map<3>(keys.data, {kDim, keys.shape[1], keys.shape[0]},
                                            {keys.stride[1], keys.stride[0]}, {kDim, arguments.box, 1});
  CUtensorMap scale_map{};
  if (arguments.scaled) {
    // The only page of contiguous keys needs no stride.
    const i64 step = scales.shape[0] == 1 ? ceil_div(scales.shape[1], 4) * 16 : scales.stride[0] * 4;
    scale_map = tensor_map<2>(scales.data, {scales.shape[1], scales.shape[0]}, {step}, {arguments.box, 1},
                              CU_TENSOR_MAP_DATA_TYPE_FLOAT32);
  }
  for (i64 first = 0; first < logits.shape[0]; first += kMaxRows) {
    const i64 rows = std::min<i64>(kMaxRows, logits.shape[0] - first);
    arguments.weights = task.queries.weights.slice(first, rows);
    arguments.windows = slice(task.windows, first, rows);
    arguments.logits = logits.slice(first, rows);
    arguments.rows = static_cast<int>(rows);
    const View<const E4m3, 3> part = queries.slice(first, rows);
    const CUtensorMap query_map =
        tensor_map<3>(part.data, {kDim, part.shape[1], rows}, {part.stride[1], part.stride[0]}, {kDim, H, 1});
    launch_kernel("score_pages", score_pages_kernel<H, RunRows>,
                  {num_sms, kThreads<RunRows>, sizeof(Shared<H, RunRows>), stream}, true, arguments, query_map, key_map,
                  scale_map);
  }
}

/// Runs of more than one or two rows need more than one or two rows a sequence.
template <int H>
void launch(const ScoreTask& task, int num_sms, cudaStream_t stream) {
  const View<const i32, 2>& table = task.keys.block_table;
  const i64 sequences = table.data != nullptr ? table.shape[0] : 1;
  const i64 rows = rows_of(task.queries);
  const auto launch_some = rows <= sequences       ? launch_runs<H, 1>
                           : rows <= 2 * sequences ? launch_runs<H, 2>
                                                   : launch_runs<H, 4>;
  launch_some(task, num_sms, stream);
}

}  // namespace

bool shares_pages(const ScoreTask& task) {
  const auto* queries = std::get_if<View<const E4m3, 3>>(&task.queries.values);
  const auto* keys = std::get_if<View<const E4m3, 3>>(&task.keys.values);
  if (queries == nullptr || keys == nullptr || task.candidates || queries->shape[2] != kDim) return false;
  if (queries->shape[1] > 64 || keys->shape[0] * keys->shape[1] == 0) return false;
  if (!vectors_align(*queries) || !vectors_align(*keys)) return false;
  if (task.keys.block_table.data != nullptr && keys->shape[1] % 8 != 0) return false;
  const View<const float, 2>& scales = task.keys.scales;
  return scales.data == nullptr || (reinterpret_cast<std::uintptr_t>(scales.data) % 16 == 0 && scales.stride[1] == 1 &&
                                    (scales.shape[0] == 1 || scales.stride[0] % 4 == 0));
}

void score_shared_pages(const ScoreTask& task, int num_sms, cudaStream_t stream) {
  with_heads(heads_of(task.queries), [&]<int H>() { launch<H>(task, num_sms, stream); });
}

}  // namespace misa::cuda
