#include "core/workload/trace_format.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "core/base/decimal.hpp"
#include "core/base/error.hpp"
#include "core/base/interrupt.hpp"
#include "core/base/suggest.hpp"
#include "core/workload/other_dtypes.hpp"
#include "core/workload/trace.hpp"
#include "core/workload/workload_fields.hpp"

namespace misa::trace {
namespace {

constexpr std::string_view kFormatStem = "misa-trace/";

/// The tensors of the format that are no fields of a workload: `out.*` are those of a selection.
constexpr std::array kOtherRules{
    TensorRule{"needle", "nk", kI32},
    TensorRule{"out.topk", "Qk", kI32},
    TensorRule{"out.heads", "Qk", kI32},
    TensorRule{"out.blocks", "Qk", kI32},
    TensorRule{"out.linear", "Qk", kF32},
    TensorRule{"out.candidates", "Qk", kI32},
    TensorRule{"out.scores", "Qk", {"F32", "F64"}},
};

std::vector<TensorRule> tensor_rules() {
  std::vector<TensorRule> rules(kOtherRules.begin(), kOtherRules.end());
  for (const WorkloadField& field : kWorkloadFields) {
    if (!field.tensor.dtypes[0].empty()) rules.push_back(field.tensor);
  }
  return rules;
}

/// The rule of a tensor that check_tensors let pass.
TensorRule rule_of(std::string_view name) { return *find_row(tensor_rules(), name); }

void check_format(const SafetensorsHeader& header, FileKind kind) {
  const std::string place = header.path + ", metadata";
  const auto format = header.metadata.find("format");
  if (format == header.metadata.end()) {
    reject("MP-E201", "the metadata has no 'format': not a misa-trace file", place,
           fmt::format("record with format = {}", kFormat));
  }
  if (format->second != kFormat) {
    if (format->second.substr(0, kFormatStem.size()) == kFormatStem) {
      reject("MP-E202", fmt::format("format {}: this program reads {}", quote(format->second), kFormat), place,
             "a version of misa-prof that knows it");
    }
    reject("MP-E201", fmt::format("format {}: not a misa-trace file", quote(format->second)), place,
           fmt::format("record with format = {}", kFormat));
  }
  const auto found = header.metadata.find("kind");
  const bool selection = found != header.metadata.end() && found->second == "selection";
  if (found != header.metadata.end() && !selection && found->second != "trace") {
    reject("MP-E203", "unknown kind " + quote(found->second), place, "trace or selection");
  }
  if (selection && kind == FileKind::trace) {
    reject("MP-E203", "the file holds a recorded selection, not a workload", place, "the trace that it was made from");
  }
  if (!selection && kind == FileKind::selection) {
    reject("MP-E203", "the file holds a workload, not a recorded selection", place, "a file with kind = selection");
  }
}

/// Names, dtypes and ranks, all before anything is allocated.
void check_tensors(const SafetensorsHeader& header) {
  const std::vector<TensorRule> rules = tensor_rules();
  for (const SafetensorsEntry& entry : header.tensors) {
    if (entry.name.substr(0, 2) == "x.") continue;
    const std::string where = header.path + ", tensor " + quote(entry.name);
    const TensorRule* rule = find_row(rules, entry.name);
    if (rule == nullptr) {
      reject("MP-E204", "unknown tensor " + quote(entry.name), where,
             suggestion(entry.name, names_of(rules), "a name that begins with 'x.' for tensors of your own"));
    }
    if (entry.dtype == "F8_E4M3FNUZ") {
      reject("MP-E207", "FNUZ codes mean half of what e4m3fn codes mean, and 0x80 is a NaN", where,
             "convert the values to e4m3fn (F8_E4M3) when recording");
    }
    if (!kept_as(*rule, entry.dtype)) expect_dtype(entry.dtype, rule->dtypes, where);
    if (kept_shape(*rule, entry.shape).size() != rule->shape.size()) {
      reject("MP-E208",
             fmt::format("the shape {} has {} dimensions, must have {}", shape_text(entry.shape), entry.shape.size(),
                         rule->shape.size()),
             where, kReshape);
    }
  }
}

}  // namespace

void reject(std::string id, const std::string& what, std::string where, std::string how) {
  throw Error(ErrorKind::input, std::move(id), what, std::move(where), std::move(how));
}

std::string at(const std::string& where, std::string_view tensor) {
  return fmt::format("{}, tensor '{}'", where, tensor);
}
std::string at_row(const std::string& where, std::string_view tensor, i64 row) {
  return fmt::format("{}, tensor '{}', row {}", where, tensor, row);
}

std::string shape_text(const std::vector<i64>& shape) { return fmt::format("[{}]", fmt::join(shape, ", ")); }

void expect_shape(const HostTensor& tensor, const std::vector<i64>& shape, std::string_view name,
                  std::string_view letters, const std::string& where) {
  if (tensor.shape == shape) return;
  reject("MP-E208",
         fmt::format("the shape is {}, must be {} = {}", shape_text(tensor.shape), letters, shape_text(shape)),
         at(where, name), kReshape);
}

void expect_length(std::size_t length, i64 expected, std::string_view name, std::string_view letters,
                   const std::string& where) {
  if (static_cast<i64>(length) == expected) return;
  reject("MP-E208", fmt::format("the shape is [{}], must be {} = [{}]", length, letters, expected), at(where, name),
         kReshape);
}

void expect_dtype(std::string_view dtype, std::span<const std::string_view> allowed, const std::string& where) {
  if (std::find(allowed.begin(), allowed.end(), dtype) != allowed.end()) return;
  std::vector<std::string_view> names(allowed.begin(), allowed.end());
  std::erase(names, "");
  reject("MP-E206", fmt::format("the dtype is {}, must be {}", dtype, fmt::join(names, " or ")), where, kConvert);
}

void missing(std::string_view name, const std::string& where, std::string_view why) {
  reject("MP-E205", fmt::format("there is no tensor '{}': {}", name, why), where,
         "add it when recording; docs/traces.md lists what a trace holds");
}

void expect_count(i64 count, std::string_view what, std::string_view name, const std::string& where) {
  if (count >= 1 && count <= kMaxIndex) return;
  reject("MP-E212", fmt::format("{} {}, must be 1 to {}", count, what, kMaxIndex), at(where, name),
         count < 1 ? "a trace that has some" : "a shorter recording");
}

std::optional<i64> metadata_number(const std::map<std::string, std::string>& metadata, const std::string& key,
                                   const std::string& where) {
  const auto found = metadata.find(key);
  if (found == metadata.end()) return std::nullopt;
  const std::string& text = found->second;
  const std::optional<u64> value = whole_number_of(text);
  if (!value || *value < 1 || *value > 0x7fffffff) {
    reject("MP-E213", key + " must be a positive integer, not " + quote(text), where + ", metadata",
           "decimal digits, or no such key");
  }
  return static_cast<i64>(*value);
}

void check_ids(const IdRule& rule, std::span<const i32> ids, i64 rows, const std::string& where,
               const std::function<i64(i64)>& least_bad, const std::function<void(i64, i64, i64)>& too_large) {
  const i64 columns = rows > 0 ? static_cast<i64>(ids.size()) / rows : 0;
  std::vector<i32> sorted;
  for (i64 row = 0; row < rows; ++row) {
    stop_if_interrupted();
    const i64 limit = least_bad(row);
    const std::span<const i32> list = ids.subspan(row * columns, columns);
    const auto end = std::find(list.begin(), list.end(), -1);
    if (const auto late = std::find_if(end, list.end(), [](i32 id) { return id != -1; }); late != list.end()) {
      reject("MP-E243", fmt::format("{} {} follows a -1, which only pads the end", rule.unit, *late),
             at_row(where, rule.tensor, row), "move every -1 to the end of the row");
    }
    for (auto id = list.begin(); id != end; ++id) {
      if (*id < 0) {
        reject("MP-E241", fmt::format("{} {} is out of range", rule.unit, *id), at_row(where, rule.tensor, row),
               "ids from 0, and -1 where there is none");
      }
      if (*id >= limit) too_large(row, *id, limit);
    }
    // Duplicates first: a list that has one does not ascend either.
    sorted.assign(list.begin(), end);
    const bool ascends = std::is_sorted(sorted.begin(), sorted.end());
    if (!ascends) std::sort(sorted.begin(), sorted.end());
    if (const auto twice = std::adjacent_find(sorted.begin(), sorted.end()); twice != sorted.end()) {
      reject("MP-E240", fmt::format("{} {} is named twice", rule.unit, *twice), at_row(where, rule.tensor, row),
             "each id once, and -1 where there is none");
    }
    if (rule.ascending && !ascends) {
      const auto lower = std::adjacent_find(list.begin(), end, std::greater<>());
      reject("MP-E251", fmt::format("{} {} follows {}, they must ascend", rule.unit, *(lower + 1), *lower),
             at_row(where, rule.tensor, row), "sort each row's ids before they are saved");
    }
  }
}

std::optional<LayerName> layer_name_of(std::string_view name) {
  constexpr std::string_view kBegin = "layers.";
  if (!name.starts_with(kBegin)) return std::nullopt;
  const std::size_t dot = name.find('.', kBegin.size());
  if (dot == std::string_view::npos) return std::nullopt;
  const std::optional<u64> number = whole_number_of(std::string(name.substr(kBegin.size(), dot - kBegin.size())));
  if (!number || *number > kMaxIndex) return std::nullopt;
  return LayerName{static_cast<i64>(*number), std::string(name.substr(dot + 1))};
}

void keep_layer(SafetensorsHeader& header, std::optional<i64> layer) {
  const std::vector<i64> layers = trace_layers(header);
  const auto refuse = [&](const std::string& what) {
    const std::string how = layers.empty() ? "a trace without a layer" : fmt::format("layer {}", layers.front());
    reject("MP-E567", what, header.path, how);
  };
  if (layers.empty() && layer) refuse("the file holds one layer, which has no number");
  if (layers.empty()) return;
  const std::string numbers = fmt::format("{}", fmt::join(layers, ", "));
  if (!layer) refuse("the file holds the layers " + numbers + ", and none is named");
  if (!std::binary_search(layers.begin(), layers.end(), *layer)) {
    refuse(fmt::format("the file holds the layers {}, and not {}", numbers, *layer));
  }
  std::vector<SafetensorsEntry> kept;
  for (SafetensorsEntry& entry : header.tensors) {
    const std::optional<LayerName> name = layer_name_of(entry.name);
    if (name && name->layer != *layer) continue;
    if (name) entry.name = name->name;
    const auto same = std::find_if(kept.begin(), kept.end(), [&](auto& other) { return other.name == entry.name; });
    if (same == kept.end()) {
      kept.push_back(std::move(entry));
    } else if (name) {
      *same = std::move(entry);  // a layer's own tensor, in place of the one that all share
    }
  }
  header.tensors = std::move(kept);
  header.metadata["layer"] = std::to_string(*layer);
}

TensorReader::TensorReader(const InputFile& file, FileKind kind, i64 max_bytes, std::optional<i64> layer)
    : file_(file), header_(read_safetensors_header(file)), left_(max_bytes) {
  check_format(header_, kind);
  if (kind == FileKind::trace) keep_layer(header_, layer);
  check_tensors(header_);
}

void TensorReader::check_budget(const std::vector<std::string_view>& names) const {
  i64 bytes = 0;
  for (std::string_view name : names) {
    const SafetensorsEntry* entry = header_.find(name);
    if (entry != nullptr) bytes += bytes_to_read(rule_of(name), *entry);
  }
  if (bytes > left_) {
    throw Error(ErrorKind::runtime, "MP-E142", fmt::format("the tensors take {} bytes, {} may be used", bytes, left_),
                header_.path, "a larger --max-memory, or a smaller file");
  }
}

HostTensor TensorReader::tensor(std::string_view name) const {
  const SafetensorsEntry* entry = header_.find(name);
  if (entry == nullptr) return {};
  return read_as(rule_of(name), file_, header_, *entry, left_);
}

std::vector<i32> TensorReader::integers(std::string_view name) const {
  const HostTensor read = tensor(name);
  const std::span<const i32> values = read.span<i32>();
  return {values.begin(), values.end()};
}

}  // namespace misa::trace

namespace misa {

std::vector<i64> trace_layers(const SafetensorsHeader& header) {
  std::set<i64> layers;
  for (const SafetensorsEntry& entry : header.tensors) {
    if (const auto name = trace::layer_name_of(entry.name)) layers.insert(name->layer);
  }
  return {layers.begin(), layers.end()};
}

}  // namespace misa
