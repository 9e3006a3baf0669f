# What nvcc makes of a kernel for Hopper: cmake -D NVCC=<nvcc> -D ROOT=<repository> -D SOURCE=<file.cu>
#   -D SCRATCH=<folder, one per source> [-D EXPECT=<instruction;…>] -P ptxas_report.cmake
# Fails when a function spills registers, when ptxas serialises wgmma or ignores setmaxnreg, or when
# an instruction of EXPECT is missing from the PTX or, where cuobjdump exists, from the machine code.
cmake_minimum_required(VERSION 3.25)

get_filename_component(name "${SOURCE}" NAME_WE)
set(object "${SCRATCH}/${name}.o")
set(ptx "${SCRATCH}/${name}.ptx")  # where -keep leaves it
file(MAKE_DIRECTORY "${SCRATCH}")
execute_process(
  COMMAND ${NVCC} -std=c++20 --expt-relaxed-constexpr -gencode=arch=compute_90a,code=sm_90a -Xptxas=-v
          -keep -keep-dir ${SCRATCH} -I${ROOT} -c ${SOURCE} -o ${object}
  OUTPUT_VARIABLE report ERROR_VARIABLE report RESULT_VARIABLE failed)
if(failed)
  message(FATAL_ERROR "${name}: nvcc failed:\n${report}")
endif()

set(problems)
# A function's lines: "Function properties for f", then its stack frame and spills.
string(REPLACE ";" "," report "${report}")
string(REPLACE "\n" ";" lines "${report}")
set(function "?")
set(functions 0)
set(most 0)
foreach(line IN LISTS lines)
  if(line MATCHES "Function properties for (.*)")
    set(function "${CMAKE_MATCH_1}")
    math(EXPR functions "${functions} + 1")
  elseif(line MATCHES "([0-9]+) bytes spill stores, ([0-9]+) bytes spill loads")
    if(CMAKE_MATCH_1 GREATER 0 OR CMAKE_MATCH_2 GREATER 0)
      string(APPEND problems "  ${function}: ${CMAKE_MATCH_0}\n")
    endif()
  elseif(line MATCHES "Used ([0-9]+) registers" AND CMAKE_MATCH_1 GREATER most)
    set(most ${CMAKE_MATCH_1})
  elseif(line MATCHES "serialized|C7510|C7508|setmaxnreg.*ignored")
    string(APPEND problems "  ${line}\n")
  endif()
endforeach()

set(checked "no instruction asked for")
if(EXPECT)
  file(READ "${ptx}" text)
  foreach(instruction IN LISTS EXPECT)
    string(FIND "${text}" "${instruction}" at)
    if(at LESS 0)
      string(APPEND problems "  the PTX has no ${instruction}\n")
    endif()
  endforeach()
  list(JOIN EXPECT ", " checked)
  string(PREPEND checked "the PTX has ")
  find_program(CUOBJDUMP cuobjdump)
  if(NOT CUOBJDUMP)
    string(APPEND checked "; machine code not looked at: no cuobjdump on the PATH")
  elseif("wgmma.mma_async" IN_LIST EXPECT)
    execute_process(COMMAND ${CUOBJDUMP} -sass ${object} OUTPUT_VARIABLE sass)
    string(FIND "${sass}" HGMMA at)
    if(at LESS 0)
      string(APPEND problems "  the machine code has no HGMMA\n")
    endif()
    string(APPEND checked "; the machine code has HGMMA")
  endif()
endif()

if(problems)
  message(FATAL_ERROR "${name}:\n${problems}")
endif()
message(STATUS "${name}: ${functions} functions, at most ${most} registers, no spills; ${checked}")
