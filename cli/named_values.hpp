#pragma once

#include <CLI/CLI.hpp>
#include <array>
#include <string>
#include <string_view>

namespace misa::cli {

/// Options whose values are names that `misa-prof list --names KIND` knows.
struct NamedValues {
  std::string_view option, kind;
};

inline constexpr auto kNamedValues = std::to_array<NamedValues>({{"indexer", "indexers"},
                                                                 {"against-indexer", "indexers"},
                                                                 {"router", "routers"},
                                                                 {"backend", "backends"},
                                                                 {"against", "backends"},
                                                                 {"model", "models"},
                                                                 {"workload", "workloads"},
                                                                 {"preset", "presets"},
                                                                 {"trace", "traces"},
                                                                 {"arithmetic", "arithmetic"}});

/// The kind of names that the option takes; empty: it takes none of these.
inline std::string_view kind_of(const CLI::Option& option) {
  for (const NamedValues& one : kNamedValues) {
    if (option.get_items_expected_max() > 0 && option.check_lname(std::string(one.option))) return one.kind;
  }
  return {};
}

}  // namespace misa::cli
