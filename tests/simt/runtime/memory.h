#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace simt {

// What an address in or near device memory is, in words.
std::string describe_device(uintptr_t address);
bool is_allocated(const void* address, size_t bytes);

}  // namespace simt
