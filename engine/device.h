#pragma once

#include <cstdint>
#include <string>

namespace moat::engine {

#ifdef MOAT_CUDA
inline constexpr bool kCudaBuilt = true;
#else
inline constexpr bool kCudaBuilt = false;
#endif

struct Device {
  enum Type : uint8_t { cpu, cuda } type = cpu;
  int8_t index = 0;
  bool is_cpu() const { return type == cpu; }
  friend bool operator==(Device, Device) = default;
};

inline std::string name_of(Device device) {  // "cpu", "cuda:0"
  return device.is_cpu() ? "cpu" : "cuda:" + std::to_string(device.index);
}

}  // namespace moat::engine
