#pragma once

#include <array>
#include <span>
#include <string_view>
#include <vector>

#include "core/workload/workload.hpp"

namespace misa {

/// What somebody's ids count. A token of a row is counted from the row's `ks` everywhere else.
enum class IdKind : u8 {
  token,  ///< tokens from the row's `ks` on
  slot,   ///< numbers of the key buffer: of contiguous keys `k`, of pages page * page_size + offset
  page,   ///< page * page_size + offset, of paged keys alone
};

struct IdKindInfo {
  IdKind kind;
  std::string_view name, what;
};
inline constexpr std::array kIdKinds{
    IdKindInfo{IdKind::token, "token", "counted from the first token that the row may see (ks)"},
    IdKindInfo{IdKind::slot, "slot", "counted in the key buffer: rows of k, or page * page_size + offset"},
    IdKindInfo{IdKind::page, "page", "page * page_size + offset, through the block table"},
};

constexpr std::string_view kind_name(IdKind kind) { return kIdKinds[static_cast<std::size_t>(kind)].name; }

/// The token of row m that each of `ids` names; -1 where it names none of the row's window.
std::vector<i32> tokens_of(const Workload& workload, IdKind kind, i64 m, std::span<const i32> ids);

/// The id that names a token of row m's window.
i64 id_of(const Workload& workload, IdKind kind, i64 m, i64 token);

}  // namespace misa
