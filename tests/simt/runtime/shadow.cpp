#include "tests/simt/runtime/shadow.h"

#include <link.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#include "tests/simt/core.h"
#include "tests/simt/runtime/memory.h"
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace simt {

AddressSpace space;

namespace {

void* reserve(size_t bytes) {
  void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) abort();
  return memory;
}

// Static shared memory is `thread_local`: the program's own segment of this thread.
void find_static_shared() {
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void*) {
        for (int i = 0; i < info->dlpi_phnum; ++i)
          if (info->dlpi_phdr[i].p_type == PT_TLS) {
            space.static_shared = reinterpret_cast<uintptr_t>(info->dlpi_tls_data);
            space.static_bytes = info->dlpi_phdr[i].p_memsz;
          }
        return 1;  // the first is the program
      },
      nullptr);
  space.static_start = space.static_shared & ~(kPageBytes - 1);
}

size_t static_page_count() {
  return (space.static_shared + space.static_bytes - space.static_start) / kPageBytes + 1;
}

std::vector<Page> static_pages;

size_t cell_count(int shift) { return kPageBytes >> shift; }

template <class Visit>
void for_pages(uintptr_t address, size_t bytes, Visit visit) {
  while (bytes > 0) {
    size_t in_page = 0;
    Page* page = page_of(address, &in_page);
    const size_t here = std::min(bytes, kPageBytes - in_page);
    visit(*page, address, in_page, here);
    address += here;
    bytes -= here;
  }
}

}  // namespace

void follow_thread() {
  static std::thread::id followed;
  if (followed == std::this_thread::get_id()) return;
  followed = std::this_thread::get_id();
  for (Page& page : static_pages) std::free(page.cells);
  static_pages.clear();
  find_static_shared();
  if (space.static_bytes == 0) return;
  static_pages.resize(static_page_count());
  space.static_pages = static_pages.data();
  open_range(space.static_shared, space.static_bytes, Space::shared);
}

void make_address_space() {
  if (space.arena) return;
  // Aligned to a page of shared memory, so that a block's starts at a multiple of 1024.
  space.arena = reinterpret_cast<uintptr_t>(reserve(kArenaBytes));
  space.pages = static_cast<Page*>(reserve((kArenaBytes >> kPageBits) * sizeof(Page)));
  follow_thread();
}

void open_range(uintptr_t address, size_t bytes, Space kind) {
  for_pages(address, bytes, [&](Page& page, uintptr_t, size_t in_page, size_t here) {
    page.space = kind;
    page.begin = static_cast<uint16_t>(in_page);
    page.end = static_cast<uint16_t>(in_page + here);
    if (page.shift == 0) page.shift = page.cells ? page.shift : 2;
    if (!page.cells) page.shift = 2;
  });
}

void close_range(uintptr_t address, size_t bytes) {
  for_pages(address, bytes, [&](Page& page, uintptr_t, size_t, size_t) {
    std::free(page.cells);
    page = Page{};
  });
}

void refine(Page& page, uintptr_t address, size_t bytes) {
  int shift = page.cells ? page.shift : 2;
  while ((address | bytes) & ((uintptr_t{1} << shift) - 1)) --shift;
  if (page.cells && shift == page.shift) return;
  auto* cells = static_cast<Cell*>(std::aligned_alloc(64, cell_count(shift) * sizeof(Cell)));
  if (!cells) abort();
  for (size_t i = 0; i < cell_count(shift); ++i)
    cells[i] = page.cells ? page.cells[i >> (page.shift - shift)] : Cell{};
  std::free(page.cells);
  page.cells = cells;
  page.shift = static_cast<uint8_t>(shift);
}

void mark_set(uintptr_t address, size_t bytes, bool set) {
  if (!observing) return;
  for_pages(address, bytes, [&](Page& page, uintptr_t from, size_t in_page, size_t here) {
    refine(page, from, here);
    for (size_t i = in_page >> page.shift; i < (in_page + here) >> page.shift; ++i) {
      page.cells[i] = Cell{};
      page.cells[i].flags = set ? kSet : 0;
    }
  });
}

std::string describe(uintptr_t address) {
  char text[160];
  if (const uintptr_t offset = address - space.arena; offset < kHeapStart) {
    const size_t bytes = running ? running->shared_bytes : 0;
    snprintf(text, sizeof(text), "byte %zu of the %zu of dynamic shared memory%s",
             static_cast<size_t>(offset), bytes, offset >= bytes ? ", past its end" : "");
    return text;
  }
  if (address - space.static_shared < space.static_bytes) return "static shared memory";
  if (const int slot = stack_slot(reinterpret_cast<void*>(address)); slot >= 0) {
    if (block && slot < static_cast<int>(block->threads.size()))
      return "local memory of " + thread_name(block->threads[slot]);
    return "local memory of no thread";
  }
  return describe_device(address);
}

Places places;

uint16_t Places::insert(uintptr_t code, uint16_t number) {
  if (code == 0) return 0;
  for (int tries = 0; tries < 1 << 16; ++tries, ++number) {
    if (number == 0 || (codes_[number] != 0 && codes_[number] != code)) continue;
    codes_[number] = code;
    return number;
  }
  return 0;
}

}  // namespace simt
