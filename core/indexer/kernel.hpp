#pragma once

#include <algorithm>
#include <array>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/error.hpp"
#include "core/base/types.hpp"

namespace misa {

/// What a backend implements, in the order in which a plan calls it first. `rank_gather` and `score_select` are two of
/// them in one kernel, `index` is a whole indexer: what a backend may have besides.
enum class Primitive : u8 { pool, rank, gather, rank_gather, score, select, score_select, index };

/// Primitives that tables of kernels are made for.
constexpr std::array<Primitive, 6> kPrimitives{Primitive::pool,        Primitive::rank,  Primitive::gather,
                                               Primitive::rank_gather, Primitive::score, Primitive::select};

constexpr std::string_view primitive_name(Primitive primitive) {
  constexpr std::array<std::string_view, 8> kNames{"pool",  "rank",   "gather",       "rank+gather",
                                                   "score", "select", "score+select", "index"};
  return kNames[static_cast<std::size_t>(primitive)];
}

/// One way of doing a primitive: a row of the constexpr table of its primitive in its backend. The first kernel of the
/// table that accepts a task runs, so the table is in order of preference. `Where` is what the kernels of a backend
/// need beside the task: the number of threads, a stream.
template <class Task, class... Where>
struct Kernel {
  static constexpr Primitive kPrimitive = Task::kPrimitive;

  std::string_view name;  ///< unique in its table
  std::string_view what;  ///< one line: what it accepts and how it works
  bool (*accepts)(const Task& task);
  void (*run)(const Task& task, Where... where);
};

/// For a kernel that does every task.
template <class Task>
constexpr bool accepts_all(const Task& /*task*/) {
  return true;
}

/// A kernel that ran.
struct KernelRun {
  Primitive primitive;
  std::string_view kernel;
  friend bool operator==(const KernelRun&, const KernelRun&) = default;
};

/// A row of a table without its functions, for lists.
struct KernelInfo {
  Primitive primitive;
  std::string_view name, what;
};

/// The rows of a backend's tables, in their order.
std::vector<KernelInfo> list_kernels(const auto&... tables) {
  std::vector<KernelInfo> all;
  all.reserve((std::size(tables) + ...));
  const auto add = [&](const auto& table) {
    for (const auto& kernel : table) all.push_back({kernel.kPrimitive, kernel.name, kernel.what});
  };
  (add(tables), ...);
  return all;
}

/// A kernel that a user has forced. A primitive with forced kernels chooses among these alone.
struct ForcedKernel {
  Primitive primitive;
  std::string name;
};
using ForcedKernels = std::vector<ForcedKernel>;

/// How a backend chooses kernels.
struct KernelChoice {
  ForcedKernels forced;
  bool rehearsing = false;  ///< kernels are chosen and do not run
};

/// Whether kernels of `primitive` are forced.
inline bool forces(const ForcedKernels& forced, Primitive primitive) {
  return std::any_of(forced.begin(), forced.end(), [&](const ForcedKernel& one) { return one.primitive == primitive; });
}

/// The first kernel of `table` that is allowed by `forced` and accepts the task; null where there is none.
template <class Task>
auto find_kernel(const auto& table, const ForcedKernels& forced, const Task& task) {
  const bool all = !forces(forced, Task::kPrimitive);
  for (const auto& kernel : table) {
    const auto is_named = [&](const ForcedKernel& one) {
      return one.primitive == Task::kPrimitive && one.name == kernel.name;
    };
    if ((all || std::any_of(forced.begin(), forced.end(), is_named)) && kernel.accepts(task)) return &kernel;
  }
  return static_cast<decltype(&*table.begin())>(nullptr);
}

/// Runs the kernel that find_kernel finds, unless this is a rehearsal. Returns its name. Throws Error(unavailable)
/// where there is none.
template <class Task, class... Where>
std::string_view run_kernel(const auto& table, const KernelChoice& choice, const Task& task, Where... where) {
  const ForcedKernels& forced = choice.forced;
  if (const auto* kernel = find_kernel(table, forced, task)) {
    if (!choice.rehearsing) kernel->run(task, where...);
    return kernel->name;
  }
  std::string names;
  for (const ForcedKernel& one : forced) {
    if (one.primitive == Task::kPrimitive) names += (names.empty() ? "" : ", ") + one.name;
  }
  const std::string primitive(primitive_name(Task::kPrimitive));
  throw Error(ErrorKind::unavailable, "MP-E406",
              names.empty() ? "no kernel of " + primitive + " accepts this task"
                            : "--kernel forces " + primitive + " to use " + names + ", which does not accept this task",
              {}, "misa-prof list --kernels");
}

}  // namespace misa
