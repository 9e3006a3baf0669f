# A file that can be read in one sitting: cmake -D ROOT=<repository> -P tests/line_budget.cmake
# More than SOFT lines is noted, more than HARD lines fails.
include("${CMAKE_CURRENT_LIST_DIR}/rules/sources.cmake")

if(NOT DEFINED SOFT)
  set(SOFT 300)
endif()
if(NOT DEFINED HARD)
  set(HARD 500)
endif()

# Files that may be longer, each with its reason: set(reason_<path> "why").
set(exceptions)

set(patterns "scripts/*" ".ci/*" "cmake/*" "CMakeLists.txt")
foreach(room IN LISTS rooms)
  foreach(ending h c cpp cu cuh py cmake)
    list(APPEND patterns "${room}/*.${ending}")
  endforeach()
  list(APPEND patterns "${room}/CMakeLists.txt")
endforeach()
sources(files ${patterns})

set(too_long)
foreach(file IN LISTS files)
  file(READ "${ROOT}/${file}" content)
  string(REGEX REPLACE "[^\n]+" "" newlines "${content}")
  string(LENGTH "${newlines}" lines)
  if(lines GREATER HARD AND NOT file IN_LIST exceptions)
    string(APPEND too_long "  ${file}: ${lines} lines, the limit is ${HARD}\n")
  elseif(lines GREATER SOFT)
    message(STATUS "line_budget: note: ${file} has ${lines} lines, aim for ${SOFT}")
  endif()
endforeach()

foreach(file IN LISTS exceptions)
  if(NOT file IN_LIST files)
    string(APPEND too_long "  ${file}: listed as an exception, but there is no such file\n")
  elseif(NOT DEFINED reason_${file})
    string(APPEND too_long "  ${file}: listed as an exception without a reason\n")
  endif()
endforeach()

list(LENGTH files count)
if(too_long)
  message(FATAL_ERROR "line_budget:\n${too_long}")
endif()
message(STATUS "line_budget: ${count} files, none over ${HARD} lines")
