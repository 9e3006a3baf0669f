# Writes OUT with the git revision of ROOT, touching it only when the revision changed.
cmake_minimum_required(VERSION 3.25)
set(revision unknown)
find_package(Git QUIET)
if(GIT_FOUND)
  execute_process(COMMAND ${GIT_EXECUTABLE} -C ${ROOT} describe --always --dirty --abbrev=12 --exclude=*
    OUTPUT_VARIABLE found OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE failed)
  if(NOT failed)
    set(revision ${found})
  endif()
endif()
file(CONFIGURE OUTPUT ${OUT} CONTENT
"#pragma once\n\nnamespace moat::engine {\ninline constexpr const char* kRevision = \"${revision}\";\n}\n")
