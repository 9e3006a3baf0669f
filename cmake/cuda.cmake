# The CUDA build (preset `cuda`) compiles the .cu files beside the kernels' .cpp files. A CPU-only
# build never looks for the toolkit.
if(MOAT_CUDA)
  # Machine code for Ampere and Hopper, PTX of the first for everything newer.
  if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
    set(CMAKE_CUDA_ARCHITECTURES 80 90a-real)
  endif()
  enable_language(CUDA)
  find_package(CUDAToolkit REQUIRED)
  include(${CMAKE_CURRENT_LIST_DIR}/cudnn.cmake)
endif()

# CMake 3.25 cannot spell C++20 for nvcc, so the standard is a plain option.
function(moat_cuda_compile_options target)
  set_target_properties(${target} PROPERTIES CUDA_STANDARD_REQUIRED OFF)
  target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:
    -std=c++20 --expt-relaxed-constexpr -Werror=all-warnings -lineinfo
    -Xcompiler=-Wall,-Wextra,-Wno-unknown-pragmas>)
endfunction()

# Of each object x.o, what ptxas made of its functions is in x.o.ptxas beside it, which the tests
# read (tests/cuda/ptxas_tests.cmake). With ccache too, which repeats what the compiler said.
set(MOAT_KEEP_PTXAS_REPORT ${CMAKE_CURRENT_LIST_DIR}/keep_ptxas_report.sh)
function(moat_keep_ptxas_report target)
  target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:-Xptxas=-v>)
  set(launcher ${MOAT_KEEP_PTXAS_REPORT} ${CMAKE_CUDA_COMPILER_LAUNCHER})
  set_target_properties(${target} PROPERTIES CUDA_COMPILER_LAUNCHER "${launcher}")
endfunction()
