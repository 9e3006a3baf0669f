# The target moat::cudnn: cuDNN 9, which has no CMake package of its own. After find_package(CUDAToolkit);
# installed beside moatConfig.cmake, which needs it as well.
find_path(MOAT_CUDNN_INCLUDE_DIR cudnn_graph.h HINTS ${CUDAToolkit_INCLUDE_DIRS})
find_library(MOAT_CUDNN_LIBRARY cudnn
  HINTS ${CUDAToolkit_LIBRARY_DIR} ${CUDAToolkit_LIBRARY_ROOT}/lib ${CUDAToolkit_LIBRARY_ROOT}/lib64)
if(NOT MOAT_CUDNN_INCLUDE_DIR OR NOT MOAT_CUDNN_LIBRARY)
  message(FATAL_ERROR "The CUDA build needs cuDNN 9 (cudnn_graph.h and libcudnn): install NVIDIA's cudnn9 package, "
    "or say where it is with MOAT_CUDNN_INCLUDE_DIR and MOAT_CUDNN_LIBRARY")
endif()
if(NOT TARGET moat::cudnn)
  add_library(moat::cudnn UNKNOWN IMPORTED)
  set_target_properties(moat::cudnn PROPERTIES IMPORTED_LOCATION ${MOAT_CUDNN_LIBRARY})
endif()
