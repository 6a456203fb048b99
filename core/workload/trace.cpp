#include "core/workload/trace.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <numeric>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>

#include "core/workload/block_scales.hpp"
#include "core/workload/key_scales.hpp"
#include "core/workload/safetensors.hpp"
#include "core/workload/trace_format.hpp"
#include "core/workload/windows.hpp"
#include "core/workload/workload_fields.hpp"

namespace misa {
namespace trace {
namespace {

template <class Member>
constexpr bool is_tensor = std::is_same_v<Member, HostTensor Workload::*>;

void collect_warnings(const Workload& w, const std::string& where, std::vector<Warning>& warnings) {
  if (w.metadata.count("provenance") == 0) {
    warnings.push_back({"MP-W030",
                        fmt::format("the metadata does not say the provenance ({})", fmt::join(kProvenances, ", ")),
                        where});
  }
  if (const auto heads = metadata_number(w.metadata, "index_n_heads", where); heads && *heads != w.heads()) {
    warnings.push_back(
        {"MP-W031", fmt::format("index_n_heads is {}, q has {} heads: were heads padded?", *heads, w.heads()), where});
  }
  if (looks_interleaved(w)) {
    warnings.push_back({"MP-W032", std::string(kInterleaved), where});
  }
}

std::vector<i32> all_rows(i64 rows) {
  std::vector<i32> numbers(static_cast<std::size_t>(rows));
  std::iota(numbers.begin(), numbers.end(), 0);
  return numbers;
}

/// Needles of a tensor [n, 4] or [n, 6], whose last two columns are the answer.
std::vector<Needle> needles_of(const HostTensor& tensor, const std::string& where) {
  std::vector<Needle> needles;
  if (tensor.shape.empty()) return needles;
  const bool answers = tensor.shape[1] == 6;
  if (!answers) expect_shape(tensor, {tensor.shape[0], 4}, "needle", "[n, 4] or [n, 6]", where);
  const std::span<const i32> values = tensor.span<i32>();
  for (std::size_t i = 0; i < values.size(); i += answers ? 6 : 4) {
    Needle& needle = needles.emplace_back();
    needle = {values[i], values[i + 1], values[i + 2], values[i + 3]};
    if (answers) needle.answer_start = values[i + 4];
    if (answers) needle.answer_length = values[i + 5];
  }
  return needles;
}

HostTensor tensor_of(const std::vector<Needle>& needles) {
  if (needles.empty()) return {};
  const bool answers = std::any_of(needles.begin(), needles.end(), [](const Needle& n) { return n.has_answer(); });
  std::vector<i32> values;
  for (const Needle& n : needles) {
    values.insert(values.end(), {n.start, n.length, n.question_start, n.question_length});
    if (answers) values.insert(values.end(), {n.answer_start, n.answer_length});
  }
  return HostTensor::from<i32>(values, {static_cast<i64>(needles.size()), answers ? 6 : 4});
}

/// Fills in which rows of `w` a tensor [R, ...] belongs to where the file does not say: one for every query.
void fill_rows(const Workload& w, const HostTensor& tensor, std::vector<i32>& rows, const TensorReader& reader,
               const std::string& name, const std::string& where) {
  const std::string rows_name = name + "_row";
  if (reader.has(rows_name) && tensor.shape.empty()) {
    reject("MP-E209", fmt::format("it names the rows of '{}', which is not there", name), at(where, rows_name),
           fmt::format("'{}' with it, or neither", name));
  }
  if (!tensor.shape.empty() && !reader.has(rows_name)) rows = all_rows(w.rows());
}

/// Fills in the windows that the file leaves out, and checks them all.
void fill_windows(Workload& w, const TensorReader& reader, const std::string& where) {
  if (w.paged()) {
    check_seq_lens(w, where);
    w.next_n = w.rows() / w.seq_lens.shape[0];
    RowWindows windows = paged_windows(w);
    w.sequence = std::move(windows.sequence);
    if (!reader.has("ks")) w.ks = std::move(windows.ks);
    if (!reader.has("ke")) w.ke = std::move(windows.ke);
    if (!reader.has("q_pos")) w.q_pos = std::move(windows.q_pos);
  } else {
    for (const char* name : {"q_pos", "ks", "ke"}) {
      if (!reader.has(name)) missing(name, where, "contiguous keys need q_pos, ks and ke [Q]");
    }
    w.sequence = sequences_of(w.ks);
  }
  check_windows(w, where);
}

/// Writes the tensors of `w` but for those that only judge, unless `judging`.
void write_tensors(const std::string& path, const Workload& w, std::map<std::string, std::string> metadata,
                   bool judging) {
  check_workload(w, fmt::format("workload '{}'", w.name));
  metadata["format"] = kFormat;
  metadata.erase("kind");
  if (w.compress_ratio > 1) metadata[kCompressRatio] = std::to_string(w.compress_ratio);
  if (w.candidate_length > 1) metadata[kCandidateLength] = std::to_string(w.candidate_length);

  const HostTensor needles = judging ? tensor_of(w.needles) : HostTensor();
  std::vector<SafetensorsTensor> tensors;
  if (!needles.empty()) tensors.emplace_back("needle", needles);
  visit_fields([&](const WorkloadField& field, auto member) {
    if (field.use == Use::judging && !judging) return;
    const std::string name(field.tensor.name);
    if constexpr (is_tensor<decltype(member)>) {
      if (!(w.*member).shape.empty()) tensors.emplace_back(name, w.*member);
    } else {
      const std::vector<i32>& values = w.*member;
      const bool follows = name == "sequence" || (name == "attention_mass_row" && values == all_rows(w.rows()));
      if (follows || values.empty()) return;
      tensors.emplace_back(name, std::span<const i32>(values), std::vector<i64>{static_cast<i64>(values.size())});
    }
  });
  write_safetensors(path, metadata, std::move(tensors));
}

}  // namespace
}  // namespace trace

Workload read_trace(const std::string& path, i64 max_bytes, std::vector<Warning>* warnings, std::optional<i64> layer) {
  const InputFile file(path);
  const trace::TensorReader reader(file, trace::FileKind::trace, max_bytes, layer);
  std::vector<std::string_view> names{"needle"};
  for (const WorkloadField& field : kWorkloadFields) names.push_back(field.tensor.name);
  reader.check_budget(names);

  Workload w;
  w.name = std::filesystem::path(path).stem().string();
  if (layer) w.name += fmt::format(", layer {}", *layer);
  w.metadata = reader.metadata();
  w.compress_ratio = trace::metadata_number(w.metadata, trace::kCompressRatio, path).value_or(1);
  w.metadata.erase(trace::kCompressRatio);
  w.candidate_length = trace::metadata_number(w.metadata, trace::kCandidateLength, path).value_or(1);
  w.metadata.erase(trace::kCandidateLength);
  visit_fields([&](const WorkloadField& field, auto member) {
    if constexpr (trace::is_tensor<decltype(member)>) {
      w.*member = reader.tensor(field.tensor.name);
    } else {
      w.*member = reader.integers(field.tensor.name);
    }
  });
  const HostTensor needles = reader.tensor("needle");
  file.check_unchanged();

  w.needles = trace::needles_of(needles, path);
  trace::name_dtypes(w);
  trace::check_shapes(w, path);
  trace::fill_rows(w, w.attention_mass, w.attention_mass_row, reader, "attention_mass", path);
  trace::fill_rows(w, w.topk, w.topk_row, reader, "topk", path);
  trace::fill_windows(w, reader, path);
  trace::read_scales(w, path, warnings);
  check_workload(w, path);
  if (warnings != nullptr) trace::collect_warnings(w, path, *warnings);
  return w;
}

void write_trace(const std::string& path, const Workload& w) { trace::write_tensors(path, w, w.metadata, true); }

void write_inputs(const std::string& path, const Workload& w, const IndexerSpec& spec) {
  std::map<std::string, std::string> metadata = w.metadata;
  metadata.erase("topk_arithmetic");
  metadata["index_topk"] = std::to_string(spec.top_k);
  set_forced(spec.forced, metadata);
  trace::write_tensors(path, w, std::move(metadata), false);
}

}  // namespace misa
