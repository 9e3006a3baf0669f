# embed(<target> <file> <symbol>): the bytes of <file> as `extern const unsigned char <symbol>[]` and
# `extern const unsigned long <symbol>_size`, compiled into <target>.
function(embed target file symbol)
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${file})
  file(READ ${file} hex HEX)
  string(REGEX REPLACE "(................................)" "\\1\n" hex "${hex}")
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
  file(CONFIGURE OUTPUT ${CMAKE_CURRENT_BINARY_DIR}/${symbol}.cpp @ONLY CONTENT
"extern const unsigned char @symbol@[];
extern const unsigned long @symbol@_size;
const unsigned char @symbol@[] = {
@bytes@};
const unsigned long @symbol@_size = sizeof(@symbol@);
")
  target_sources(${target} PRIVATE ${CMAKE_CURRENT_BINARY_DIR}/${symbol}.cpp)
endfunction()
