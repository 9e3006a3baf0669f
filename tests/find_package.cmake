# An installed moat is found by another project, in C and in C++:
#   cmake -D BUILD=<build folder> -D CONSUMER=<examples/find_package> -D SCRATCH=<folder> -D GENERATOR=…
cmake_minimum_required(VERSION 3.25)

function(run)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE failed OUTPUT_VARIABLE said ERROR_VARIABLE said)
  if(NOT failed EQUAL 0)
    list(JOIN ARGN " " command)
    message(FATAL_ERROR "find_package: ${command}\n${said}")
  endif()
  set(said "${said}" PARENT_SCOPE)
endfunction()

file(REMOVE_RECURSE "${SCRATCH}")
set(prefix "${SCRATCH}/installed moat")
run("${CMAKE_COMMAND}" --install "${BUILD}" --prefix "${prefix}" --component kernels)
run("${CMAKE_COMMAND}" -S "${CONSUMER}" -B "${SCRATCH}/build" -G "${GENERATOR}"
    "-DCMAKE_PREFIX_PATH=${prefix}" "-DCMAKE_CXX_FLAGS=${FLAGS}" "-DCMAKE_C_FLAGS=${FLAGS}")
run("${CMAKE_COMMAND}" --build "${SCRATCH}/build")
foreach(program gate moe_layer)
  run("${SCRATCH}/build/${program}")
  message(STATUS "${program}: ${said}")
endforeach()

# A component that there is not is refused by name.
file(WRITE "${SCRATCH}/wrong/CMakeLists.txt"
  "cmake_minimum_required(VERSION 3.25)\nproject(wrong LANGUAGES CXX)\n"
  "find_package(moat REQUIRED COMPONENTS wings)\n")
execute_process(COMMAND "${CMAKE_COMMAND}" -S "${SCRATCH}/wrong" -B "${SCRATCH}/wrong/build"
                        -G "${GENERATOR}" "-DCMAKE_PREFIX_PATH=${prefix}"
  RESULT_VARIABLE failed OUTPUT_QUIET ERROR_VARIABLE said)
if(failed EQUAL 0 OR NOT said MATCHES "moat has no component 'wings'")
  message(FATAL_ERROR "find_package: component 'wings' was not refused by name:\n${said}")
endif()
