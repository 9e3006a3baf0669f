// The guard of device memory: host code that touches it ends the program.

#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstring>
#include <functional>
#include <thread>

#include "tests/simt/options.h"
#include "tests/simt/self_test/device.h"
#include "tests/simt/self_test/stream_kernels.h"

namespace simt::self_test {

namespace {

// What a child process with the guard on says when it runs `work`, and whether it came through.
struct Ending {
  std::string text;
  bool is_success;
};
Ending in_child(const std::function<void()>& work) {
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  fflush(nullptr);
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    dup2(ends[1], STDERR_FILENO);
    dup2(ends[1], STDOUT_FILENO);
    options().guard_device_memory = true;
    work();
    _exit(0);
  }
  close(ends[1]);
  Ending ending;
  char piece[512];
  for (ssize_t n; (n = read(ends[0], piece, sizeof(piece))) > 0;)
    ending.text.append(piece, static_cast<size_t>(n));
  close(ends[0]);
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  ending.is_success = WIFEXITED(status) && WEXITSTATUS(status) == 0;
  return ending;
}

[[gnu::noinline]] int first_of(const int* values) { return values[2]; }

}  // namespace

TEST_CASE("simt: host code must not touch device memory", "[simt][guard]") {
  const auto says = [](const char* what, const std::function<void(int*)>& touch) {
    const Ending ending = in_child([&] {
      const Ints values(4);
      add(nullptr, values, 4, 1);
      touch(values);
    });
    INFO(ending.text);
    REQUIRE_FALSE(ending.is_success);
    REQUIRE(ending.text.find("host code touches device memory at 0x") != std::string::npos);
    REQUIRE(ending.text.find(what) != std::string::npos);
    REQUIRE(ending.text.find("tests/simt/self_test/guard_test.cpp:") != std::string::npos);
  };
  says("byte 8 of an allocation of 16 bytes", [](int* values) { _exit(first_of(values) == 0); });
  says("byte 4 of an allocation of 16 bytes", [](int* values) { values[1] = 5; });
  says("of an allocation of 16 bytes", [](int* values) {  // within the C library
    const volatile size_t bytes = 16;
    char host[16];
    std::memcpy(host, values, bytes);
    _exit(host[0] == 77);
  });
  says("byte 0 of freed memory (16 bytes)", [](int* values) {
    cudaFree(values);
    *values = 1;
  });
  says("byte 500000 of an allocation of 1048576 bytes", [](int*) {
    char* block = nullptr;  // opened in many pieces, and closed again
    if (cudaMalloc(&block, 1 << 20) != cudaSuccess) _exit(0);
    if (cudaMemset(block, 0, 1 << 20) != cudaSuccess) _exit(0);
    _exit(first_of(reinterpret_cast<int*>(block + 500000 - 8)) == 77);
  });
}

TEST_CASE("simt: without the guard device memory is open again", "[simt][guard]") {
  const Ending ending = in_child([] {
    const Ints values(4);
    add(nullptr, values, 4, 1);
    options().guard_device_memory = false;
    add(nullptr, values, 4, 1);
    _exit(first_of(values) == 4 ? 0 : 1);
  });
  INFO(ending.text);
  REQUIRE(ending.is_success);
}

TEST_CASE("simt: what works on device memory passes the guard", "[simt][guard]") {
  const Ending ending = in_child([] {
    const Ints values(4), others(4);
    add(nullptr, values, 4, 1);
    if (values.host() != std::vector<int>{1, 2, 3, 4}) _exit(1);
    int* data = values;
    if (run_on_stream(nullptr, [data] { data[0] = 9; }) != cudaSuccess) _exit(2);
    if (cudaMemcpy(others, values, 16, cudaMemcpyDefault) != cudaSuccess) _exit(3);
    if (others.host() != std::vector<int>{9, 2, 3, 4}) _exit(4);
    cudaStream_t stream = nullptr;
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t executable = nullptr;
    if (cudaStreamCreate(&stream) != cudaSuccess) _exit(5);
    if (cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed) != cudaSuccess) _exit(6);
    add(stream, values, 4, 1);
    const Ints made_meanwhile(2, false);
    if (run_on_stream(stream, [data] { data[1] = 7; }) != cudaSuccess) _exit(7);
    if (cudaStreamEndCapture(stream, &graph) != cudaSuccess) _exit(8);
    if (cudaGraphInstantiate(&executable, graph) != cudaSuccess) _exit(9);
    if (cudaGraphLaunch(executable, stream) != cudaSuccess) _exit(10);
    if (values.host() != std::vector<int>{10, 7, 4, 5}) _exit(11);
    try {
      add(nullptr, values, 5, 1);
      _exit(12);
    } catch (const Error&) {
    }
    if (cudaMemset(values, 0, 16) != cudaSuccess) _exit(13);
  });
  INFO(ending.text);
  REQUIRE(ending.is_success);
}

// As a data loader does: one thread copies on a stream of its own, the other launches and records.
TEST_CASE("simt: a thread that copies passes the guard while another launches", "[simt][guard]") {
  const Ending ending = in_child([] {
    constexpr int kCopies = 200;
    const Ints values(32), batch(32);
    cudaStream_t stream = nullptr, own = nullptr;
    if (cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) != cudaSuccess) _exit(1);
    if (cudaStreamCreateWithFlags(&own, cudaStreamNonBlocking) != cudaSuccess) _exit(2);
    std::thread loader([&batch, own] {
      const std::vector<int> source(32, 7);
      for (int i = 0; i < kCopies; ++i) {
        if (cudaMemcpyAsync(batch, source.data(), 128, cudaMemcpyHostToDevice, own) != cudaSuccess)
          _exit(3);
        if (cudaStreamSynchronize(own) != cudaSuccess) _exit(4);
      }
    });
    for (int i = 0; i < 20; ++i) add(stream, values, 32, 1);
    cudaGraph_t graph = nullptr;
    if (cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed) != cudaSuccess) _exit(5);
    for (int i = 0; i < 20; ++i) add(stream, values, 32, 1);
    if (cudaStreamEndCapture(stream, &graph) != cudaSuccess) _exit(6);
    cudaGraphExec_t executable = nullptr;
    if (cudaGraphInstantiate(&executable, graph, 0) != cudaSuccess) _exit(7);
    if (cudaGraphLaunch(executable, stream) != cudaSuccess) _exit(8);
    loader.join();
    if (values.host()[31] != 71) _exit(9);
    if (batch.host()[31] != 7) _exit(10);
  });
  INFO(ending.text);
  REQUIRE(ending.is_success);
}

TEST_CASE("simt: other faults are not the guard's", "[simt][guard]") {
  const Ending ending = in_child([] {
    const Ints values(4);
    volatile int* volatile nowhere = nullptr;
    *nowhere = 1;
  });
  INFO(ending.text);
  REQUIRE_FALSE(ending.is_success);
  REQUIRE(ending.text.find("device memory") == std::string::npos);
}

}  // namespace simt::self_test
