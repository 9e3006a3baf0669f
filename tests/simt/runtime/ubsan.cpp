// What -fsanitize=alignment,bounds calls where an index leaves an array or a pointer is not aligned
// for its type. These stand in for UBSan's library, which is linked in the AddressSanitizer build
// only; the structures are the compiler's.

#include "tests/simt/core.h"

namespace {

struct SourceLocation {
  const char* file;
  uint32_t line, column;
};
struct TypeDescriptor {
  uint16_t kind, information;
  char name[1];
};
struct OutOfBounds {
  SourceLocation place;
  const TypeDescriptor *array, *index;
};
struct TypeMismatch {
  SourceLocation place;
  const TypeDescriptor* type;
  unsigned char log_alignment, access;
};

}  // namespace

extern "C" {

[[noreturn]] void __ubsan_handle_out_of_bounds_abort(const OutOfBounds* data, uintptr_t index) {
  const auto code = reinterpret_cast<uintptr_t>(__builtin_return_address(0));
  simt::fail("out of bounds: index %lld of an array of type %s%s", static_cast<long long>(index),
             data->array->name, simt::at(code).c_str());
}
[[noreturn]] void __ubsan_handle_type_mismatch_v1_abort(const TypeMismatch* data,
                                                        uintptr_t address) {
  const auto code = reinterpret_cast<uintptr_t>(__builtin_return_address(0));
  if (address == 0)
    simt::fail("out of bounds: null pointer to %s%s", data->type->name, simt::at(code).c_str());
  simt::fail("misaligned: %s%s at an address that is no multiple of %d", data->type->name,
             simt::at(code).c_str(), 1 << data->log_alignment);
}

}  // extern "C"
