// cp.async: bytes land when the thread waits for them.

#include <cstring>

#include "tests/simt/core.h"
#include "tests/simt/instructions/async_proxy.h"
#include "tests/simt/instructions/numbers.h"
#include "tests/simt/ptx.h"

namespace simt {

namespace {

struct Copy {
  void* to;
  const void* from;
  int bytes, filled;
  uintptr_t code;
};
using Group = std::vector<Copy>;

struct Copies : Extension {
  Group open;
  std::deque<Group> groups;
};

void finish_copies(Thread& by, const Group& group) {
  for (const Copy& copy : group) {
    std::memset(copy.to, 0, static_cast<size_t>(copy.bytes));
    std::memcpy(copy.to, copy.from, static_cast<size_t>(copy.filled));
    land(by, copy.to, static_cast<size_t>(copy.bytes), Access::write, copy.code);
  }
}

}  // namespace

void copy_async(void* shared, const void* global, int bytes, int filled, Where where) {
  maybe_preempt();
  const auto code = return_address(__builtin_return_address(0));
  shared_address(shared);
  const auto misaligned = [&](const void* p) {
    return reinterpret_cast<uintptr_t>(p) % static_cast<uintptr_t>(bytes) != 0;
  };
  if (misaligned(shared) || misaligned(global))
    fail("misaligned: cp_async of %d bytes%s from %p to %p", bytes, at(where).c_str(), global,
         shared);
  if (filled < 0 || filled > bytes)
    fail("cp_async of %d bytes%s: %d of them from memory", bytes, at(where).c_str(), filled);
  observe(*current, global, static_cast<size_t>(filled), Access::read, code);
  take_off(*current, shared, static_cast<size_t>(bytes), code);
  ++current->clocks.own;  // what this thread does next is after the start
  extension<Copies>(*current).open.push_back({shared, global, bytes, filled, code});
}

void copy_async_wait(int pending, Where) {
  Copies& copies = extension<Copies>(*current);
  while (static_cast<int>(copies.groups.size()) > pending) {
    finish_copies(*current, copies.groups.front());
    copies.groups.pop_front();
  }
}

}  // namespace simt

namespace moat::kernels::ptx {

using namespace simt;

void cp_async_commit() {
  Copies& copies = extension<Copies>(*current);
  copies.groups.push_back(std::move(copies.open));
  copies.open.clear();
}

void prefetch_l2(const void* global) {
  observe(*current, global, 1, Access::read, return_address(__builtin_return_address(0)));
}

}  // namespace moat::kernels::ptx
