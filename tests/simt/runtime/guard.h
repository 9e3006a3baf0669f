#pragma once

namespace simt {

// With Options::guard_device_memory device memory is accessible during the life of such an object
// only: a kernel, a copy or a library runs. Host code that touches it otherwise ends the program
// with a report.
class DeviceAccess {
 public:
  DeviceAccess();
  ~DeviceAccess();
  DeviceAccess(const DeviceAccess&) = delete;
  DeviceAccess& operator=(const DeviceAccess&) = delete;
};

}  // namespace simt
