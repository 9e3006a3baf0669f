#include "tests/simt/library/host_values.h"

#include <algorithm>
#include <cstring>
#include <memory>

#include "tests/simt/runtime/memory.h"
#include "tests/simt/runtime/shadow.h"

namespace moat::tests {

using namespace kernels;

namespace {

void check(const void* address, size_t bytes) {
  if (!simt::is_allocated(address, bytes))
    throw simt::Error("out of bounds: a library's call reaches outside device memory at " +
                      simt::describe_device(reinterpret_cast<uintptr_t>(address)));
}

template <class C, class T>
void widen(const void* from, std::vector<C>& to) {
  check(from, to.size() * sizeof(T));
  std::copy_n(static_cast<const T*>(from), to.size(), to.begin());
}

template <class T, class C>
void narrow(const std::vector<C>& from, void* to) {
  check(to, from.size() * sizeof(T));
  std::transform(from.begin(), from.end(), static_cast<T*>(to), [](C x) { return T(x); });
  simt::mark_set(reinterpret_cast<uintptr_t>(to), from.size() * sizeof(T), true);
}

}  // namespace

template <class C>
std::vector<C> fetched(const void* from, int64_t count, Dtype dtype) {
  if (!from) return {};
  std::vector<C> values(static_cast<size_t>(count));
  if constexpr (std::is_same_v<C, double>)
    widen<double, double>(from, values);
  else if (dtype == Dtype::bf16)
    widen<float, Bf16>(from, values);
  else
    widen<float, float>(from, values);
  return values;
}

template <class C>
void deliver(const std::vector<C>& values, void* to, Dtype dtype) {
  if constexpr (std::is_same_v<C, double>)
    narrow<double>(values, to);
  else if (dtype == Dtype::bf16)
    narrow<Bf16>(values, to);
  else
    narrow<float>(values, to);
}

template std::vector<float> fetched(const void*, int64_t, Dtype);
template std::vector<double> fetched(const void*, int64_t, Dtype);
template void deliver(const std::vector<float>&, void*, Dtype);
template void deliver(const std::vector<double>&, void*, Dtype);

void scribble(void* workspace, size_t bytes) {
  if (bytes == 0) return;
  check(workspace, bytes);
  std::memset(workspace, 0xa5, bytes);
}

Cpu on_cpu(Context& context, std::vector<char>& memory) {
  void* workspace = memory.data();
  size_t bytes = memory.size();
  std::align(64, 1, workspace, bytes);
  return {&context, workspace, bytes};
}

void require_ok(Status status) {
  if (status != Status::ok)
    throw simt::Error("the CPU kernel in the place of a library failed: status " +
                      std::to_string(static_cast<int>(status)));
}

}  // namespace moat::tests
