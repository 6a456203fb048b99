# CPack runs this on the tree that it is about to pack.

# A library under the name that it is looked for by. CPack would count a link to it, and the library, as its size twice.
file(GLOB links ${CPACK_TEMPORARY_INSTALL_DIRECTORY}${CPACK_PACKAGING_INSTALL_PREFIX}/lib*/misa-prof/*.so.*)
foreach(link ${links})
  if(IS_SYMLINK ${link})
    file(REAL_PATH ${link} library)
    file(RENAME ${library} ${link})
  endif()
endforeach()

# What Debian's policy asks.
if(NOT CPACK_GENERATOR STREQUAL "DEB")
  return()
endif()
set(share ${CPACK_TEMPORARY_INSTALL_DIRECTORY}/usr/share)
set(doc ${share}/doc/misa-prof)
file(REMOVE ${doc}/LICENSE)  # the file copyright refers to Debian's copy
string(TIMESTAMP date "%a, %d %b %Y %H:%M:%S +0000" UTC)  # of SOURCE_DATE_EPOCH where that is set
file(WRITE ${doc}/changelog.Debian "misa-prof (${CPACK_PACKAGE_VERSION}-${CPACK_DEBIAN_PACKAGE_RELEASE}) unstable; urgency=medium

  * Release ${CPACK_PACKAGE_VERSION}; docs/changelog.md says what is new.

 -- ${CPACK_PACKAGE_CONTACT}  ${date}
")
foreach(file ${doc}/changelog.Debian ${share}/man/man1/misa-prof.1)
  execute_process(COMMAND gzip -9 -n ${file} COMMAND_ERROR_IS_FATAL ANY)
endforeach()
