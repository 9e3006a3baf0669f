# A build for the CPU is configured where there is no CUDA: cmake -D ROOT=<repository> -D SCRATCH=<folder> -P …
# The toolkit is hidden: folders with nvcc leave the PATH, and asking CMake for CUDA fails. The folder's name may have
# what shells read: our own commands take it as it is.
cmake_minimum_required(VERSION 3.25)

set(visible)
string(REPLACE ":" ";" folders "$ENV{PATH}")
foreach(folder IN LISTS folders)
  if(NOT EXISTS "${folder}/nvcc")
    list(APPEND visible "${folder}")
  endif()
endforeach()
list(JOIN visible ":" path)

file(REMOVE_RECURSE "${SCRATCH}")
execute_process(
  COMMAND ${CMAKE_COMMAND} -E env "PATH=${path}" --unset=CUDACXX --unset=CUDA_HOME --unset=CUDA_PATH
    ${CMAKE_COMMAND} -S "${ROOT}" -B "${SCRATCH}" -G Ninja -DCMAKE_BUILD_TYPE=Release -DMOAT_BUILD_TESTS=OFF
    -DCMAKE_CUDA_COMPILER=absent -DCMAKE_DISABLE_FIND_PACKAGE_CUDAToolkit=ON
  OUTPUT_VARIABLE out ERROR_VARIABLE err RESULT_VARIABLE failed)
if(failed)
  message(FATAL_ERROR "a CPU build must not need CUDA:\n${err}")
endif()
file(READ "${SCRATCH}/compile_commands.json" commands)
if(commands MATCHES "MOAT_CUDA|nvcc|cudart|cudnn_graph")
  message(FATAL_ERROR "a CPU build compiles something of CUDA: '${CMAKE_MATCH_0}'")
endif()
execute_process(COMMAND ${CMAKE_COMMAND} --build "${SCRATCH}" --target moat_revision
  OUTPUT_VARIABLE out ERROR_VARIABLE err RESULT_VARIABLE failed)
if(failed)
  message(FATAL_ERROR "the revision must be found in any folder:\n${out}${err}")
endif()
message(STATUS "configured without CUDA")
