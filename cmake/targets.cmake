# Every library of moat is one folder: moat_library(engine SOURCES … LINKS …) makes the target
# moat_engine, alias moat::engine, and checks that each of its headers compiles alone.
function(moat_compile_options target)
  target_compile_features(${target} PUBLIC cxx_std_20)
  target_compile_options(${target} PRIVATE
    -Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion
    -march=${MOAT_MARCH} -fno-math-errno -fno-trapping-math
    -ffile-prefix-map=${PROJECT_SOURCE_DIR}/=)
  target_link_libraries(${target} PRIVATE OpenMP::OpenMP_CXX)
endfunction()

function(moat_library name)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "SOURCES;LINKS;PRIVATE_LINKS")
  set(target moat_${name})
  add_library(${target} STATIC ${arg_SOURCES})
  add_library(moat::${name} ALIAS ${target})
  target_include_directories(${target} PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}>)
  file(GLOB_RECURSE headers CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.h)
  list(FILTER headers EXCLUDE REGEX "/cudnn_graph\\.h$")  # needs cuDNN, which only a CUDA build has
  target_sources(${target} PUBLIC FILE_SET HEADERS BASE_DIRS ${PROJECT_SOURCE_DIR} FILES ${headers})
  set_target_properties(${target} PROPERTIES VERIFY_INTERFACE_HEADER_SETS ON)
  target_link_libraries(${target} PUBLIC ${arg_LINKS} PRIVATE ${arg_PRIVATE_LINKS})
  moat_compile_options(${target})
endfunction()
