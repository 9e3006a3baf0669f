// The functions that g++ -fsanitize=thread calls around every load and store of a kernel. These
// stand in for ThreadSanitizer's library, which is not linked.

#include <cstring>

#include "tests/simt/runtime/observe.h"
#include "tests/simt/runtime/preempt.h"

namespace simt {

const bool observing = true;

namespace {

[[gnu::noinline, gnu::cold]] void misaligned(uintptr_t address, size_t bytes, const char* verb,
                                             uintptr_t code) {
  fail("misaligned: %s %s %zu bytes%s at an address that is no multiple of %zu (%s)",
       thread_name(*current).c_str(), verb, bytes, at(code).c_str(), bytes,
       describe(address).c_str());
}

template <bool kWrite, bool kAligned>
[[gnu::always_inline]] inline void access(const void* pointer, size_t bytes, const void* code) {
  if (!current) return;
  const auto address = reinterpret_cast<uintptr_t>(pointer);
  if (address - reinterpret_cast<uintptr_t>(current->fiber.low) < kStackBytes) return;
  const auto pc = reinterpret_cast<uintptr_t>(code);
  if (kAligned && (address & (bytes - 1))) [[unlikely]]
    misaligned(address, bytes, kWrite ? "writes" : "reads", pc);
  if (--accesses_to_preemption == 0) [[unlikely]]
    preempt();
  if (!observe_alone<kWrite>(*current, address, bytes, pc))
    observe_plain<kWrite>(*current, address, bytes, pc);
}

}  // namespace

}  // namespace simt

extern "C" {

void __tsan_init() {}
void __tsan_func_entry(void*) {}
void __tsan_func_exit() {}
void __tsan_vptr_read(void**) {}
void __tsan_vptr_update(void**, void*) {}

void __tsan_read1(void* address) {
  simt::access<false, true>(address, 1, __builtin_return_address(0));
}
void __tsan_read2(void* address) {
  simt::access<false, true>(address, 2, __builtin_return_address(0));
}
void __tsan_read4(void* address) {
  simt::access<false, true>(address, 4, __builtin_return_address(0));
}
void __tsan_read8(void* address) {
  simt::access<false, true>(address, 8, __builtin_return_address(0));
}
void __tsan_read16(void* address) {
  simt::access<false, true>(address, 16, __builtin_return_address(0));
}
void __tsan_write1(void* address) {
  simt::access<true, true>(address, 1, __builtin_return_address(0));
}
void __tsan_write2(void* address) {
  simt::access<true, true>(address, 2, __builtin_return_address(0));
}
void __tsan_write4(void* address) {
  simt::access<true, true>(address, 4, __builtin_return_address(0));
}
void __tsan_write8(void* address) {
  simt::access<true, true>(address, 8, __builtin_return_address(0));
}
void __tsan_write16(void* address) {
  simt::access<true, true>(address, 16, __builtin_return_address(0));
}
void __tsan_unaligned_read2(void* address) {
  simt::access<false, false>(address, 2, __builtin_return_address(0));
}
void __tsan_unaligned_read4(void* address) {
  simt::access<false, false>(address, 4, __builtin_return_address(0));
}
void __tsan_unaligned_read8(void* address) {
  simt::access<false, false>(address, 8, __builtin_return_address(0));
}
void __tsan_unaligned_read16(void* address) {
  simt::access<false, false>(address, 16, __builtin_return_address(0));
}
void __tsan_unaligned_write2(void* address) {
  simt::access<true, false>(address, 2, __builtin_return_address(0));
}
void __tsan_unaligned_write4(void* address) {
  simt::access<true, false>(address, 4, __builtin_return_address(0));
}
void __tsan_unaligned_write8(void* address) {
  simt::access<true, false>(address, 8, __builtin_return_address(0));
}
void __tsan_unaligned_write16(void* address) {
  simt::access<true, false>(address, 16, __builtin_return_address(0));
}
void __tsan_read_range(void* address, size_t bytes) {
  simt::access<false, false>(address, bytes, __builtin_return_address(0));
}
void __tsan_write_range(void* address, size_t bytes) {
  simt::access<true, false>(address, bytes, __builtin_return_address(0));
}
void* __tsan_memcpy(void* to, const void* from, size_t bytes) {
  simt::access<false, false>(from, bytes, __builtin_return_address(0));
  simt::access<true, false>(to, bytes, __builtin_return_address(0));
  return std::memcpy(to, from, bytes);
}
void* __tsan_memmove(void* to, const void* from, size_t bytes) {
  simt::access<false, false>(from, bytes, __builtin_return_address(0));
  simt::access<true, false>(to, bytes, __builtin_return_address(0));
  return std::memmove(to, from, bytes);
}
void* __tsan_memset(void* to, int byte, size_t bytes) {
  simt::access<true, false>(to, bytes, __builtin_return_address(0));
  return std::memset(to, byte, bytes);
}

// The guard of a static variable in host code. Kernels have CUDA's own atomics.
unsigned char __tsan_atomic8_load(const volatile unsigned char* address, int) {
  return __atomic_load_n(address, __ATOMIC_ACQUIRE);
}

}  // extern "C"
