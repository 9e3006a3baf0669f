# One test per CUDA kernel: what nvcc makes of it for Hopper. Included by tests/CMakeLists.txt.
function(ptxas_test name source)
  add_test(NAME ptxas_${name}
    COMMAND ${CMAKE_COMMAND} -D NVCC=${CMAKE_CUDA_COMPILER} -D ROOT=${PROJECT_SOURCE_DIR} -D SOURCE=${source}
            -D SCRATCH=${CMAKE_CURRENT_BINARY_DIR}/ptxas_${name} "-DEXPECT=${ARGN}"
            -P ${PROJECT_SOURCE_DIR}/tests/cuda/ptxas_report.cmake)
endfunction()

foreach(kernel IN LISTS MOAT_CUDA_KERNELS)
  set(expect)
  if(kernel MATCHES "_sm90$")
    set(expect wgmma.mma_async setmaxnreg cp.async.bulk.tensor)
  elseif(kernel MATCHES "_sm80$")
    set(expect mma.sync.aligned ldmatrix cp.async)
  endif()
  cmake_path(GET kernel FILENAME name)
  ptxas_test(${name} ${PROJECT_SOURCE_DIR}/kernels/${kernel}.cu ${expect})
endforeach()

# The test can fail: on spills, and on an instruction that is not there.
ptxas_test(can_fail_on_spills ${CMAKE_CURRENT_LIST_DIR}/rules/spills.cu)
ptxas_test(can_fail_on_missing ${PROJECT_SOURCE_DIR}/kernels/loss/softmax.cu wgmma.mma_async)
set_tests_properties(ptxas_can_fail_on_spills PROPERTIES PASS_REGULAR_EXPRESSION "bytes spill stores")
set_tests_properties(ptxas_can_fail_on_missing PROPERTIES PASS_REGULAR_EXPRESSION "the PTX has no wgmma")
