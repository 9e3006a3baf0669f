# cmake --install BUILD: the kernels, for find_package(moat COMPONENTS kernels), which gives
#   moat::kernels    the static library and its C++ headers, #include "kernels/gate/topk_gate.h"
#   moat::kernels_c  libmoat_kernels.so, the C API of kernels/c_api.h
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(config_folder ${CMAKE_INSTALL_LIBDIR}/cmake/moat)
set(targets moat_kernels moat_kernels_c)
if(TARGET moat_kernels_cuda)
  list(APPEND targets moat_kernels_cuda)
endif()
foreach(target IN LISTS targets)
  string(REPLACE moat_ "" name ${target})
  set_target_properties(${target} PROPERTIES EXPORT_NAME ${name})
endforeach()

install(TARGETS ${targets} EXPORT moat_kernels COMPONENT kernels
  INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/moat
  FILE_SET HEADERS DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/moat)
install(EXPORT moat_kernels NAMESPACE moat:: FILE moat_kernels.cmake DESTINATION ${config_folder}
  COMPONENT kernels)
configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/moatConfig.cmake.in
  ${PROJECT_BINARY_DIR}/moatConfig.cmake INSTALL_DESTINATION ${config_folder})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/moatConfigVersion.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/moatConfig.cmake ${PROJECT_BINARY_DIR}/moatConfigVersion.cmake
  DESTINATION ${config_folder} COMPONENT kernels)
