#include "core/workload/placement.hpp"

#include <algorithm>
#include <cmath>

#include "core/base/error.hpp"
#include "core/base/interrupt.hpp"
#include "core/workload/workload_fields.hpp"

namespace misa {
namespace {

/// L2 norms of the unquantised queries, where the workload lets us know them: recorded, or |q| * q_scale.
HostTensor query_norms(const Workload& workload) {
  if (!workload.q_norm.empty()) {
    return HostTensor::from(workload.q_norm.span<const float>(), workload.q_norm.shape);
  }
  const bool quantised = workload.q.dtype == Dtype::e4m3;
  if (quantised && workload.q_scale.empty()) return {};
  HostTensor norms(Dtype::f32, {workload.rows(), workload.heads()});
  const auto out = norms.span<float>();
  const std::size_t dim = static_cast<std::size_t>(workload.head_dim());
  const auto fill = [&](auto values) {
    for (std::size_t i = 0; i < out.size(); ++i) {
      double squares = 0;
      for (std::size_t d = 0; d < dim; ++d) {
        const double value = to_float(values[i * dim + d]);
        squares += value * value;
      }
      out[i] = static_cast<float>(std::sqrt(squares) * (quantised ? workload.q_scale.span<const float>()[i] : 1.0f));
    }
  };
  switch (workload.q.dtype) {
    case Dtype::f32: fill(workload.q.span<const float>()); break;
    case Dtype::bf16: fill(workload.q.span<const Bf16>()); break;
    default: fill(workload.q.span<const E4m3>()); break;
  }
  return norms;
}

Values values_of(Dtype dtype, std::byte* data, std::array<i64, 3> shape, std::array<i64, 3> stride) {
  switch (dtype) {
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
              .paged = workload.paged()};
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
  problem_.queries.values = values_of(workload.q.dtype, place(workload.q), {rows, heads, dim}, {heads * dim, dim, 1});
  problem_.queries.weights = {reinterpret_cast<const float*>(place(workload.weights)), {rows, heads}};
  if (const HostTensor norms = query_norms(workload); !norms.empty()) {
    problem_.norms = {reinterpret_cast<const float*>(place(norms)), {rows, heads}};
  }

  if (workload.paged()) {
    const i64 pages = workload.k_pages.shape.at(0), size = workload.k_pages.shape.at(1);
    std::byte* data = place(workload.k_pages);
    if (workload.k_pages.dtype == Dtype::uint8) {
      // A page is size * D FP8 bytes and then size f32 scales.
      const i64 page_bytes = size * (dim + 4);
      problem_.keys.values = values_of(Dtype::e4m3, data, {pages, size, dim}, {page_bytes, dim, 1});
      problem_.keys.scales = {reinterpret_cast<const float*>(data + size * dim), {pages, size}, {page_bytes / 4, 1}};
    } else {
      problem_.keys.values = values_of(workload.k_pages.dtype, data, {pages, size, dim}, {size * dim, dim, 1});
    }
    problem_.keys.block_table = {reinterpret_cast<const i32*>(place(workload.block_table)),
                                 {workload.block_table.shape.at(0), workload.block_table.shape.at(1)}};
  } else {
    const i64 keys = workload.keys();
    problem_.keys.values = values_of(workload.k.dtype, place(workload.k), {1, keys, dim}, {keys * dim, dim, 1});
    if (!workload.k_scale.empty()) {
      problem_.keys.scales = {reinterpret_cast<const float*>(place(workload.k_scale)), {1, keys}};
    }
  }

  problem_.windows = {place_indices(problem_.sequence), place_indices(problem_.begin), place_indices(problem_.end)};
}

}  // namespace misa
