// cudaMemcpy, cudaMemset and their relations.

#include <cstring>

#include "tests/simt/core.h"
#include "tests/simt/runtime/guard.h"
#include "tests/simt/runtime/memory.h"
#include "tests/simt/runtime/shadow.h"
#include "tests/simt/runtime/streams.h"

namespace simt {

namespace {

struct Copy {
  void* to;
  const void* from;
  size_t bytes;
  bool to_device, from_device;
};

Copy copy_of(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  const bool by_address = kind == cudaMemcpyDefault;
  return {to, from, bytes,
          by_address ? is_in_heap(to)
                     : kind == cudaMemcpyHostToDevice || kind == cudaMemcpyDeviceToDevice,
          by_address ? is_in_heap(from)
                     : kind == cudaMemcpyDeviceToHost || kind == cudaMemcpyDeviceToDevice};
}

bool is_legal(const Copy& c) {
  return (c.to_device ? is_allocated(c.to, c.bytes) : !is_in_heap(c.to)) &&
         (c.from_device ? is_allocated(c.from, c.bytes) : !is_in_heap(c.from));
}

void run(const Copy& c) {
  const DeviceAccess access;
  std::memmove(c.to, c.from, c.bytes);
  if (c.to_device) mark_set(reinterpret_cast<uintptr_t>(c.to), c.bytes, true);
}

// Memory of the host that a recorded copy names must be there when the graph is launched.
bool may_be_recorded(const Copy& c) {
  return (c.to_device || is_page_locked(c.to, c.bytes)) &&
         (c.from_device || is_page_locked(c.from, c.bytes));
}

void fail_in_graph(const char* what, const void* address) {
  throw Error(std::string("a graph is launched whose ") + what +
              " is of memory that has been freed since: " +
              describe_device(reinterpret_cast<uintptr_t>(address)));
}

void run_recorded(const Copy& c) {
  for (const void* address : {static_cast<const void*>(c.to), c.from})
    if (!is_allocated(address, c.bytes) && !is_page_locked(address, c.bytes))
      fail_in_graph("copy", address);
  run(c);
}

cudaError_t copy_async(const Copy& c, cudaStream_t stream) {
  if (const cudaError_t error = may_enqueue(stream)) return error;
  if (c.bytes == 0) return cudaSuccess;
  if (!is_legal(c)) return cudaErrorInvalidValue;
  if (!is_capturing(stream)) {
    do_or_put_off(stream, [c] { run(c); });
    if (stream && !may_be_recorded(c)) finish(stream);  // host memory that is not page-locked
    return cudaSuccess;
  }
  if (!may_be_recorded(c)) {
    stream->capture->is_invalidated = true;
    return cudaErrorStreamCaptureUnsupported;
  }
  add_node(stream, cudaGraphNodeTypeMemcpy, [c] { run_recorded(c); });
  return cudaSuccess;
}

cudaError_t copy(const Copy& c) {
  if (const cudaError_t error = may_copy_synchronously()) return error;
  return copy_async(c, nullptr);
}

void fill(void* address, int byte, size_t bytes) {
  const DeviceAccess access;
  std::memset(address, byte, bytes);
  mark_set(reinterpret_cast<uintptr_t>(address), bytes, true);
}

cudaError_t fill_async(void* address, int byte, size_t bytes, cudaStream_t stream) {
  if (const cudaError_t error = may_enqueue(stream)) return error;
  if (bytes == 0) return cudaSuccess;
  if (!is_allocated(address, bytes)) return cudaErrorInvalidValue;
  if (!is_capturing(stream))
    return do_or_put_off(stream, [=] { fill(address, byte, bytes); }), cudaSuccess;
  add_node(stream, cudaGraphNodeTypeMemset, [=] {
    if (!is_allocated(address, bytes)) fail_in_graph("cudaMemsetAsync", address);
    fill(address, byte, bytes);
  });
  return cudaSuccess;
}

cudaError_t fill_and_wait(void* address, int byte, size_t bytes) {
  if (const cudaError_t error = may_copy_synchronously()) return error;
  const cudaError_t error = fill_async(address, byte, bytes, nullptr);
  if (error == cudaSuccess && bytes > 0 && (byte & 0xff) == 0xff)
    mark_set(reinterpret_cast<uintptr_t>(address), bytes, false);
  return error;
}

}  // namespace

}  // namespace simt

using simt::remember;
using simt::Turn;

cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  const Turn turn(simt::host_mutex());
  return remember(simt::copy(simt::copy_of(to, from, bytes, kind)));
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  const Turn turn(simt::host_mutex());
  return remember(simt::copy_async(simt::copy_of(to, from, bytes, kind), stream));
}
cudaError_t cudaMemset(void* address, int byte, size_t bytes) {
  const Turn turn(simt::host_mutex());
  return remember(simt::fill_and_wait(address, byte, bytes));
}
cudaError_t cudaMemsetAsync(void* address, int byte, size_t bytes, cudaStream_t stream) {
  const Turn turn(simt::host_mutex());
  return remember(simt::fill_async(address, byte, bytes, stream));
}
