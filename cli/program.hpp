#pragma once

namespace misa::cli {

/// The whole program: parses the command line, runs the command, reports errors on stderr. Returns the exit status.
int run_program(int argc, char** argv);

}  // namespace misa::cli
