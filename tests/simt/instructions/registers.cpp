// The registers of a warpgroup.

#include "tests/simt/core.h"
#include "tests/simt/ptx.h"

namespace simt {

namespace {

void check_registers(std::span<Thread* const>, std::span<void* const> arguments) {
  for (const void* argument : arguments)
    if (*static_cast<const int*>(argument) != *static_cast<const int*>(arguments[0]))
      fail("setmaxnreg: the threads of the warpgroup ask for different numbers of registers");
}
const Collective kSetRegisters{"setmaxnreg", check_registers};

}  // namespace

void set_registers(int registers, Where where) {
  warpgroup_collective(kSetRegisters, &registers, where);
}

}  // namespace simt
