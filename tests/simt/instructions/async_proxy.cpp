#include "tests/simt/instructions/async_proxy.h"

#include "tests/simt/instructions/mbarrier.h"
#include "tests/simt/ptx.h"
#include "tests/simt/runtime/observe.h"

namespace simt {

namespace {

// What a thread knew at its last proxy fence, its own clock included.
struct ProxyFence : Extension {
  VectorClock knew;
};

bool was_fenced(Thread& by, Epoch write) {
  const VectorClock& knew = extension<ProxyFence>(by).knew;
  const auto writer = static_cast<size_t>(thread_of(write));
  return writer < knew.size() && knew[writer] >= clock_of(write);
}

// kernels/ptx has no fence for global memory.
void check_proxy(Thread& by, const Cell& cell, uintptr_t address, bool is_shared, uintptr_t code) {
  if ((cell.flags & kAsync) || generation_of(cell.write) != observer.generation) return;
  Thread& writer = block->threads[static_cast<size_t>(thread_of(cell.write))];
  if (is_shared && (was_fenced(writer, cell.write) || was_fenced(by, cell.write))) return;
  report(nullptr, uint64_t{short_code(code)} << 32 | cell.write_code,
         "missing proxy fence: %s reads asynchronously%s what %s wrote%s, with no %s between (%s)",
         thread_name(by).c_str(), at(code).c_str(), thread_name(writer).c_str(),
         at(long_code(cell.write_code)).c_str(),
         is_shared ? "fence_proxy_async" : "fence of global memory", describe(address).c_str());
}

}  // namespace

Origin origin_here(uintptr_t code) {
  Origin origin{current, current->clocks.own, {}, code};
  if (observing) release(*current, origin.knows);
  return origin;
}

void join(VectorClock& to, const VectorClock& from) {
  if (to.size() < from.size()) to.resize(from.size());
  for (size_t i = 0; i < from.size(); ++i) to[i] = std::max(to[i], from[i]);
}

void observe_async_read(Thread& by, const void* pointer, size_t bytes, Unwritten unwritten,
                        uintptr_t code) {
  if (!observing || bytes == 0) return;
  auto address = reinterpret_cast<uintptr_t>(pointer);
  const Epoch now = by.epoch();
  for (size_t done = 0; done < bytes;) {
    size_t in_page = 0;
    Page* page = page_of(address, &in_page);
    const size_t here = std::min(bytes - done, kPageBytes - in_page);
    if (!page || in_page < page->begin || in_page + here > page->end)
      return observe(by, pointer, bytes, Access::async_read, code);  // says what is wrong
    refine(*page, address, here);
    const bool is_shared = page->space == Space::shared;
    const size_t step = size_t{1} << page->shift;
    for (size_t i = in_page; i < in_page + here; i += step) {
      Cell& cell = page->cells[i >> page->shift];
      const bool stale = is_shared && generation_of(cell.write) != observer.generation;
      const uintptr_t place = address + (i - in_page);
      if ((!stale && (cell.flags & kInFlight)) ||
          (unwritten == Unwritten::reported && !is_set(cell, is_shared)) ||
          (!stale && !is_ordered(by, cell.write, is_shared)))
        report_access(by, cell, place, step, Access::async_read, code, is_shared);
      else if (!stale)
        check_proxy(by, cell, place, is_shared, code);
      const int slot = is_ordered(by, cell.read[0], is_shared) ? 0 : 1;
      cell.read[slot] = now;
      cell.read_code[slot] = short_code(code);
    }
    address += here;
    done += here;
  }
}

}  // namespace simt

namespace moat::kernels::ptx {

using namespace simt;

void fence_proxy_async() {
  fence_initialized_barriers();
  if (observing) release(*current, extension<ProxyFence>(*current).knew);
}

uint32_t shared_address(const void* shared) { return simt::shared_address(shared); }

}  // namespace moat::kernels::ptx
