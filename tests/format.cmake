# Sources are laid out by clang-format: cmake -D ROOT=<repository> -P tests/format.cmake
# Fails with the list of files that differ; `clang-format -i FILE` mends one.
include("${CMAKE_CURRENT_LIST_DIR}/rules/sources.cmake")

find_program(clang_format clang-format)
if(NOT clang_format)
  message(FATAL_ERROR "format: clang-format is not installed; scripts/setup installs it")
endif()

cxx_sources(files)
execute_process(COMMAND "${clang_format}" --dry-run --Werror --ferror-limit=1 ${files}
                WORKING_DIRECTORY "${ROOT}" RESULT_VARIABLE failed OUTPUT_QUIET ERROR_VARIABLE said)
string(REGEX MATCHALL "[^\n]+:[0-9]+:[0-9]+: error: [^\n]+" lines "${said}")
list(TRANSFORM lines REPLACE ":[0-9]+:[0-9]+: error: .*" "")
list(REMOVE_DUPLICATES lines)
list(JOIN lines "\n  " differing)

list(LENGTH files count)
if(NOT failed EQUAL 0)
  message(FATAL_ERROR "format: run clang-format -i on\n  ${differing}")
endif()
message(STATUS "format: ${count} files as clang-format lays them out")
