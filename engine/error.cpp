#include "engine/error.h"

#include <limits>

namespace moat::engine {

namespace {
const char* meaning(kernels::Status status) {
  switch (status) {
    case kernels::Status::ok:
      return "ok";
    case kernels::Status::bad_args:
      return "an argument is outside the kernel's contract";
    case kernels::Status::unsupported:
      return "this target or machine does not support the operation in this size or number format";
    case kernels::Status::small_workspace:
      return "the workspace is too small";
    case kernels::Status::library_failed:
      return "a library call failed";
    case kernels::Status::launch_failed:
      return "the CUDA launch failed";
  }
  return "unknown status";
}
}  // namespace

void check(kernels::Status status, Where where) {
  if (status != kernels::Status::ok) throw Error(text("kernel: ", meaning(status)), where);
}

int to_int(int64_t extent, Where where) {
  if (extent < 0 || extent > std::numeric_limits<int>::max())
    throw Error(text("an extent must be between 0 and 2147483647, got ", extent), where);
  return static_cast<int>(extent);
}

}  // namespace moat::engine
