# A dependency provider for builds whose target has no packages of its own, such as cross builds: the libraries that
# are headers only, or can be, are taken from the host's include folder. Pass it to CMake as
# CMAKE_PROJECT_TOP_LEVEL_INCLUDES.

# Only these, by link: the rest of the host's headers belongs to another architecture.
set(MISA_HOST_INCLUDE /usr/include CACHE PATH "Where the host's headers lie")
set(MISA_BORROWED ${CMAKE_BINARY_DIR}/host_headers)

function(misa_borrow target header_folder)
  if(NOT EXISTS ${MISA_HOST_INCLUDE}/${header_folder})
    message(FATAL_ERROR "${MISA_HOST_INCLUDE}/${header_folder} is missing (scripts/install.sh installs it)")
  endif()
  file(MAKE_DIRECTORY ${MISA_BORROWED})
  file(CREATE_LINK ${MISA_HOST_INCLUDE}/${header_folder} ${MISA_BORROWED}/${header_folder} SYMBOLIC)
  if(NOT TARGET ${target})
    add_library(${target} INTERFACE IMPORTED GLOBAL)
    set_target_properties(${target} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES ${MISA_BORROWED}
                                               INTERFACE_COMPILE_DEFINITIONS "${ARGN}")
  endif()
endfunction()

macro(misa_provide_dependency method package)
  if("${package}" STREQUAL "fmt")
    misa_borrow(fmt::fmt fmt FMT_HEADER_ONLY=1)
    set(fmt_FOUND TRUE)
  elseif("${package}" STREQUAL "nlohmann_json")
    misa_borrow(nlohmann_json::nlohmann_json nlohmann)
    set(nlohmann_json_FOUND TRUE)
  elseif("${package}" STREQUAL "tomlplusplus")
    misa_borrow(tomlplusplus::tomlplusplus toml++ TOML_HEADER_ONLY=1)
    set(tomlplusplus_FOUND TRUE)
  elseif("${package}" STREQUAL "CLI11")
    misa_borrow(CLI11::CLI11 CLI)
    set(CLI11_FOUND TRUE)
  elseif("${package}" STREQUAL "doctest")
    misa_borrow(doctest::doctest doctest)
    set(doctest_FOUND TRUE)
  endif()
endmacro()

cmake_language(SET_DEPENDENCY_PROVIDER misa_provide_dependency SUPPORTED_METHODS FIND_PACKAGE)
