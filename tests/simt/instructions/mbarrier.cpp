#include "tests/simt/instructions/mbarrier.h"

#include <cstring>

#include "tests/simt/instructions/async_proxy.h"
#include "tests/simt/ptx.h"

namespace simt {

namespace {

constexpr int64_t kMostBytes = (1 << 20) - 1;  // also the most arrivals

struct Mbarrier {
  uint32_t expected = 0, pending = 0, phase = 0;
  int64_t bytes = 0;  // expected minus arrived; below zero while copies are ahead of expect_tx
  bool fenced = false;
  const Thread* initialized_by = nullptr;
  Where initialized_at;
  VectorClock arrived, complete;  // what arrivals so far, those of complete phases, knew

  uint64_t picture() const {
    return uint64_t{phase} << 63 | uint64_t{pending} << 42 | uint64_t{expected} << 21 |
           (static_cast<uint64_t>(bytes) & 0x1fffff);
  }
  bool is_complete(uint32_t parity) const { return phase != parity % 2; }
};

struct Mbarriers : Extension {
  std::unordered_map<uint64_t*, Mbarrier> all;
  void at_exit() override {
    for (const auto& [address, m] : all)
      if (m.bytes != 0)
        report(
            nullptr, 0,
            "mbarrier: the one initialised%s ends with %lld bytes %s (block (%u,%u,%u))",
            at(m.initialized_at).c_str(), static_cast<long long>(std::abs(m.bytes)),
            m.bytes > 0 ? "that it expects and nothing brought" : "more than it was told to expect",
            block->index.x, block->index.y, block->index.z);
  }
};

void show(uint64_t* barrier, const Mbarrier& m) {
  const uint64_t picture = m.picture();
  std::memcpy(barrier, &picture, sizeof(picture));
}

// The barrier as `current` finds it.
Mbarrier& find(uint64_t* barrier, const char* instruction, Where where, uintptr_t code) {
  shared_address(barrier);  // fails elsewhere
  if (reinterpret_cast<uintptr_t>(barrier) % 8)
    fail("misaligned: %s%s: an mbarrier is aligned to 8 bytes", instruction, at(where).c_str());
  observe(*current, barrier, sizeof(uint64_t), Access::atomic, code);
  auto& all = extension<Mbarriers>(*block).all;
  const auto found = all.find(barrier);
  if (found == all.end())
    fail("%s%s: no mbarrier is initialised there", instruction, at(where).c_str());
  const uint64_t picture = found->second.picture();
  if (std::memcmp(barrier, &picture, sizeof(picture)) != 0)
    fail("%s%s: the mbarrier initialised%s was overwritten", instruction, at(where).c_str(),
         at(found->second.initialized_at).c_str());
  return found->second;
}

void settle(uint64_t* barrier, Mbarrier& m) {
  if (std::abs(m.bytes) > kMostBytes)
    fail("mbarrier: the one initialised%s counts %lld bytes, more than it can hold",
         at(m.initialized_at).c_str(), static_cast<long long>(m.bytes));
  if (m.pending == 0 && m.bytes < 0)
    fail("mbarrier: the one initialised%s got %lld bytes more than it was told to expect",
         at(m.initialized_at).c_str(), static_cast<long long>(-m.bytes));
  if (m.pending == 0 && m.bytes == 0) {
    m.phase ^= 1;
    m.pending = m.expected;
    m.complete = m.arrived;
    wake_all(barrier);
  }
  show(barrier, m);
}

void arrive(uint64_t* barrier, Mbarrier& m, const char* instruction, Where where) {
  if (m.pending == 0)
    fail("%s%s: more arrivals than the %u that the mbarrier was initialised for%s", instruction,
         at(where).c_str(), m.expected, at(m.initialized_at).c_str());
  if (observing) release(*current, m.arrived);
  --m.pending;
  settle(barrier, m);
}

}  // namespace

void require_ready(uint64_t* barrier, const char* instruction, Where where, uintptr_t code) {
  const Mbarrier& m = find(barrier, instruction, where, code);
  if (!m.fenced)
    fail("%s%s: the mbarrier was initialised%s without a later fence_mbarrier_init of that thread",
         instruction, at(where).c_str(), at(m.initialized_at).c_str());
}

void complete(uint64_t* barrier, uint32_t bytes, const VectorClock& knows) {
  if (block->live == 0) return;  // reported at the block's exit
  Mbarrier& m = extension<Mbarriers>(*block).all.at(barrier);
  join(m.arrived, knows);
  m.bytes -= bytes;
  settle(barrier, m);
}

void fence_initialized_barriers() {
  for (auto& [address, m] : extension<Mbarriers>(*block).all)
    if (m.initialized_by == current) m.fenced = true;
}

}  // namespace simt

namespace moat::kernels::ptx {

using namespace simt;

void mbarrier_init(uint64_t* barrier, uint32_t arrivals, Where where) {
  simt::shared_address(barrier);
  if (reinterpret_cast<uintptr_t>(barrier) % 8)
    fail("misaligned: mbarrier_init%s: an mbarrier is aligned to 8 bytes", at(where).c_str());
  if (arrivals < 1 || arrivals > kMostBytes)
    fail("mbarrier_init%s: %u arrivals", at(where).c_str(), arrivals);
  observe(*current, barrier, sizeof(uint64_t), Access::write,
          return_address(__builtin_return_address(0)));
  auto [entry, is_new] = extension<Mbarriers>(*block).all.try_emplace(barrier);
  Mbarrier& m = entry->second;
  if (!is_new)
    fail("mbarrier_init%s: the mbarrier initialised%s is in use there", at(where).c_str(),
         at(m.initialized_at).c_str());
  m.expected = m.pending = arrivals;
  m.initialized_by = current;
  m.initialized_at = where;
  show(barrier, m);
}

void fence_mbarrier_init() { fence_initialized_barriers(); }

void mbarrier_arrive(uint64_t* barrier, Where where) {
  maybe_preempt();
  Mbarrier& m =
      find(barrier, "mbarrier_arrive", where, return_address(__builtin_return_address(0)));
  arrive(barrier, m, "mbarrier_arrive", where);
}

void mbarrier_arrive_expect_tx(uint64_t* barrier, uint32_t bytes, Where where) {
  maybe_preempt();
  Mbarrier& m = find(barrier, "mbarrier_arrive_expect_tx", where,
                     return_address(__builtin_return_address(0)));
  m.bytes += bytes;
  arrive(barrier, m, "mbarrier_arrive_expect_tx", where);
}

void mbarrier_wait(uint64_t* barrier, uint32_t parity, Where where) {
  maybe_preempt();
  const auto code = return_address(__builtin_return_address(0));
  if (parity > 1) fail("mbarrier wait%s: parity %u", at(where).c_str(), parity);
  while (!find(barrier, "mbarrier wait", where, code).is_complete(parity))
    sleep_on(barrier, parity == 0 ? "mbarrier wait (parity 0)" : "mbarrier wait (parity 1)", where);
  if (observing) acquire(*current, find(barrier, "mbarrier wait", where, code).complete);
}

}  // namespace moat::kernels::ptx
