#include "backends/plugin/given.hpp"
#include "cli/program.hpp"

/// The whole program for those who load it as a library: runs `misa-prof ARGUMENTS...` in this process and returns its
/// exit status. With `kernels`, `--backend plugin:NAME` means that function where NAME is `plugin_name`, so that
/// kernels need not be a file: Python hands over a table of callbacks. To be called once in a process, for the program
/// takes over the signals.
extern "C" __attribute__((visibility("default"))) int misa_main(int argc, char** argv, const char* plugin_name,
                                                                misa_kernels_function kernels) {
  if (plugin_name != nullptr && kernels != nullptr) misa::give_kernels(plugin_name, kernels);
  return misa::cli::run_program(argc, argv);
}
