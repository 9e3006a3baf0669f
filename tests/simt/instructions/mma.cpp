// ldmatrix, stmatrix and mma.sync: all lanes of a warp meet, the last to arrive does the work.

#include <cstring>

#include "tests/simt/core.h"
#include "tests/simt/instructions/async_proxy.h"
#include "tests/simt/instructions/fragments.h"
#include "tests/simt/ptx.h"

namespace simt {

namespace {

void require_whole_warp(std::span<Thread* const> threads, const char* instruction) {
  for (const Thread* thread : threads)
    if (!thread) fail("%s needs all 32 lanes of the warp", instruction);
}

struct Rows {
  uint32_t* registers;
  char* row;
  bool transpose, stores;
  uintptr_t code;
  Where where;
};

void move_matrices(std::span<Thread* const> threads, std::span<void* const> arguments) {
  const auto of = [&](int lane) -> Rows& { return *static_cast<Rows*>(arguments[lane]); };
  const Rows& first = of(0);
  const char* name = first.stores ? "stmatrix" : "ldmatrix";
  require_whole_warp(threads, name);
  for (int lane = 0; lane < kWarpThreads; ++lane) {
    const Rows& rows = of(lane);
    shared_address(rows.row);
    if (reinterpret_cast<uintptr_t>(rows.row) % 16)
      fail("misaligned: %s%s: lane %d's row %p is not aligned to 16 bytes", name,
           at(rows.where).c_str(), lane, static_cast<void*>(rows.row));
    observe(*threads[lane], rows.row, 16, rows.stores ? Access::write : Access::read, rows.code);
  }
  for (int lane = 0; lane < 32; ++lane)
    for (int i = 0; i < 4; ++i)
      for (int half = 0; half < 2; ++half) {
        const Place place = place_in_matrix(lane, half, first.transpose);
        char* element = of(8 * i + place.row).row + 2 * place.column;
        char* in_register = reinterpret_cast<char*>(of(lane).registers + i) + 2 * half;
        std::memcpy(first.stores ? element : in_register, first.stores ? in_register : element, 2);
      }
}

const Collective kLoadMatrix{"ldmatrix", move_matrices};
const Collective kStoreMatrix{"stmatrix", move_matrices};

struct Operands {
  float* d;
  const uint32_t* a;
  uint32_t b[2];
  Where where;
};

MmaRegisters gather(std::span<Thread* const> threads, std::span<void* const> arguments) {
  require_whole_warp(threads, "mma.sync");
  MmaRegisters registers;
  for (size_t lane = 0; lane < 32; ++lane) {
    const Operands& o = *static_cast<Operands*>(arguments[lane]);
    for (size_t i = 0; i < 4; ++i) registers.a[lane][i] = o.a[i], registers.d[lane][i] = o.d[i];
    for (size_t i = 0; i < 2; ++i) registers.b[lane][i] = o.b[i];
  }
  return registers;
}
void scatter(const MmaRegisters& registers, std::span<void* const> arguments) {
  for (size_t lane = 0; lane < 32; ++lane)
    for (size_t i = 0; i < 4; ++i)
      static_cast<Operands*>(arguments[lane])->d[i] = registers.d[lane][i];
}

const Collective kMmaBf16{"mma.m16n8k16 of bf16", [](auto threads, auto arguments) {
                            MmaRegisters registers = gather(threads, arguments);
                            mma_m16n8k16(registers);
                            scatter(registers, arguments);
                          }};
const Collective kMmaTf32{"mma.m16n8k8 of tf32", [](auto threads, auto arguments) {
                            MmaRegisters registers = gather(threads, arguments);
                            mma_m16n8k8(registers);
                            scatter(registers, arguments);
                          }};

void require_tf32(uint32_t bits, Where where) {
  if (bits & 0x1fff)
    fail("mma_m16n8k8_tf32%s: operand 0x%08x is not rounded to tf32 (round_tf32)",
         at(where).c_str(), bits);
}

}  // namespace

void matrix_load(uint32_t* registers, const void* row, bool transpose, Where where) {
  Rows rows{registers, static_cast<char*>(const_cast<void*>(row)),  transpose,
            false,     return_address(__builtin_return_address(0)), where};
  warp_collective(kLoadMatrix, ~0u, &rows, where);
}
void matrix_store(const uint32_t* registers, void* row, Where where) {
  Rows rows{const_cast<uint32_t*>(registers),
            static_cast<char*>(row),
            false,
            true,
            return_address(__builtin_return_address(0)),
            where};
  warp_collective(kStoreMatrix, ~0u, &rows, where);
}

}  // namespace simt

namespace moat::kernels::ptx {

using namespace simt;

void mma_m16n8k16_bf16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1,
                       Where where) {
  Operands operands{d, a, {b0, b1}, where};
  warp_collective(kMmaBf16, ~0u, &operands, where);
}
void mma_m16n8k8_tf32(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1,
                      Where where) {
  for (const uint32_t bits : {a[0], a[1], a[2], a[3], b0, b1}) require_tf32(bits, where);
  Operands operands{d, a, {b0, b1}, where};
  warp_collective(kMmaTf32, ~0u, &operands, where);
}

}  // namespace moat::kernels::ptx
