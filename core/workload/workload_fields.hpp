#pragma once

#include <array>
#include <string_view>
#include <variant>
#include <vector>

#include "core/workload/workload.hpp"

// The table of a workload's fields. Whoever treats all of them alike visits it: a new field is a row here.

namespace misa {

/// Dtypes; those that are not there are empty.
using Spellings = std::array<std::string_view, 6>;

/// A tensor of a trace.
struct TensorRule {
  std::string_view name;
  std::string_view shape;  ///< a letter for each dimension: axis_of has their meanings
  Spellings dtypes;        ///< those it may have in a file, as safetensors spells them
};

/// What a letter of TensorRule::shape counts. Q, R, N, P and B begin shapes: the tensor has an entry for each of them.
struct Axis {
  char letter;
  std::string_view symbol, counts;  ///< as shapes of messages and docs/traces.md have it, and in words
};
constexpr Axis axis_of(char letter) {
  switch (letter) {
    case 'Q': return {'Q', "Q", "query rows"};
    case 'R': return {'R', "R", "rows"};  // some of Q: another field says which
    case 'H': return {'H', "H", "heads"};
    case 'D': return {'D', "D", "numbers of a head"};
    case 'N': return {'N', "N", "keys"};
    case 'P': return {'P', "pages", "pages"};
    case 'T': return {'T', "page_size", "tokens per page"};
    case 'S': return {'S', "S", "bytes of a key and its scales"};
    case 'W': return {'W', "W", "words of four block scales"};
    case 'B': return {'B', "B", "sequences"};
    case 'C': return {'C', "pages per sequence", "pages per sequence"};
    case 'c': return {'c', "R", "candidates of a row"};
    case 'A': return {'A', "tokens", "tokens"};  // that a window may name
    default: return {letter, std::string_view("k"), "columns"};
  }
}

/// Who reads a field: a backend, which gets it as it is; the host, before it asks a backend; whoever judges a
/// selection.
enum class Use { placed, host, judging };

struct WorkloadField {
  TensorRule tensor;  ///< without dtypes where no trace has it
  Use use;
  std::variant<HostTensor Workload::*, std::vector<i32> Workload::*> member;
};

// MXFP4 is F4, or U8 and I8 of two numbers each where there are block scales.
constexpr Spellings kValues{"F8_E4M3", "BF16", "F32", "I8", "F4", "U8"}, kF32{"F32"}, kI32{"I32"};
constexpr Spellings kBlockScales{"I32", "F8_E8M0", "U8"};

/// All but `name`, `metadata`, `next_n` and `needles`. The order of the fields that are not Use::judging enters
/// input_hash; block scales, which are younger than others, only where there are some.
inline constexpr std::array kWorkloadFields{
    WorkloadField{{"q", "QHD", kValues}, Use::placed, &Workload::q},
    WorkloadField{{"weights", "QH", kF32}, Use::placed, &Workload::weights},
    WorkloadField{{"q_scale", "QH", kF32}, Use::host, &Workload::q_scale},
    WorkloadField{{"q_norm", "QH", kF32}, Use::host, &Workload::q_norm},
    WorkloadField{{"k", "ND", kValues}, Use::placed, &Workload::k},
    WorkloadField{{"k_scale", "N", {"F32", "F8_E8M0"}}, Use::placed, &Workload::k_scale},
    WorkloadField{{"k_pages", "PTS", {"U8", "BF16", "F32", "I8"}}, Use::placed, &Workload::k_pages},
    WorkloadField{{"q_block_scale", "QHW", kBlockScales}, Use::placed, &Workload::q_block_scale},
    WorkloadField{{"k_block_scale", "NW", kBlockScales}, Use::placed, &Workload::k_block_scale},
    WorkloadField{{"block_table", "BC", kI32}, Use::placed, &Workload::block_table},
    WorkloadField{{"seq_lens", "B", kI32}, Use::host, &Workload::seq_lens},
    WorkloadField{{"q_pos", "Q", kI32}, Use::host, &Workload::q_pos},
    WorkloadField{{"sequence", "Q", {}}, Use::placed, &Workload::sequence},
    WorkloadField{{"ks", "Q", kI32}, Use::placed, &Workload::ks},
    WorkloadField{{"ke", "Q", kI32}, Use::placed, &Workload::ke},
    WorkloadField{{"candidates", "Qc", kI32}, Use::placed, &Workload::candidates},
    WorkloadField{{"attention_mass", "RA", {"F16"}}, Use::judging, &Workload::attention_mass},
    WorkloadField{{"attention_mass_row", "R", kI32}, Use::judging, &Workload::attention_mass_row},
    WorkloadField{{"topk", "Rk", kI32}, Use::judging, &Workload::topk},
    WorkloadField{{"topk_row", "R", kI32}, Use::judging, &Workload::topk_row},
};

/// Calls visit(field, member) for each field, `member` a HostTensor Workload::* or a std::vector<i32> Workload::*.
template <class Visit>
void visit_fields(Visit visit) {
  for (const WorkloadField& field : kWorkloadFields) {
    std::visit([&](auto member) { visit(field, member); }, field.member);
  }
}

inline i64 bytes_of(const HostTensor& values) { return values.bytes(); }
inline i64 bytes_of(const std::vector<i32>& values) { return static_cast<i64>(values.size() * sizeof(i32)); }

}  // namespace misa
