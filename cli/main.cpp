#include "cli/program.hpp"

int main(int argc, char** argv) { return misa::cli::run_program(argc, argv); }
