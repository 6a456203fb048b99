#include "backends/plugin/given.hpp"

// The program as it is installed: its code is in libmisa_prof.so (misa_main.cpp), once.
extern "C" int misa_main(int argc, char** argv, const char* plugin_name, misa_kernels_function kernels);

int main(int argc, char** argv) { return misa_main(argc, argv, nullptr, nullptr); }
