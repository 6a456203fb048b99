#pragma once

#include <CLI/CLI.hpp>
#include <functional>

namespace misa::cli {

/// A command's work, to be called once its options are parsed.
using Work = std::function<void()>;

/// Each adds its subcommand to `app` and returns its work. One file each.
Work add_profile(CLI::App& app);
Work add_compare(CLI::App& app);
Work add_selftest(CLI::App& app);
Work add_shrink(CLI::App& app);
Work add_generate(CLI::App& app);
Work add_inspect(CLI::App& app);
Work add_nsight(CLI::App& app);
Work add_explain(CLI::App& app);
Work add_diff(CLI::App& app);
Work add_doctor(CLI::App& app);
Work add_niah(CLI::App& app);
Work add_sweep(CLI::App& app);
Work add_merge(CLI::App& app);
Work add_list(CLI::App& app);
Work add_report(CLI::App& app);
Work add_manual(CLI::App& app);

}  // namespace misa::cli
