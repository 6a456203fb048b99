#pragma once

#include <cstdint>

#include "backends/cuda/ptx/cp_async.cuh"
#include "backends/cuda/select/row.cuh"

// Rows on their way from global memory to a team.

namespace misa::cuda::topk {

/// The 16-byte vectors of a row's columns from `from` to `to`.
struct Piece {
  const float* scores = nullptr;
  int head = 0, vectors = 0;  ///< the first column of the first vector, and how many there are
  bool last = false;          ///< nothing comes after it

  template <class Row>
  __device__ __forceinline__ Piece(const Row& row, int from, int to, bool last_) : last(last_) {
    const int edge = static_cast<int>((128 - reinterpret_cast<std::uintptr_t>(row.scores + from) % 128) % 128 / 4);
    head = min(to, from + edge);
    vectors = (to - head) / 4;
    scores = row.scores + head;
  }
};

/// Pieces of rows on their way to a team, in chunks that stand in a ring of shared memory. A thread reads what it asked
/// for itself, so that nobody waits for another.
template <int kVectors, int kStages, class PieceOf>
class Stream {
 public:
  static constexpr int kChunk = kVectors * kThreads;  ///< vectors

  __device__ __forceinline__ Stream(float4* ring, int thread, const PieceOf& piece_of)
      : ring_(ring + thread), thread_(thread), piece_of_(piece_of), piece_(piece_of(0)) {
#pragma unroll
    for (int i = 0; i < kStages - 1; ++i) ask();
  }

  /// Calls `visit` with the thread's part of each chunk of the next `vectors` vectors, one in kThreads of them, the
  /// first one's number and how many there are from it.
  template <class Visit>
  __device__ __forceinline__ void read(int vectors, const Visit& visit) {
    for (int base = 0; base < vectors; base += kChunk) {
      ask();
      wait_for_copies<kStages - 1>();
      visit(ring_ + kChunk * read_, base + thread_, vectors - base - thread_);
      read_ = read_ + 1 == kStages ? 0 : read_ + 1;
    }
  }

 private:
  __device__ __forceinline__ void ask() {
    while (at_ >= piece_.vectors && !piece_.last) {
      piece_ = piece_of_(++index_);
      at_ = 0;
    }
    const u32 to = static_cast<u32>(__cvta_generic_to_shared(ring_ + kChunk * asked_));
    const float4* from = reinterpret_cast<const float4*>(piece_.scores) + at_ + thread_;
#pragma unroll
    for (int i = 0; i < kVectors; ++i) {
      if (at_ + thread_ + i * kThreads < piece_.vectors) {
        copy_async(to + 16 * i * kThreads, from + i * kThreads);
      }
    }
    commit_copies();
    at_ += kChunk;
    asked_ = asked_ + 1 == kStages ? 0 : asked_ + 1;
  }

  float4* ring_;
  int thread_;
  const PieceOf& piece_of_;
  Piece piece_;
  int index_ = 0, at_ = 0, asked_ = 0, read_ = 0;
};

}  // namespace misa::cuda::topk
