# What nvcc made of the CUDA kernels when it built them: ptxas's report on every object, for every
# architecture. Included by tests/CMakeLists.txt.
function(ptxas_test name object architectures)
  add_test(NAME ptxas_${name}
    COMMAND ${CMAKE_COMMAND} -D OBJECT=${object} "-DARCHITECTURES=${architectures}" "-DCOMPILE=${ARGN}"
            -P ${PROJECT_SOURCE_DIR}/tests/cuda/ptxas_report.cmake)
endfunction()
# The PTX of a file, and its machine code in an object, have these instructions.
function(ptxas_instructions_test name source architecture)
  cmake_parse_arguments(PARSE_ARGV 3 arg "" "OBJECT;SASS" "PTX")
  add_test(NAME ptxas_${name}
    COMMAND ${CMAKE_COMMAND} -D NVCC=${CMAKE_CUDA_COMPILER} -D ROOT=${PROJECT_SOURCE_DIR} -D SOURCE=${source}
            -D ARCHITECTURE=${architecture} -D SCRATCH=${CMAKE_CURRENT_BINARY_DIR}/ptxas_${name}
            "-DPTX=${arg_PTX}" -D OBJECT=${arg_OBJECT} -D SASS=${arg_SASS}
            -P ${PROJECT_SOURCE_DIR}/tests/cuda/ptxas_instructions.cmake)
endfunction()

foreach(source IN LISTS MOAT_CUDA_KERNELS)
  cmake_path(GET source STEM name)
  set(target moat_kernels_cuda)
  if(name MATCHES "_sm90$")
    set(target moat_kernels_sm90)
  endif()
  set(object $<FILTER:$<TARGET_OBJECTS:${target}>,INCLUDE,/${name}\\.cu\\.>)
  get_target_property(architectures ${target} CUDA_ARCHITECTURES)
  ptxas_test(${name} ${object} "${architectures}")
  if(name MATCHES "_sm90$")
    ptxas_instructions_test(instructions_${name} ${source} 90a OBJECT ${object}
      PTX wgmma.mma_async setmaxnreg cp.async.bulk.tensor SASS HGMMA)
  elseif(name MATCHES "_sm80$")
    ptxas_instructions_test(instructions_${name} ${source} 80 OBJECT ${object}
      PTX mma.sync.aligned ldmatrix cp.async SASS HMMA)
  endif()
endforeach()

# The tests can fail: on what ptxas says of rules/*.cu, on a report that is not there or lacks an
# architecture, and on an instruction that is not there.
function(ptxas_can_fail name expect object)
  ptxas_test(can_fail_on_${name} ${object} "80;90a" ${ARGN})
  set_tests_properties(ptxas_can_fail_on_${name} PROPERTIES PASS_REGULAR_EXPRESSION "${expect}"
    FAIL_REGULAR_EXPRESSION "Function properties for")  # what the terminal is spared
endfunction()
set(rules ${CMAKE_CURRENT_LIST_DIR}/rules)
set(scratch ${CMAKE_CURRENT_BINARY_DIR}/ptxas_rules)
set(compile ${MOAT_KEEP_PTXAS_REPORT} ${CMAKE_CUDA_COMPILER} -std=c++20 -Xptxas=-v
    --generate-code=arch=compute_80,code=sm_80 --generate-code=arch=compute_90a,code=sm_90a)
ptxas_can_fail(spills "sm_80: [^ ]*spills[^ ]*: [0-9]+ bytes spill stores.*sm_90a: [^ ]*spills[^ ]*: [0-9]+ bytes spill"
  ${scratch}/spills.o ${compile} -c ${rules}/spills.cu -o ${scratch}/spills.o)
ptxas_can_fail(serialized "serialized:.*setmaxnreg' ignored.*instructions are serialized"
  ${scratch}/serialized.o ${compile} -c ${rules}/serialized.cu -o ${scratch}/serialized.o)
ptxas_can_fail(absent_report "no report .*absent.o.ptxas: remove .*absent.o and build again" ${scratch}/absent.o)
ptxas_can_fail(absent_architecture "no function is reported for sm_90a" ${rules}/one_architecture.o)
ptxas_instructions_test(can_fail_on_missing ${rules}/spills.cu 90a PTX wgmma.mma_async)
set_tests_properties(ptxas_can_fail_on_missing PROPERTIES PASS_REGULAR_EXPRESSION "the PTX has no wgmma")
