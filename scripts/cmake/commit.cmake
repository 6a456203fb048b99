# Writes OUTPUT, a header that names the commit of SOURCE, if that differs from what the header says already:
#   cmake -DSOURCE=... -DOUTPUT=... [-DGIT=git] -P commit.cmake
# The commit comes from git where SOURCE is the root of a work tree, else from commit.txt, where `git archive` wrote it.
set(commit "")
set(changed false)
if(GIT)
  # An empty prefix: SOURCE is the root, and not a folder of somebody else's repository.
  execute_process(COMMAND ${GIT} rev-parse --show-prefix WORKING_DIRECTORY ${SOURCE} RESULT_VARIABLE status
                  OUTPUT_VARIABLE prefix OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  if(status EQUAL 0 AND prefix STREQUAL "")
    execute_process(COMMAND ${CMAKE_COMMAND} -E env GIT_OPTIONAL_LOCKS=0 ${GIT} describe --always --dirty --exclude=* --abbrev=12
                    WORKING_DIRECTORY ${SOURCE} OUTPUT_VARIABLE commit OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  endif()
endif()
if(commit MATCHES "^([0-9a-f]+)-dirty$")
  set(commit ${CMAKE_MATCH_1})
  set(changed true)
endif()
if(commit STREQUAL "")
  file(STRINGS ${SOURCE}/scripts/cmake/commit.txt archived LIMIT_COUNT 1)
  if(archived MATCHES "^[0-9a-f]+$")
    string(SUBSTRING ${archived} 0 12 commit)
  endif()
endif()
configure_file(${CMAKE_CURRENT_LIST_DIR}/commit.hpp.in ${OUTPUT} @ONLY)
