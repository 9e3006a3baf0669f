#pragma once

// What is known of every word of device and shared memory: who wrote it last, who read it, whether
// it holds anything. Pages of 4 KiB start with a cell per four bytes; a page in which smaller
// things are accessed changes to cells for two bytes or for one.

#include <cstddef>
#include <cstdint>
#include <string>

#include "tests/simt/runtime/clocks.h"

namespace simt {

struct Cell {
  Epoch write = 0, read[2] = {0, 0};  // two readers that are not ordered, if there are two
  uint16_t write_code = 0, read_code[2] = {0, 0};
  uint16_t flags = 0;
};
static_assert(sizeof(Cell) == 32, "two to a cache line, none in two");
inline constexpr uint16_t kSet = 1;       // device memory: holds a value
inline constexpr uint16_t kAtomic = 2;    // written by an atomic
inline constexpr uint16_t kAsync = 4;     // written through the async proxy
inline constexpr uint16_t kInFlight = 8;  // asynchronous work is going to write it

enum class Space : uint8_t { none, shared, device };

inline constexpr int kPageBits = 12;
inline constexpr size_t kPageBytes = size_t{1} << kPageBits;

struct Page {
  Cell* cells = nullptr;
  uint16_t begin = 0, end = 0;  // the bytes of the page that may be accessed
  uint8_t shift = 2;            // a cell is for 1 << shift bytes
  Space space = Space::none;
};

// Dynamic shared memory and device memory lie in one reserved range, static shared memory in the
// program's thread-local segment.
inline constexpr size_t kArenaBytes = size_t{32} << 30;
inline constexpr size_t kHeapStart = size_t{256} << 10;  // dynamic shared memory is before it

struct AddressSpace {
  uintptr_t arena = 0;
  Page* pages = nullptr;
  uintptr_t static_shared = 0, static_start = 0;  // the segment, and the page that it starts in
  size_t static_bytes = 0;
  Page* static_pages = nullptr;
};
extern AddressSpace space;
void make_address_space();
void follow_thread();  // static shared memory is that of the calling thread

// The page of an address and, through `in_page`, the offset in it; null elsewhere.
inline Page* page_of(uintptr_t address, size_t* in_page) {
  const uintptr_t offset = address - space.arena;
  if (offset < kArenaBytes) {
    *in_page = offset & (kPageBytes - 1);
    return space.pages + (offset >> kPageBits);
  }
  if (address - space.static_shared < space.static_bytes) {
    const uintptr_t from = address - space.static_start;
    *in_page = from & (kPageBytes - 1);
    return space.static_pages + (from >> kPageBits);
  }
  return nullptr;
}

// Bytes [begin, end) of the range may be accessed from now on, or none of them.
void open_range(uintptr_t address, size_t bytes, Space kind);
void close_range(uintptr_t address, size_t bytes);
// Cells for `bytes` bytes at `address` or smaller; makes them if there are none.
void refine(Page& page, uintptr_t address, size_t bytes);
// Device memory holds something from now on, or counts as never written.
void mark_set(uintptr_t address, size_t bytes, bool set);

std::string describe(uintptr_t address);  // "shared memory + 16", "byte 8 of an allocation of 64"

// The places of code that accesses come from, by a number that fits a cell. 0 is no place.
class Places {
 public:
  uint16_t number(uintptr_t code) {
    const auto number = static_cast<uint16_t>(code * 0x9e3779b97f4a7c15u >> 48);
    return codes_[number] == code ? number : insert(code, number);
  }
  uintptr_t code(uint16_t number) const { return codes_[number]; }

 private:
  uint16_t insert(uintptr_t code, uint16_t number);
  uintptr_t codes_[1 << 16] = {};
};
extern Places places;
inline uint16_t short_code(uintptr_t code) { return places.number(code); }
inline uintptr_t long_code(uint16_t code) { return places.code(code); }

}  // namespace simt
