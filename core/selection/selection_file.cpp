#include "core/selection/selection_file.hpp"

#include <fmt/format.h>

#include <array>

#include "core/workload/trace_format.hpp"
#include "core/workload/workload_fields.hpp"

namespace misa {
namespace {

using trace::at;
using trace::at_row;
using trace::expect_count;
using trace::expect_dtype;
using trace::kReshape;
using trace::kWindowOfBuffer;
using trace::metadata_number;
using trace::reject;
using trace::shape_text;

constexpr std::array<std::string_view, 2> kScores{"F32", "F64"};

using Metadata = std::map<std::string, std::string>;

/// The tensors of a file, by choice.
struct ChoiceTensor {
  Choice choice;
  std::string_view name;
};
constexpr std::array kTensors{
    ChoiceTensor{Choice::heads, "out.heads"},   ChoiceTensor{Choice::linear, "out.linear"},
    ChoiceTensor{Choice::blocks, "out.blocks"}, ChoiceTensor{Choice::candidates, "out.candidates"},
    ChoiceTensor{Choice::tokens, "out.topk"},   ChoiceTensor{Choice::scores, "out.scores"}};

void check_selection(const Selection& selection, std::span<const i32> ks, std::span<const i32> ke,
                     const Metadata& metadata, const std::string& where) {
  const HostTensor &heads = selection[Choice::heads], &linear = selection[Choice::linear];
  const HostTensor &blocks = selection[Choice::blocks], &candidates = selection[Choice::candidates];
  const HostTensor &tokens = selection[Choice::tokens], &scores = selection[Choice::scores];
  const i64 rows = static_cast<i64>(ks.size());
  expect_count(rows, "rows", "ks", where);
  trace::expect_length(ke.size(), rows, "ke", "[Q]", where);
  for (i64 row = 0; row < rows; ++row) {
    const i32 begin = ks[static_cast<std::size_t>(row)], end = ke[static_cast<std::size_t>(row)];
    if (begin < 0) {
      reject("MP-E230", fmt::format("the window begins at token {}", begin), at_row(where, "ks", row), kWindowOfBuffer);
    }
    if (end < begin) {
      reject("MP-E231", fmt::format("the window [{}, {}) runs backwards", begin, end), at_row(where, "ke", row),
             kWindowOfBuffer);
    }
  }
  if (tokens.shape.empty() && heads.shape.empty() && blocks.shape.empty()) {
    reject("MP-E250", "nothing is recorded: out.topk, out.heads and out.blocks are all missing", where,
           "one of them at least");
  }
  const auto window = [&](i64 row) {
    return i64{ke[static_cast<std::size_t>(row)]} - ks[static_cast<std::size_t>(row)];
  };
  const auto check = [&](const HostTensor& tensor, const trace::IdRule& rule, const auto& least_bad,
                         const auto& too_large) {
    if (tensor.shape.empty()) return;
    expect_dtype(dtype_name(tensor.dtype), kI32, at(where, rule.tensor));
    if (tensor.shape.size() != 2 || tensor.shape[0] != rows) {
      reject("MP-E208", fmt::format("the shape is {}, must be [Q, ...] = [{}, ...]", shape_text(tensor.shape), rows),
             at(where, rule.tensor), kReshape);
    }
    expect_count(tensor.shape[1], "columns", rule.tensor, where);
    trace::check_ids(rule, tensor.span<i32>(), rows, where, least_bad, too_large);
  };
  for (const auto& [tensor, name] : {std::pair(&tokens, "out.topk"), std::pair(&candidates, "out.candidates")}) {
    check(*tensor, {name, "token", true}, window, [&, name = name](i64 row, i64 id, i64 limit) {
      reject("MP-E242", fmt::format("token {} is not visible: the row sees {}", id, limit), at_row(where, name, row),
             "ids count from the row's ks");
    });
  }
  if (!scores.shape.empty()) {
    expect_dtype(dtype_name(scores.dtype), kScores, at(where, "out.scores"));
    if (scores.shape != tokens.shape) {
      reject("MP-E208",
             fmt::format("the shape is {}, must be that of out.topk, {}", shape_text(scores.shape),
                         shape_text(tokens.shape)),
             at(where, "out.scores"), kReshape);
    }
  }
  if (!linear.shape.empty()) {
    expect_dtype(dtype_name(linear.dtype), kF32, at(where, "out.linear"));
    const std::vector<i64>& shape = linear.shape;
    if (shape.size() != 2 || shape[0] != rows || shape[1] < 2) {
      reject("MP-E208", fmt::format("the shape is {}, must be [Q, D + 1] = [{}, ...]", shape_text(shape), rows),
             at(where, "out.linear"), kReshape);
    }
  }
  const std::optional<i64> head_count = metadata_number(metadata, "index_n_heads", where);
  if (!heads.shape.empty() && !head_count) {
    reject("MP-E213", "index_n_heads is missing: out.heads cannot be checked", where + ", metadata",
           "index_n_heads = the number of heads before routing");
  }
  check(
      heads, {"out.heads", "head", false}, [&](i64) { return head_count.value_or(0); },
      [&](i64 row, i64 id, i64 limit) {
        reject("MP-E241", fmt::format("head {} is out of range, there are {}", id, limit),
               at_row(where, "out.heads", row), "heads counted from 0");
      });
  // A window that begins or ends inside a block touches one block more than its length needs.
  const i64 block_size = metadata_number(metadata, "block_size", where).value_or(1);
  check(
      blocks, {"out.blocks", "block", true}, [&](i64 row) { return ceil_div(window(row), block_size) + 1; },
      [&](i64 row, i64 id, i64 limit) {
        reject("MP-E241",
               fmt::format("block {} is out of range: {} tokens in blocks of {} touch at most {}", id, window(row),
                           block_size, limit),
               at_row(where, "out.blocks", row), "blocks counted from the row's first, and the right block_size");
      });
}

}  // namespace

void write_selection(const std::string& path, const Workload& workload, const Selection& selection,
                     const Metadata& metadata, bool as_it_is) {
  Metadata facts = metadata;
  facts.insert(workload.metadata.begin(), workload.metadata.end());            // keeps what is there
  if (metadata.count("topk_arithmetic") == 0) facts.erase("topk_arithmetic");  // of what the workload recorded
  facts["format"] = trace::kFormat;
  facts["kind"] = "selection";
  facts["index_n_heads"] = std::to_string(workload.heads());
  if (!as_it_is) {
    check_selection(selection, workload.ks, workload.ke, facts,
                    fmt::format("selection of workload '{}'", workload.name));
  }
  std::vector<SafetensorsTensor> tensors;
  for (const auto& [name, values] : {std::pair("ks", &workload.ks), std::pair("ke", &workload.ke)}) {
    tensors.emplace_back(name, std::span<const i32>(*values), std::vector<i64>{static_cast<i64>(workload.ks.size())});
  }
  for (const auto& [choice, name] : kTensors) {
    if (!selection[choice].shape.empty()) tensors.emplace_back(std::string(name), selection[choice]);
  }
  write_safetensors(path, facts, std::move(tensors));
}

SelectionFile read_selection(const std::string& path, i64 max_bytes, bool as_it_is) {
  const InputFile file(path);
  const trace::TensorReader reader(file, trace::FileKind::selection, max_bytes);
  std::vector<std::string_view> names{"ks", "ke"};
  for (const ChoiceTensor& tensor : kTensors) names.push_back(tensor.name);
  reader.check_budget(names);
  for (const char* name : {"ks", "ke"}) {
    if (!reader.has(name)) trace::missing(name, path, "a selection needs the windows it was made for [Q]");
  }
  SelectionFile read;
  for (const auto& [choice, name] : kTensors) read.selection[choice] = reader.tensor(name);
  read.ks = reader.integers("ks");
  read.ke = reader.integers("ke");
  read.metadata = reader.metadata();
  file.check_unchanged();
  if (!as_it_is) check_selection(read.selection, read.ks, read.ke, read.metadata, path);
  return read;
}

void check_selection_fits(const SelectionFile& file, const Workload& workload, const std::string& where) {
  if (file.ks.size() != workload.ks.size()) {
    reject("MP-E252", fmt::format("the selection has {} rows, the workload {}", file.ks.size(), workload.ks.size()),
           where, "the workload it was made from");
  }
  for (std::size_t row = 0; row < workload.ks.size(); ++row) {
    if (file.ks[row] != workload.ks[row] || file.ke[row] != workload.ke[row]) {
      reject("MP-E252",
             fmt::format("row {} was selected in the window [{}, {}), the workload has [{}, {})", row, file.ks[row],
                         file.ke[row], workload.ks[row], workload.ke[row]),
             where, "the workload it was made from");
    }
  }
}
}  // namespace misa
