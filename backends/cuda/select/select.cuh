#pragma once

#include "backends/cuda/select/row.cuh"

// The ways to select: each takes a task that it is asked about first, and puts its kernel on the stream.

namespace misa::cuda::topk {

/// Rows of few columns.
bool is_short(const Task& task);
void select_short(const Task& task, cudaStream_t stream);

/// Rows of any number of columns, unless k is too large for what a block can keep.
bool is_sampled(const Task& task);
void select_sampled(Task task, int processors, cudaStream_t stream);

}  // namespace misa::cuda::topk
