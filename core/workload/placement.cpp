#include "core/workload/placement.hpp"

#include <algorithm>
#include <cmath>

#include "core/base/error.hpp"
#include "core/base/interrupt.hpp"
#include "core/workload/key_layout.hpp"
#include "core/workload/workload_fields.hpp"

namespace misa {
namespace {

/// L2 norms of the unquantised queries, where the workload lets us know them: recorded, or |q| * q_scale.
HostTensor query_norms(const Workload& workload) {
  if (!workload.q_norm.empty()) {
    return HostTensor::from(workload.q_norm.span<const float>(), workload.q_norm.shape);
  }
  const bool quantised = key_scale_bytes(workload.q.dtype, 0) > 0;  // and divided by a scale
  if (quantised && workload.q_scale.empty()) return {};
  HostTensor norms(Dtype::f32, {workload.rows(), workload.heads()});
  const auto out = norms.span<float>();
  const i64 heads = workload.heads();
  visit_queries(workload, [&](const auto& queries) {
    for (std::size_t i = 0; i < out.size(); ++i) {
      const auto query = vector_of(queries, static_cast<i64>(i) / heads, static_cast<i64>(i) % heads);
      double squares = 0;
      for (i64 d = 0; d < workload.head_dim(); ++d) {
        const double value = to_float(query[d]);
        squares += value * value;
      }
      out[i] = static_cast<float>(std::sqrt(squares) * (quantised ? workload.q_scale.span<const float>()[i] : 1.0f));
    }
  });
  return norms;
}

/// Vectors [n, m, D] of which each row [m, D] begins `row_bytes` after the one before; `scales`: of MXFP4, its rows
/// too.
Values values_of(Dtype dtype, const std::byte* data, const std::byte* scales, std::array<i64, 3> shape, i64 row_bytes,
                 i64 scale_row_bytes) {
  const i64 dim = shape[2];
  std::array<i64, 3> stride{row_bytes * dim / dtype_bytes(dtype, dim), dim, 1};
  switch (dtype) {
    case Dtype::int8: return View<const i8, 3>(reinterpret_cast<const i8*>(data), shape, stride);
    case Dtype::e2m1: {
      const i64 width = key_scale_bytes(dtype, dim);
      return Mxfp4View({reinterpret_cast<const u8*>(data), {shape[0], shape[1], dim / 2}, {row_bytes, dim / 2, 1}},
                       {reinterpret_cast<const u8*>(scales), {shape[0], shape[1], width}, {scale_row_bytes, width, 1}});
    }
    case Dtype::f32: return View<const float, 3>(reinterpret_cast<const float*>(data), shape, stride);
    case Dtype::bf16: return View<const Bf16, 3>(reinterpret_cast<const Bf16*>(data), shape, stride);
    case Dtype::e4m3: return View<const E4m3, 3>(reinterpret_cast<const E4m3*>(data), shape, stride);
    default:
      throw Error(ErrorKind::internal, "MP-E701", "no indexer reads values of " + std::string(dtype_name(dtype)));
  }
}

}  // namespace

Shape shape_of(const Workload& workload) {
  Shape shape{.rows = workload.rows(),
              .heads = workload.heads(),
              .head_dim = workload.head_dim(),
              .keys = workload.keys(),
              .dtype = workload.q.dtype,
              .paged = workload.paged(),
              .key_dtype = key_layout(workload).dtype};
  for (std::size_t m = 0; m < workload.ks.size(); ++m) {
    shape.max_window = std::max<i64>(shape.max_window, workload.ke[m] - workload.ks[m]);
  }
  return shape;
}

Problem outline_of(const Workload& workload) {
  Problem problem;
  problem.shape = shape_of(workload);
  problem.sequence = workload.sequence;
  problem.begin = workload.ks;
  problem.end = workload.ke;
  if (!workload.candidates.empty()) {
    const i64 runs = workload.candidates.shape[1], length = workload.candidate_length;
    const auto ids = workload.candidates.span<const i32>();
    problem.given_runs = runs;
    problem.given_length = length;
    for (std::size_t m = 0; m < workload.ks.size(); ++m) {
      i64 keys = 0;
      for (const i32 id : ids.subspan(m * static_cast<std::size_t>(runs), static_cast<std::size_t>(runs))) {
        if (id >= 0) keys += std::clamp<i64>(workload.ke[m] - workload.ks[m] - id * length, 0, length);
      }
      problem.given_keys.push_back(static_cast<i32>(keys));
    }
  }
  if (workload.paged()) {
    const auto lengths = workload.seq_lens.span<const i32>();
    for (const i32 tokens : lengths) problem.lengths.push_back(static_cast<i32>(workload.keys_after(tokens)));
  }
  return problem;
}

i64 Placement::bytes_needed(const Workload& workload) {
  i64 bytes = workload.rows() * workload.heads() * 4;  // norms
  visit_fields([&](const WorkloadField& field, auto member) {
    if (field.use == Use::placed) bytes += bytes_of(workload.*member);
  });
  return bytes;
}

Placement::Placement(Backend& backend, const Workload& workload) : problem_(outline_of(workload)) {
  const auto place_bytes = [&](const std::byte* data, i64 bytes) {
    constexpr i64 kPiece = 1 << 26;
    buffers_.emplace_back(backend, bytes);
    for (i64 at = 0; at < bytes; at += kPiece) {
      stop_if_interrupted();
      backend.upload(buffers_.back().data() + at, data + at, std::min(kPiece, bytes - at));
    }
    problem_.bytes += bytes;
    return buffers_.back().data();
  };
  const auto place = [&](const HostTensor& tensor) { return place_bytes(tensor.storage.data(), tensor.bytes()); };
  const auto place_indices = [&](const std::vector<i32>& values) {
    const i64 count = static_cast<i64>(values.size());
    std::byte* data = place_bytes(reinterpret_cast<const std::byte*>(values.data()), count * 4);
    return View<const i32, 1>(reinterpret_cast<const i32*>(data), {count});
  };

  const i64 rows = workload.rows(), heads = workload.heads(), dim = workload.head_dim();
  const std::byte* queries = place(workload.q);
  const std::byte* block_scales = workload.q_block_scale.empty() ? nullptr : place(workload.q_block_scale);
  problem_.queries.values =
      values_of(workload.q.dtype, queries, block_scales, {rows, heads, dim}, heads * dtype_bytes(workload.q.dtype, dim),
                heads * key_scale_bytes(workload.q.dtype, dim));
  problem_.queries.weights = {reinterpret_cast<const float*>(place(workload.weights)), {rows, heads}};
  if (const HostTensor norms = query_norms(workload); !norms.empty()) {
    problem_.norms = {reinterpret_cast<const float*>(place(norms)), {rows, heads}};
  }

  const KeyLayout layout = key_layout(workload);
  const bool scaled = layout.scale_bytes > 0 && layout.dtype != Dtype::e2m1;
  if (workload.paged()) {
    const i64 pages = workload.k_pages.shape.at(0), size = layout.page_size, page_bytes = layout.page_bytes();
    const std::byte* data = place(workload.k_pages);
    const std::byte* scales = data + layout.scales_at(0);
    problem_.keys.values = values_of(layout.dtype, data, scales, {pages, size, dim}, page_bytes, page_bytes);
    if (scaled) {
      problem_.keys.scales = {reinterpret_cast<const float*>(scales), {pages, size}, {page_bytes / 4, 1}};
    }
    problem_.keys.block_table = {reinterpret_cast<const i32*>(place(workload.block_table)),
                                 {workload.block_table.shape.at(0), workload.block_table.shape.at(1)}};
  } else {
    const i64 keys = workload.keys();
    const std::byte* data = place(workload.k);
    const std::byte* scales = layout.scale_bytes > 0 ? place(key_scales(workload)) : nullptr;
    problem_.keys.values =
        values_of(layout.dtype, data, scales, {1, keys, dim}, keys * layout.value_bytes, keys * layout.scale_bytes);
    if (scaled) problem_.keys.scales = {reinterpret_cast<const float*>(scales), {1, keys}};
  }

  problem_.windows = {place_indices(problem_.sequence), place_indices(problem_.begin), place_indices(problem_.end)};
  if (!workload.candidates.empty()) {
    const auto* runs = reinterpret_cast<const i32*>(place(workload.candidates));
    problem_.given = {{runs, {rows, workload.candidates.shape[1]}}, problem_.windows.begin, workload.candidate_length};
  }
}

}  // namespace misa
