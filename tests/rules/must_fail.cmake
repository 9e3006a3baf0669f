# Shows that a rule can fail: runs RULE (a name, with optional ARGUMENTS) on the planted violation in
# tests/rules/<RULE> and requires a failure that names every one of EXPECT.
cmake_minimum_required(VERSION 3.25)

set(here "${CMAKE_CURRENT_LIST_DIR}")
execute_process(
  COMMAND "${CMAKE_COMMAND}" -D "ROOT=${here}/${RULE}" ${ARGUMENTS} -P "${here}/../${RULE}.cmake"
  RESULT_VARIABLE failed OUTPUT_VARIABLE said ERROR_VARIABLE said)
if(failed EQUAL 0)
  message(FATAL_ERROR "${RULE} passed on a tree that breaks it")
endif()
foreach(word IN LISTS EXPECT)
  string(FIND "${said}" "${word}" at)
  if(at EQUAL -1)
    message(FATAL_ERROR "${RULE} failed without naming ${word}:\n${said}")
  endif()
endforeach()
message(STATUS "${RULE} fails on its planted violation")
