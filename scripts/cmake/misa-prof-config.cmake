# find_package(misa-prof) of an installed program:
#   misa-prof::kernel_header  misa_kernel.h (C99), all that a plug-in needs
#   misa-prof::kernels        libmisa_kernels.so, our kernels behind that header
#   misa-prof::program        the program, for tests: add_test(NAME x COMMAND misa-prof::program compare ...)
include(${CMAKE_CURRENT_LIST_DIR}/misa-prof-targets.cmake)
