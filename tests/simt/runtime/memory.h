#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace simt {

// What an address in or near device memory is, in words.
std::string describe_device(uintptr_t address);
bool is_allocated(const void* address, size_t bytes);
bool is_in_heap(const void* address);  // device memory, or what has been or may become some
size_t heap_end();                     // offset in the arena; 0 before the first allocation
bool is_page_locked(const void* address, size_t bytes);

struct DeviceMemory {
  size_t free, total;
};
DeviceMemory device_memory();

}  // namespace simt
