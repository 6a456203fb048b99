#pragma once

#include <array>
#include <functional>
#include <limits>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/platform/file.hpp"
#include "core/tensor/host_tensor.hpp"
#include "core/workload/safetensors.hpp"
#include "core/workload/workload.hpp"

// The format misa-trace/1 (docs/traces.md): what both kinds of its files share, traces and selections. Everything that
// refuses throws Error(input) with an id of docs/errors.md; `where` names the file or the workload in its message.

namespace misa::trace {

constexpr std::string_view kFormat = "misa-trace/1";
constexpr i64 kMaxIndex = std::numeric_limits<i32>::max();
constexpr const char* kCompressRatio = "compress_ratio";      ///< the metadata key of Workload::compress_ratio
constexpr const char* kCandidateLength = "candidate_length";  ///< that of Workload::candidate_length
constexpr i64 kScaleBytes = 4;                                ///< of one token's scale in a page
constexpr std::array<std::string_view, 4> kProvenances{"real-checkpoint", "small-trained", "random-init", "synthetic"};

// Hints that several messages give.
constexpr const char* kReshape = "reshape the tensor before it is saved; docs/traces.md lists the shapes";
constexpr const char* kConvert = "convert the tensor before it is saved; docs/traces.md lists the dtypes";
constexpr const char* kRecordAgain = "leave the row out, or record it again before the kernel's memory is used anew";
constexpr const char* kWindowOfBuffer = "ks and ke as the kernel was given them: tokens of the key buffer, from 0";

[[noreturn]] void reject(std::string id, const std::string& what, std::string where, std::string how);
[[noreturn]] void missing(std::string_view name, const std::string& where, std::string_view why);

// Places, for messages.
std::string at(const std::string& where, std::string_view tensor);
std::string at_row(const std::string& where, std::string_view tensor, i64 row);
std::string shape_text(const std::vector<i64>& shape);

/// Refuses another shape than `shape`, which `letters` spell: "[Q, H]".
void expect_shape(const HostTensor& tensor, const std::vector<i64>& shape, std::string_view name,
                  std::string_view letters, const std::string& where);
void expect_length(std::size_t length, i64 expected, std::string_view name, std::string_view letters,
                   const std::string& where);
/// Refuses a dtype that is none of `allowed`, of which some may be empty. `where` is the tensor's.
void expect_dtype(std::string_view dtype, std::span<const std::string_view> allowed, const std::string& where);
/// Refuses a count outside of 1 to kMaxIndex.
void expect_count(i64 count, std::string_view what, std::string_view name, const std::string& where);

/// Refuses what can be refused before looking at values. `q_pos`, `ks` and `ke` are checked with the windows.
void check_shapes(const Workload& workload, const std::string& where);

/// The positive decimal number of a metadata key; nothing when the key is not there.
std::optional<i64> metadata_number(const std::map<std::string, std::string>& metadata, const std::string& key,
                                   const std::string& where);

/// A tensor of ids: its name, what an id names, and whether a row's ids must ascend.
struct IdRule {
  std::string_view tensor, unit;
  bool ascending;
};

/// Checks ids [rows, columns]: -1 only at the tail, no duplicates, order. `least_bad(row)` is the first id that is too
/// large, and `too_large(row, id, least_bad)` throws for one.
void check_ids(const IdRule& rule, std::span<const i32> ids, i64 rows, const std::string& where,
               const std::function<i64(i64)>& least_bad, const std::function<void(i64, i64, i64)>& too_large);

enum class FileKind { trace, selection };

/// A tensor of a file of several layers: "layers.3.q" is q of layer 3.
struct LayerName {
  i64 layer = 0;
  std::string name;
};
std::optional<LayerName> layer_name_of(std::string_view name);

/// Leaves the tensors of one layer of a file that holds several, under their plain names, and those that belong to no
/// layer, which all share; a layer's own comes before a shared one. Error(input) MP-E567.
void keep_layer(SafetensorsHeader& header, std::optional<i64> layer);

/// Reads the tensors of a file by name, within a budget.
class TensorReader {
 public:
  /// Checks the format, the kind, and the names, dtypes and ranks of all tensors, before anything is allocated. Of a
  /// file of several layers only what belongs to `layer` is there, and what belongs to none.
  TensorReader(const InputFile& file, FileKind kind, i64 max_bytes, std::optional<i64> layer = {});

  const std::map<std::string, std::string>& metadata() const { return header_.metadata; }
  /// Throws unless the tensors named fit the budget together.
  void check_budget(const std::vector<std::string_view>& names) const;
  bool has(std::string_view name) const { return header_.find(name) != nullptr; }
  /// Empty when there is none. Other dtypes and shapes become those of the format, exactly (other_dtypes.hpp).
  HostTensor tensor(std::string_view name) const;
  std::vector<i32> integers(std::string_view name) const;

 private:
  const InputFile& file_;
  SafetensorsHeader header_;
  i64 left_;
};

}  // namespace misa::trace
