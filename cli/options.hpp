#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/error.hpp"
#include "core/base/shell_word.hpp"
#include "core/indexer/backend.hpp"

namespace misa::cli {

inline constexpr const char* kWorkloadGroup = "Workload";
inline constexpr const char* kIndexerGroup = "Indexer";
inline constexpr const char* kBackendGroup = "Backend";
inline constexpr const char* kTimingGroup = "Timing";
inline constexpr const char* kOutputGroup = "Output";

/// Error(usage) MP-E065 if a value that a file gave for an option names a backend that starts a program (plugin:,
/// exec:): those are taken from the command line alone.
void refuse_program(const std::string& value, const std::string& where);

/// Sets every option that the command line left alone from --config FILE.toml: keys are long option names. Unknown
/// keys and values are Error(usage) with file, line and the nearest name.
void apply_config(CLI::App& command, const std::string& path);

/// Turns what CLI11 did not understand into Error(usage) with the nearest option or command.
void refuse_extras(const CLI::App& command);

/// Anything but "".
CLI::Validator not_empty();

/// An option that takes a text other than "", which its help calls `type`; one that may be given again; a flag;
/// --config.
CLI::Option* add_text(CLI::App& command, const char* name, std::string& value, const std::string& what,
                      const char* type, const char* group);
CLI::Option* add_list(CLI::App& command, const char* name, std::vector<std::string>& values, const std::string& what,
                      const char* type, const char* group);
void add_flag(CLI::App& command, const char* name, bool& value, const char* what, const char* group);
void add_config(CLI::App& command, std::string& path);
/// An option that takes a name.
void add_name(CLI::App& command, const char* name, std::string& value, const std::string& what, const char* group);
/// Options that take a number from `least` on (core/base/decimal.hpp says how it is written); a 64-bit seed; a
/// decimal from `least` to `most`.
template <class Value>  // i64, which the help shows as the default, or std::optional<i64>
void add_count(CLI::App& command, const char* name, Value& value, const char* what, const char* group, u64 least = 1);
void add_seed(CLI::App& command, u64& value, const char* what, const char* group);
template <class Value>  // double or std::optional<double>
void add_decimal(CLI::App& command, const char* name, Value& value, const char* what, const char* type,
                 const char* group, double least, double most);

/// An option that takes a share from 0 to 1, as "5%" or "0.05".
void add_share(CLI::App& command, const char* name, std::optional<double>& value, const char* what, const char* group);

/// --kernel PRIMITIVE=NAME, which may be given several times.
void add_kernels(CLI::App& command, std::vector<std::string>& values);
/// The kernels that such values force. Error(usage) MP-E059 where one names no primitive.
ForcedKernels forced_kernels(const std::vector<std::string>& values);

/// --backend, with the names of all backends in its help.
void add_backend(CLI::App& command, std::string& value, const std::string& what, const char* group);

/// --device, for the backends `names`, of which one at least must have devices: Error(usage).
void add_device(CLI::App& command, std::optional<i64>& device);
int device_number(std::optional<i64> device, const std::vector<std::string>& names);

/// --threads, or the cores. Error(usage) for more than four times the cores.
i64 thread_count(std::optional<i64> threads);

/// The command line that sets what `command` was given, from the configuration file too.
std::vector<std::string> command_words(const CLI::App& app, const CLI::App& command);

/// Such words as a line that a shell reads back, without some options and their values.
std::string command_text(const std::vector<std::string>& words, const std::vector<std::string_view>& without);

}  // namespace misa::cli
