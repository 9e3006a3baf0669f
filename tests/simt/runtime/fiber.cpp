#include "tests/simt/runtime/fiber.h"

#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>
#include <vector>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#if defined(__x86_64__)
// Saves the callee-saved registers on the stack, stores the stack pointer in *save and continues
// at `to`. Jumping instead of returning keeps the return predictor of the caller intact.
extern "C" void simt_switch_stack(void** save, void* to);
asm(R"(
.pushsection .text
.type simt_switch_stack, @function
simt_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  popq %r8
  jmp *%r8
.size simt_switch_stack, . - simt_switch_stack
.popsection
)");
#endif

namespace simt {

namespace {

constexpr size_t kGuardBytes = 4096;
constexpr int kMostStacks = 1024;  // the threads of a block

void* scheduler_pointer = nullptr;
#if defined(__SANITIZE_ADDRESS__)
void* scheduler_fake_stack = nullptr;
const void* scheduler_low = nullptr;
size_t scheduler_bytes = 0;
#endif

char* stacks() {
  static char* const base =
      static_cast<char*>(mmap(nullptr, kMostStacks * kStackBytes, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
  if (base == MAP_FAILED) abort();
  return base;
}

#if !defined(__x86_64__)
ucontext_t scheduler_context;
std::vector<ucontext_t>& contexts() {
  static std::vector<ucontext_t> all(kMostStacks);
  return all;
}
#endif

void to_scheduler(Fiber& fiber, [[maybe_unused]] void** fake_stack) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(fake_stack, scheduler_low, scheduler_bytes);
#endif
#if defined(__x86_64__)
  simt_switch_stack(&fiber.stack_pointer, scheduler_pointer);
#else
  swapcontext(static_cast<ucontext_t*>(fiber.stack_pointer), &scheduler_context);
#endif
}

}  // namespace

void prepare(Fiber& fiber, int slot, void (*entry)()) {
  static std::vector<bool> guarded(kMostStacks);
  char* base = stacks() + static_cast<size_t>(slot) * kStackBytes;
  if (!guarded[slot]) {
    mprotect(base, kGuardBytes, PROT_NONE);
    guarded[slot] = true;
  }
  fiber.low = base + kGuardBytes;
  // Stacks that end at the same offset would share the same few cache sets.
  fiber.high = base + kStackBytes - slot % 64 * 192;
  fiber.fake_stack = nullptr;
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(fiber.low, kStackBytes - kGuardBytes);
#endif
#if defined(__x86_64__)
  // The ABI wants the stack 8 bytes off a multiple of 16 at a function's entry.
  auto** top = reinterpret_cast<void**>(fiber.high);
  *--top = nullptr;
  *--top = reinterpret_cast<void*>(entry);
  for (int saved = 0; saved < 6; ++saved) *--top = nullptr;
  fiber.stack_pointer = top;
#else
  ucontext_t& context = contexts()[slot];
  getcontext(&context);
  context.uc_stack.ss_sp = fiber.low;
  context.uc_stack.ss_size = static_cast<size_t>(fiber.high - fiber.low);
  context.uc_link = nullptr;
  makecontext(&context, entry, 0);
  fiber.stack_pointer = &context;
#endif
}

void resume(Fiber& fiber) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&scheduler_fake_stack, fiber.low,
                                 static_cast<size_t>(fiber.high - fiber.low));
#endif
#if defined(__x86_64__)
  simt_switch_stack(&scheduler_pointer, fiber.stack_pointer);
#else
  swapcontext(&scheduler_context, static_cast<ucontext_t*>(fiber.stack_pointer));
#endif
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(scheduler_fake_stack, nullptr, nullptr);
#endif
}

void started() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, &scheduler_low, &scheduler_bytes);
#endif
}

void pause(Fiber& fiber) {
  to_scheduler(fiber, &fiber.fake_stack);
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fiber.fake_stack, nullptr, nullptr);
#endif
}

void finish(Fiber& fiber) {
  to_scheduler(fiber, nullptr);
  abort();
}

int stack_slot(const void* address) {
  const auto offset = reinterpret_cast<uintptr_t>(address) - reinterpret_cast<uintptr_t>(stacks());
  return offset < kMostStacks * kStackBytes ? static_cast<int>(offset / kStackBytes) : -1;
}

}  // namespace simt
