#pragma once

#include <cstdint>

#include "backends/cuda/select/row.cuh"

// The ways to select: each takes a task that it is asked about first, and puts its kernel on the stream.

namespace misa::cuda::topk {

/// Whether rows are windows without forced columns that can be read 16 bytes at a time.
inline bool is_plain(const Task& task) {
  const View<const float, 2>& logits = task.logits;
  return !task.columns.listed && task.forced() == 0 && logits.stride[1] == 1 && logits.shape[1] % 4 == 0 &&
         logits.stride[0] % 4 == 0 && reinterpret_cast<std::uintptr_t>(logits.data) % 16 == 0;
}

/// Many windows of a number of columns that a block can hold in registers.
bool is_held(const Task& task, int num_sms);
void select_held(Task task, int num_sms, cudaStream_t stream);

/// A few windows of many columns.
bool is_spread(const Task& task, int num_sms);
void select_spread(const Task& task, int num_sms, cudaStream_t stream);

/// Rows of few columns.
bool is_short(const Task& task);
void select_short(const Task& task, cudaStream_t stream);

/// Rows of any number of columns, unless k is too large for what a block can keep, all of it is forced, or a list has
/// forced columns.
bool is_sampled(const Task& task);
void select_sampled(Task task, int num_sms, cudaStream_t stream);

}  // namespace misa::cuda::topk
