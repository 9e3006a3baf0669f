# Other projects find moat: its kernels alone, all of it where it is installed, and all of it in an
# archive that was unpacked somewhere else.
#   cmake -D BUILD=<build folder> -D CONSUMERS=<examples/find_package> -D SCRATCH=<folder> -D GENERATOR=…
cmake_minimum_required(VERSION 3.25)

function(run)
  execute_process(COMMAND ${ARGN} RESULT_VARIABLE failed OUTPUT_VARIABLE said ERROR_VARIABLE said)
  if(NOT failed EQUAL 0)
    list(JOIN ARGN " " command)
    message(FATAL_ERROR "find_package: ${command}\n${said}")
  endif()
  set(said "${said}" PARENT_SCOPE)
endfunction()

# Builds CONSUMERS/<consumer> on the moat in `prefix` and runs its programs.
function(consume consumer prefix)
  cmake_parse_arguments(PARSE_ARGV 2 arg "" "" "PROGRAMS;OPTIONS")
  set(build "${SCRATCH}/build of ${consumer}")
  file(REMOVE_RECURSE "${build}")
  run("${CMAKE_COMMAND}" -S "${CONSUMERS}/${consumer}" -B "${build}" -G "${GENERATOR}"
      "-DCMAKE_PREFIX_PATH=${prefix}" "-DCMAKE_CXX_FLAGS=${FLAGS}" "-DCMAKE_C_FLAGS=${FLAGS}" ${arg_OPTIONS})
  run("${CMAKE_COMMAND}" --build "${build}")
  foreach(program IN LISTS arg_PROGRAMS)
    run("${build}/${program}")
    message(STATUS "${program}: ${said}")
  endforeach()
endfunction()

# A project in `language` that asks for `components` is refused with a message.
function(refused language components expected)
  file(REMOVE_RECURSE "${SCRATCH}/wrong")
  file(WRITE "${SCRATCH}/wrong/CMakeLists.txt"
    "cmake_minimum_required(VERSION 3.25)\nproject(wrong LANGUAGES ${language})\n"
    "find_package(moat REQUIRED ${components})\n")
  execute_process(COMMAND "${CMAKE_COMMAND}" -S "${SCRATCH}/wrong" -B "${SCRATCH}/wrong/build"
                          -G "${GENERATOR}" "-DCMAKE_PREFIX_PATH=${prefix}"
    RESULT_VARIABLE failed OUTPUT_QUIET ERROR_VARIABLE said)
  string(REGEX REPLACE "[ \n]+" " " said "${said}")
  if(failed EQUAL 0 OR NOT said MATCHES "${expected}")
    message(FATAL_ERROR "find_package: '${components}' was not refused with '${expected}':\n${said}")
  endif()
endfunction()

file(REMOVE_RECURSE "${SCRATCH}")
set(prefix "${SCRATCH}/installed moat")
run("${CMAKE_COMMAND}" --install "${BUILD}" --prefix "${prefix}" --component kernels)
set(absent)  # what the kernels do not need
foreach(package JPEG PNG ZLIB nlohmann_json CLI11)
  list(APPEND absent -DCMAKE_DISABLE_FIND_PACKAGE_${package}=ON)
endforeach()
consume(kernels "${prefix}" PROGRAMS gate moe_layer OPTIONS ${absent})
consume(c "${prefix}" PROGRAMS moe_layer
  OPTIONS ${absent} -DCMAKE_DISABLE_FIND_PACKAGE_OpenMP=ON -DCMAKE_DISABLE_FIND_PACKAGE_dnnl=ON)
refused(CXX "COMPONENTS wings" "moat has no component 'wings'")
refused(CXX "" "only the component kernels of moat is installed")

run("${CMAKE_COMMAND}" --install "${BUILD}" --prefix "${prefix}")
refused(C "" "moat::moat is C\\+\\+: enable the language CXX")
consume(moat "${prefix}" PROGRAMS attack)

# The archive holds no path of where it was made, and everything moves with it.
run("${CMAKE_CPACK_COMMAND}" --config "${BUILD}/CPackConfig.cmake" -B "${SCRATCH}/archive")
file(GLOB archive "${SCRATCH}/archive/moat-*.tar.gz")
file(ARCHIVE_EXTRACT INPUT "${archive}" DESTINATION "${SCRATCH}/unpacked")
file(GLOB unpacked "${SCRATCH}/unpacked/moat-*")
file(RENAME "${unpacked}" "${SCRATCH}/moved moat")
file(REMOVE_RECURSE "${prefix}")
set(prefix "${SCRATCH}/moved moat")
file(GLOB_RECURSE written "${prefix}/*.cmake")
foreach(file IN LISTS written)
  file(READ "${file}" content)
  string(FIND "${content}" "${BUILD}" at)
  if(NOT at EQUAL -1)
    message(FATAL_ERROR "find_package: ${file} names the build folder ${BUILD}")
  endif()
endforeach()
run("${prefix}/bin/moat" models)
consume(moat "${prefix}" PROGRAMS attack)
