// Streams, events, memory and properties as the host sees them.

#include <catch2/catch.hpp>
#include <cstring>
#include <thread>

#include "tests/simt/options.h"
#include "tests/simt/self_test/device.h"
#include "tests/simt/self_test/stream_kernels.h"

namespace simt::self_test {

TEST_CASE("simt: streams are distinct and known", "[simt][streams]") {
  cudaStream_t a = nullptr, b = nullptr;
  REQUIRE(cudaStreamCreate(&a) == cudaSuccess);
  REQUIRE(cudaStreamCreateWithFlags(&b, cudaStreamNonBlocking) == cudaSuccess);
  REQUIRE((a && b && a != b));
  REQUIRE(cudaStreamQuery(a) == cudaSuccess);
  REQUIRE(cudaStreamSynchronize(nullptr) == cudaSuccess);
  REQUIRE(cudaStreamDestroy(a) == cudaSuccess);
  const Ints values(1);
  REQUIRE(cudaStreamSynchronize(a) == cudaErrorInvalidResourceHandle);
  REQUIRE(cudaMemsetAsync(values, 0, 4, a) == cudaErrorInvalidResourceHandle);
  REQUIRE(cudaPeekAtLastError() == cudaErrorInvalidResourceHandle);
  REQUIRE(cudaGetLastError() == cudaErrorInvalidResourceHandle);
  REQUIRE(cudaGetLastError() == cudaSuccess);
  REQUIRE(cudaStreamDestroy(b) == cudaSuccess);
}

TEST_CASE("simt: events have the order of their records", "[simt][streams]") {
  cudaEvent_t before = nullptr, after = nullptr, untimed = nullptr;
  cudaStream_t stream = nullptr;
  REQUIRE(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess);
  REQUIRE(cudaEventCreate(&before) == cudaSuccess);
  REQUIRE(cudaEventCreate(&after) == cudaSuccess);
  REQUIRE(cudaEventCreateWithFlags(&untimed, cudaEventDisableTiming) == cudaSuccess);
  float milliseconds = -1;
  REQUIRE(cudaEventQuery(before) == cudaSuccess);  // never recorded: nothing to wait for
  REQUIRE(cudaEventElapsedTime(&milliseconds, before, after) == cudaErrorInvalidResourceHandle);
  REQUIRE(cudaEventRecord(before, stream) == cudaSuccess);
  const Ints values(1);
  add(stream, values, 1, 1);
  REQUIRE(cudaEventRecord(after, stream) == cudaSuccess);
  REQUIRE(cudaEventRecord(untimed, stream) == cudaSuccess);
  REQUIRE(cudaStreamWaitEvent(nullptr, after) == cudaSuccess);
  REQUIRE(cudaEventSynchronize(after) == cudaSuccess);
  REQUIRE(cudaEventElapsedTime(&milliseconds, before, after) == cudaSuccess);
  REQUIRE(milliseconds > 0);
  REQUIRE(cudaEventElapsedTime(&milliseconds, after, before) == cudaSuccess);
  REQUIRE(milliseconds < 0);
  REQUIRE(cudaEventElapsedTime(&milliseconds, before, untimed) == cudaErrorInvalidResourceHandle);
  for (const cudaEvent_t event : {before, after, untimed})
    REQUIRE(cudaEventDestroy(event) == cudaSuccess);
  REQUIRE(cudaEventRecord(before, stream) == cudaErrorInvalidResourceHandle);
  REQUIRE(cudaStreamDestroy(stream) == cudaSuccess);
}

TEST_CASE("simt: late streams work when something waits for them", "[simt][streams]") {
  const Options before = options();
  options().late_streams = true;
  const Ints values(2);
  int* staged = nullptr;
  REQUIRE(cudaMallocHost(reinterpret_cast<void**>(&staged), 2 * sizeof(int)) == cudaSuccess);
  cudaStream_t stream = nullptr, other = nullptr;
  cudaEvent_t event = nullptr;
  REQUIRE(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess);
  REQUIRE(cudaStreamCreate(&other) == cudaSuccess);
  REQUIRE(cudaEventCreate(&event) == cudaSuccess);
  using Values = std::vector<int>;

  add(stream, values, 2, 10);
  REQUIRE(values.host() == Values{0, 1});  // the default stream does not wait for this one
  REQUIRE(cudaStreamSynchronize(other) == cudaSuccess);
  REQUIRE(values.host() == Values{0, 1});
  REQUIRE(cudaStreamSynchronize(stream) == cudaSuccess);
  REQUIRE(values.host() == Values{10, 11});

  staged[0] = staged[1] = 5;
  REQUIRE(cudaMemcpyAsync(values, staged, 8, cudaMemcpyHostToDevice, stream) == cudaSuccess);
  staged[1] = 6;  // too early
  REQUIRE(cudaEventRecord(event, stream) == cudaSuccess);
  add(other, values, 2, 100);
  REQUIRE(values.host() == Values{110, 111});  // but for the blocking one
  REQUIRE(cudaStreamWaitEvent(other, event) == cudaSuccess);
  REQUIRE(values.host() == Values{5, 6});

  int pageable[2] = {7, 7};
  REQUIRE(cudaMemcpyAsync(values, pageable, 8, cudaMemcpyHostToDevice, stream) == cudaSuccess);
  pageable[0] = 0;
  add(stream, values, 2, 1);
  REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
  REQUIRE(values.host() == Values{8, 8});

  add(stream, values, 2, 1);
  REQUIRE(cudaFreeHost(staged) == cudaSuccess);  // waits for everything
  REQUIRE(values.host() == Values{9, 9});
  REQUIRE(cudaEventDestroy(event) == cudaSuccess);
  for (const cudaStream_t each : {stream, other}) REQUIRE(cudaStreamDestroy(each) == cudaSuccess);
  options() = before;
}

TEST_CASE("simt: device memory has a limit", "[simt][memory]") {
  const Options before = options();
  size_t free = 0, total = 0, left = 0;
  REQUIRE(cudaMemGetInfo(&free, &total) == cudaSuccess);
  const size_t used = total - free;
  options().device_memory = used + 4096;
  REQUIRE(cudaMemGetInfo(&free, &total) == cudaSuccess);
  REQUIRE(total == used + 4096);
  REQUIRE(free == 4096);
  void *block = nullptr, *none = nullptr;
  REQUIRE(cudaMalloc(&block, 4000) == cudaSuccess);
  REQUIRE(cudaMemGetInfo(&left, &total) == cudaSuccess);
  REQUIRE(left == 0);  // allocations are multiples of 256 bytes
  REQUIRE(cudaMalloc(&none, 1) == cudaErrorMemoryAllocation);
  REQUIRE(none == nullptr);
  REQUIRE(cudaGetLastError() == cudaErrorMemoryAllocation);
  REQUIRE(std::strcmp(cudaGetErrorString(cudaErrorMemoryAllocation), "out of memory") == 0);
  REQUIRE(cudaFree(block) == cudaSuccess);
  REQUIRE(cudaMalloc(&block, 4096) == cudaSuccess);
  REQUIRE(cudaFree(block) == cudaSuccess);
  REQUIRE(cudaMalloc(&none, ~size_t{0}) == cudaErrorMemoryAllocation);
  options() = before;
}

TEST_CASE("simt: a copy knows where addresses are", "[simt][memory]") {
  const Ints values(4), others(4, false);
  int host[4] = {7, 7, 7, 7};
  const size_t bytes = sizeof(host);
  REQUIRE(cudaMemcpy(others, values, bytes, cudaMemcpyDefault) == cudaSuccess);
  REQUIRE(cudaMemcpy(host, others, bytes, cudaMemcpyDefault) == cudaSuccess);
  REQUIRE(host[3] == 3);
  REQUIRE(cudaMemcpy(host, values, bytes, cudaMemcpyHostToDevice) == cudaErrorInvalidValue);
  REQUIRE(cudaMemcpy(host, values, bytes, cudaMemcpyHostToHost) == cudaErrorInvalidValue);
  REQUIRE(cudaMemcpy(others, values, bytes + 1, cudaMemcpyDefault) == cudaErrorInvalidValue);
  REQUIRE(cudaMemcpy(values + 4, host, 4, cudaMemcpyDefault) == cudaErrorInvalidValue);

  cudaPointerAttributes where{};
  REQUIRE(cudaPointerGetAttributes(&where, values + 3) == cudaSuccess);
  REQUIRE(where.type == cudaMemoryTypeDevice);
  REQUIRE(where.devicePointer == values + 3);
  REQUIRE(cudaPointerGetAttributes(&where, host) == cudaSuccess);
  REQUIRE(where.type == cudaMemoryTypeUnregistered);
  int* locked = nullptr;
  REQUIRE(cudaMallocHost(&locked, bytes) == cudaSuccess);
  REQUIRE(cudaPointerGetAttributes(&where, locked + 3) == cudaSuccess);
  REQUIRE(where.type == cudaMemoryTypeHost);
  REQUIRE(cudaFreeHost(locked) == cudaSuccess);
  REQUIRE(cudaFreeHost(host) == cudaErrorInvalidValue);
}

TEST_CASE("simt: threads of the host take turns", "[simt][streams]") {
  const auto work = [](bool* is_right) {
    const Ints values(32);
    for (int i = 0; i < 20; ++i) {
      reverse(nullptr, values, 32);
      add(nullptr, values, 32, 1);
    }
    *is_right = values.host()[0] == 20;
  };
  bool here = false, there = false;
  std::thread other(work, &there);
  work(&here);
  other.join();
  REQUIRE(here);
  REQUIRE(there);
}

TEST_CASE("simt: each thread of the host has a last error of its own", "[simt][streams]") {
  REQUIRE(cudaSetDevice(1) == cudaErrorInvalidDevice);
  cudaError_t there = cudaErrorNoDevice;
  std::thread([&there] { there = cudaGetLastError(); }).join();
  REQUIRE(there == cudaSuccess);
  REQUIRE(cudaGetLastError() == cudaErrorInvalidDevice);
}

TEST_CASE("simt: memory filled with 0xff counts as never written", "[simt][memory]") {
  const Ints values(4);
  add(nullptr, values, 4, 1);
  REQUIRE(cudaMemset(values, 0xff, 16) == cudaSuccess);
  REQUIRE(values.host()[0] == -1);
  REQUIRE_THROWS_WITH(add(nullptr, values, 4, 1), Catch::Contains("uninitialised"));
  REQUIRE(cudaMemset(values, 0xff, 16) == cudaSuccess);
  REQUIRE(cudaMemsetAsync(values, 0xff, 16) == cudaSuccess);
  add(nullptr, values, 4, 1);
  REQUIRE(values.host()[0] == 0);
}

TEST_CASE("simt: the device's properties", "[simt]") {
  cudaDeviceProp properties{};
  REQUIRE(cudaGetDeviceProperties(&properties, 0) == cudaSuccess);
  REQUIRE(std::string(properties.name) == "SIMT interpreter");
  REQUIRE(properties.major == 9);
  REQUIRE(properties.multiProcessorCount == options().multiprocessors);
  size_t free = 0, total = 0;
  REQUIRE(cudaMemGetInfo(&free, &total) == cudaSuccess);
  REQUIRE(properties.totalGlobalMem == total);
  REQUIRE(cudaGetDeviceProperties(&properties, 1) == cudaErrorInvalidDevice);
  REQUIRE(cudaSetDevice(1) == cudaErrorInvalidDevice);
  int version = 0;
  REQUIRE(cudaRuntimeGetVersion(&version) == cudaSuccess);
  REQUIRE(version == 13000);
}

}  // namespace simt::self_test
