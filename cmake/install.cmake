# What an installed moat is, in two components:
#   kernels  moat::kernels    the static library and its C++ headers, #include "kernels/gate/topk_gate.h"
#            moat::kernels_c  libmoat_kernels.so, the C API of kernels/c_api.h
#   moat     moat::moat       everything from the engine to training, on top of moat::kernels; the program
# `cmake --install BUILD` gives both, `--component kernels` the first; `cmake --build BUILD --target package`
# packs both into an archive that works from any folder.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(config_folder ${CMAKE_INSTALL_LIBDIR}/cmake/moat)
function(moat_install component)
  foreach(target IN LISTS ARGN)
    string(REGEX REPLACE "^moat_" "" name ${target})
    set_target_properties(${target} PROPERTIES EXPORT_NAME ${name})
  endforeach()
  install(TARGETS ${ARGN} EXPORT moat_${component} COMPONENT ${component}
    INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/moat
    FILE_SET HEADERS DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/moat)
  install(EXPORT moat_${component} NAMESPACE moat:: FILE moat_${component}.cmake DESTINATION ${config_folder}
    COMPONENT ${component})
endfunction()

set(kernels moat_kernels moat_kernels_c)
if(MOAT_CUDA)
  list(APPEND kernels moat_kernels_cuda)
endif()
moat_install(kernels ${kernels})

add_library(moat INTERFACE)
target_link_libraries(moat INTERFACE moat::train)
moat_install(moat moat moat_engine moat_models moat_attacks moat_data moat_train)

# Ours are static; libraries outside the system's folders are found where they were linked.
set_target_properties(moat_program moat_kernels_c PROPERTIES INSTALL_RPATH_USE_LINK_PATH ON)
install(TARGETS moat_program RUNTIME COMPONENT moat)

configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/moatConfig.cmake.in
  ${PROJECT_BINARY_DIR}/moatConfig.cmake INSTALL_DESTINATION ${config_folder})
write_basic_package_version_file(${PROJECT_BINARY_DIR}/moatConfigVersion.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/moatConfig.cmake ${PROJECT_BINARY_DIR}/moatConfigVersion.cmake
              ${CMAKE_CURRENT_LIST_DIR}/cudnn.cmake
  DESTINATION ${config_folder} COMPONENT kernels)
install(FILES ${PROJECT_SOURCE_DIR}/LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR} COMPONENT kernels)

set(CPACK_GENERATOR TGZ)
set(CPACK_PACKAGE_FILE_NAME moat-${PROJECT_VERSION}-${CMAKE_SYSTEM_NAME}-${CMAKE_SYSTEM_PROCESSOR})
include(CPack)
