# What `cmake --install` puts where, and the packages that CPack makes of it. The tree can be moved: the program finds
# its libraries and its data from where it lies.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

# Names of libraries differ between distributions: libdnnl.so.2 and libfmt.so.9 on Debian 12, libdnnl.so.3 and
# libfmt.so.10 on Debian 13. So ours come along, in a folder of their own.
option(MISA_BUNDLE "Install oneDNN, fmt and the OpenCL loader of oneDNN with the program" ON)
set(bundled)
file(RELATIVE_PATH to_lib /${CMAKE_INSTALL_BINDIR} /${CMAKE_INSTALL_LIBDIR})
# The search path of the build is replaced, but its length remains: it shall not be that of the folder's name.
set_target_properties(misa_launcher PROPERTIES INSTALL_RPATH "$ORIGIN/${to_lib}" BUILD_RPATH_USE_ORIGIN ON)
if(MISA_BUNDLE AND NOT CMAKE_CROSSCOMPILING)
  set(bundled RUNTIME_DEPENDENCY_SET misa_bundled)
  set(bundle ${CMAKE_INSTALL_LIBDIR}/misa-prof)
  file(RELATIVE_PATH from_lib /${CMAKE_INSTALL_LIBDIR} /${bundle})
  set_target_properties(misa_prof misa_kernels PROPERTIES INSTALL_RPATH "$ORIGIN/${from_lib}")
  # Old-style search paths also hold for what the bundled libraries need themselves.
  foreach(target misa_prof misa_kernels)
    target_link_options(${target} PRIVATE LINKER:--disable-new-dtags)
  endforeach()
endif()

set(CMAKE_INSTALL_DEFAULT_COMPONENT_NAME program)
# Targets of find_package(misa-prof): misa-prof::program, misa-prof::kernels and, for plug-ins, misa-prof::kernel_header.
add_library(misa_kernel_header INTERFACE)
target_include_directories(misa_kernel_header INTERFACE $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
target_link_libraries(misa_kernels INTERFACE misa_kernel_header)
set_target_properties(misa_kernel_header PROPERTIES EXPORT_NAME kernel_header)
set_target_properties(misa_kernels PROPERTIES EXPORT_NAME kernels)
set_target_properties(misa_launcher PROPERTIES EXPORT_NAME program)
install(TARGETS misa_launcher misa_kernels misa_kernel_header EXPORT misa-prof-targets ${bundled})
install(TARGETS misa_prof ${bundled})
if(bundled)
  install(RUNTIME_DEPENDENCY_SET misa_bundled PRE_INCLUDE_REGEXES "^lib(dnnl|fmt|OpenCL)\\.so" PRE_EXCLUDE_REGEXES "."
          LIBRARY DESTINATION ${bundle})
endif()
set(CMAKE_INSTALL_DEFAULT_COMPONENT_NAME development)
set(package_folder ${CMAKE_INSTALL_LIBDIR}/cmake/misa-prof)
install(EXPORT misa-prof-targets NAMESPACE misa-prof:: DESTINATION ${package_folder})
set(version_file ${CMAKE_CURRENT_BINARY_DIR}/misa-prof-config-version.cmake)
write_basic_package_version_file(${version_file} COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_SOURCE_DIR}/scripts/cmake/misa-prof-config.cmake ${version_file} DESTINATION ${package_folder})
install(FILES backends/plugin/misa_kernel.h TYPE INCLUDE)

set(CMAKE_INSTALL_DEFAULT_COMPONENT_NAME data)
set(data ${CMAKE_INSTALL_DATADIR}/misa-prof)
install(DIRECTORY profiles DESTINATION ${data}
        PATTERN "__pycache__" EXCLUDE PATTERN "*.egg-info" EXCLUDE
        PATTERN "recorder/tests" EXCLUDE PATTERN "recorder/build" EXCLUDE)
install(DIRECTORY docs/schema DESTINATION ${data})
set(CMAKE_INSTALL_DEFAULT_COMPONENT_NAME documentation)
install(FILES README.md LICENSE TYPE DOC)
install(FILES scripts/package/copyright TYPE DOC)
install(DIRECTORY docs TYPE DOC)
if(NOT CMAKE_CROSSCOMPILING)  # an emulator may write them, but no test shows it
  set(manual ${CMAKE_BINARY_DIR}/cli/manual)
  install(FILES ${manual}/man/misa-prof.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
  install(FILES ${manual}/bash/misa-prof DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions)
  install(FILES ${manual}/zsh/_misa-prof DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/vendor-completions)
  install(FILES ${manual}/fish/misa-prof.fish DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d)
endif()

set(CPACK_PACKAGE_NAME misa-prof)
set(CPACK_PACKAGE_VENDOR misa-prof)
set(CPACK_PACKAGE_CONTACT "misa-prof maintainers <maintainers@misa-prof.invalid>" CACHE STRING "Who answers for the packages")
set(CPACK_RESOURCE_FILE_LICENSE ${PROJECT_SOURCE_DIR}/LICENSE)
set(CPACK_STRIP_FILES ON)
set(CPACK_VERBATIM_VARIABLES ON)
set(CPACK_GENERATOR DEB TGZ)
string(TOLOWER "${CMAKE_SYSTEM_NAME}" system)
set(CPACK_PACKAGE_FILE_NAME misa-prof-${PROJECT_VERSION}-${system}-${CMAKE_SYSTEM_PROCESSOR})
set(CPACK_PRE_BUILD_SCRIPTS ${PROJECT_SOURCE_DIR}/scripts/cmake/package_tree.cmake)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_RELEASE 1)
set(CPACK_DEBIAN_PACKAGE_SECTION science)
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "profiler of sparse-attention indexers")
set(CPACK_DEBIAN_PACKAGE_DESCRIPTION "It runs the indexers of DeepSeek Sparse Attention (DSA, MISA, HISA and others)
on recorded or synthetic workloads. It says what each stage costs and how far
it is from the peak of the machine, how much of DSA's selection remains, and
whether a kernel selects the right tokens.

There is a CPU backend and, in builds with CUDA, one for Hopper, which needs
NVIDIA's driver when it is used, not before.")
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA ${PROJECT_SOURCE_DIR}/scripts/package/triggers)  # ldconfig, which finds our kernels
set(CPACK_DEBIAN_COMPRESSION_TYPE xz)
include(CPack)
