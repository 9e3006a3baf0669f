# Which instructions nvcc chose: cmake -D NVCC=<nvcc> -D ROOT=<repository> -D SOURCE=<file.cu>
#   -D ARCHITECTURE=<90a> -D SCRATCH=<folder> -D PTX=<instruction;…> [-D OBJECT=<file.o> -D SASS=<instruction>]
#   -P ptxas_instructions.cmake
# Fails when one of PTX is missing from the PTX of SOURCE, or SASS from the machine code in OBJECT,
# which is not looked at, with a line that says so, where there is no cuobjdump.
cmake_minimum_required(VERSION 3.25)

get_filename_component(name "${SOURCE}" NAME_WE)
file(MAKE_DIRECTORY "${SCRATCH}")
execute_process(
  COMMAND ${NVCC} -std=c++20 --expt-relaxed-constexpr -arch=compute_${ARCHITECTURE} -I${ROOT}
          -ptx ${SOURCE} -o ${SCRATCH}/${name}.ptx
  OUTPUT_VARIABLE said ERROR_VARIABLE said RESULT_VARIABLE failed)
if(failed)
  message(FATAL_ERROR "${name}: nvcc failed:\n${said}")
endif()

set(problems)
file(READ "${SCRATCH}/${name}.ptx" text)
foreach(instruction IN LISTS PTX)
  string(FIND "${text}" "${instruction}" at)
  if(at LESS 0)
    string(APPEND problems "  the PTX has no ${instruction}\n")
  endif()
endforeach()
list(JOIN PTX ", " checked)
string(PREPEND checked "the PTX has ")

if(SASS)
  find_program(CUOBJDUMP cuobjdump)
  if(CUOBJDUMP)
    execute_process(COMMAND ${CUOBJDUMP} -sass ${OBJECT} COMMAND grep -m 1 -F ${SASS}
      OUTPUT_VARIABLE found ERROR_VARIABLE found_errors)
    if(NOT found)
      string(APPEND problems "  the machine code of ${OBJECT} has no ${SASS}\n${found_errors}")
    endif()
    string(APPEND checked "; the machine code has ${SASS}")
  else()
    string(APPEND checked "; machine code not looked at: no cuobjdump on the PATH")
  endif()
endif()

if(problems)
  message(FATAL_ERROR "${name}:\n${problems}")
endif()
message(STATUS "${name}: ${checked}")
