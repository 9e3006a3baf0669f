// cp.async: bytes land when the thread waits for them, or when the scheduler lets a barrier know.

#include <cstring>

#include "tests/simt/core.h"
#include "tests/simt/instructions/async_proxy.h"
#include "tests/simt/instructions/mbarrier.h"
#include "tests/simt/instructions/numbers.h"
#include "tests/simt/ptx.h"

namespace simt {

namespace {

struct Copy {
  void* to;
  const void* from;
  int bytes, filled;
  uintptr_t code;
  bool is_done = false;
};
using Group = std::vector<std::shared_ptr<Copy>>;

struct Copies : Extension {
  Group open;
  std::deque<Group> groups;
};

void finish_copies(Thread& by, const Group& group) {
  for (const std::shared_ptr<Copy>& copy : group) {
    if (copy->is_done) continue;
    copy->is_done = true;
    std::memset(copy->to, 0, static_cast<size_t>(copy->bytes));
    std::memcpy(copy->to, copy->from, static_cast<size_t>(copy->filled));
    land(by, copy->to, static_cast<size_t>(copy->bytes), Access::write, copy->code);
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
  extension<Copies>(*current).open.push_back(
      std::make_shared<Copy>(Copy{shared, global, bytes, filled, code}));
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

void cp_async_arrive(uint64_t* barrier, Where where) {
  const auto code = return_address(__builtin_return_address(0));
  require_fixed_place(barrier, "cp_async_arrive", where);
  simt::shared_address(barrier);
  const BarrierTarget target =
      async_target(barrier, *current->block, "cp_async_arrive", where, code);
  const Copies& copies = extension<Copies>(*current);
  Group earlier = copies.open;
  for (const Group& group : copies.groups)
    earlier.insert(earlier.end(), group.begin(), group.end());
  run_later([target, earlier = std::move(earlier), origin = origin_here(code)] {
    as_of(origin, [&] { finish_copies(*origin.by, earlier); });
    complete(target, 1, 0, origin.knows);
  });
}

void prefetch_l2(const void* global) {
  observe(*current, global, 1, Access::read, return_address(__builtin_return_address(0)));
}

uint4 load_once(const void* global, Where where) {
  if (reinterpret_cast<uintptr_t>(global) % 16)
    fail("misaligned: load_once%s from %p", at(where).c_str(), global);
  observe(*current, global, 16, Access::read, return_address(__builtin_return_address(0)));
  uint4 v;
  std::memcpy(&v, global, sizeof(v));
  return v;
}

void store_evict_first(void* global, uint4 v, Where where) {
  if (reinterpret_cast<uintptr_t>(global) % 16)
    fail("misaligned: store_evict_first%s to %p", at(where).c_str(), global);
  observe(*current, global, 16, Access::write, return_address(__builtin_return_address(0)));
  std::memcpy(global, &v, sizeof(v));
}

uint32_t pack_bf16(float low, float high) {
  return to_bf16(low) | static_cast<uint32_t>(to_bf16(high)) << 16;
}
uint32_t pack_f16(float low, float high) {
  return to_f16(low) | static_cast<uint32_t>(to_f16(high)) << 16;
}
uint32_t round_tf32(float x) { return to_tf32(x); }

}  // namespace moat::kernels::ptx
