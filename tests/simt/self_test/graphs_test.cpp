// Graphs: what is recorded, what a launch runs, and what a recording forbids.

#include <catch2/catch.hpp>
#include <vector>

#include "tests/simt/self_test/device.h"
#include "tests/simt/self_test/stream_kernels.h"

namespace simt::self_test {

namespace {

constexpr int kCount = 4;

class Stream {
 public:
  explicit Stream(unsigned flags = cudaStreamNonBlocking) {
    REQUIRE(cudaStreamCreateWithFlags(&stream_, flags) == cudaSuccess);
  }
  ~Stream() { cudaStreamDestroy(stream_); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  operator cudaStream_t() const { return stream_; }

  void begin(cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed) const {
    REQUIRE(cudaStreamBeginCapture(stream_, mode) == cudaSuccess);
  }
  // What the end of the capture returns.
  cudaError_t end() const {
    cudaGraph_t graph = nullptr;
    const cudaError_t error = cudaStreamEndCapture(stream_, &graph);
    REQUIRE((graph != nullptr) == (error == cudaSuccess));
    if (graph) cudaGraphDestroy(graph);
    return error;
  }
  cudaStreamCaptureStatus status() const {
    cudaStreamCaptureStatus status{};
    REQUIRE(cudaStreamIsCapturing(stream_, &status) == cudaSuccess);
    return status;
  }

 private:
  cudaStream_t stream_ = nullptr;
};

class Graph {
 public:
  explicit Graph(const Stream& stream) {
    cudaGraph_t graph = nullptr;
    REQUIRE(cudaStreamEndCapture(stream, &graph) == cudaSuccess);
    REQUIRE(cudaGraphGetNodes(graph, nullptr, &nodes) == cudaSuccess);
    REQUIRE(cudaGraphInstantiate(&executable_, graph, 0) == cudaSuccess);
    REQUIRE(cudaGraphDestroy(graph) == cudaSuccess);
  }
  ~Graph() { cudaGraphExecDestroy(executable_); }
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;
  cudaError_t launch(cudaStream_t stream) const { return cudaGraphLaunch(executable_, stream); }

  size_t nodes = 0;

 private:
  cudaGraphExec_t executable_ = nullptr;
};

std::vector<int> ints(int a, int b, int c, int d) { return {a, b, c, d}; }

}  // namespace

TEST_CASE("simt: a capture records and a launch runs", "[simt][graphs]") {
  const Stream stream;
  const Ints values(kCount), sum(kCount);
  int term = 10;
  stream.begin();
  REQUIRE(stream.status() == cudaStreamCaptureStatusActive);
  add(stream, values, kCount, term);
  term = 1000;  // arguments are copied when they are recorded
  scale(stream, values, kCount, 2);
  {
    Terms terms{{1, 2, 3, 4}};
    add_each(stream, values, kCount, terms);
    terms = {};
  }
  REQUIRE(cudaMemsetAsync(sum, 0, kCount * sizeof(int), stream) == cudaSuccess);
  REQUIRE(cudaMemcpyAsync(sum, values, 2 * sizeof(int), cudaMemcpyDefault, stream) == cudaSuccess);
  int calls = 0;
  REQUIRE(run_on_stream(stream, [&calls] { ++calls; }) == cudaSuccess);
  const Graph graph(stream);
  REQUIRE(stream.status() == cudaStreamCaptureStatusNone);
  REQUIRE(graph.nodes == 6);
  REQUIRE(calls == 0);
  REQUIRE(values.host() == ints(0, 1, 2, 3));
  REQUIRE(graph.launch(stream) == cudaSuccess);
  REQUIRE(values.host() == ints(21, 24, 27, 30));
  REQUIRE(sum.host() == ints(21, 24, 0, 0));
  // A launch reads what memory holds by then.
  REQUIRE(cudaMemset(values, 0, kCount * sizeof(int)) == cudaSuccess);
  REQUIRE(graph.launch(stream) == cudaSuccess);
  REQUIRE(values.host() == ints(21, 22, 23, 24));
  REQUIRE(calls == 2);
}

TEST_CASE("simt: a graph's nodes have types", "[simt][graphs]") {
  const Stream stream;
  const Ints values(kCount);
  stream.begin();
  add(stream, values, kCount, 1);
  REQUIRE(cudaMemsetAsync(values, 0, 4, stream) == cudaSuccess);
  cudaGraph_t graph = nullptr;
  REQUIRE(cudaStreamEndCapture(stream, &graph) == cudaSuccess);
  cudaGraphNode_t nodes[3];
  size_t count = 3;
  REQUIRE(cudaGraphGetNodes(graph, nodes, &count) == cudaSuccess);
  REQUIRE(count == 2);
  REQUIRE(nodes[2] == nullptr);
  cudaGraphNodeType type{};
  REQUIRE(cudaGraphNodeGetType(nodes[0], &type) == cudaSuccess);
  REQUIRE(type == cudaGraphNodeTypeKernel);
  REQUIRE(cudaGraphNodeGetType(nodes[1], &type) == cudaSuccess);
  REQUIRE(type == cudaGraphNodeTypeMemset);
  REQUIRE(cudaGraphDestroy(graph) == cudaSuccess);
  REQUIRE(cudaGraphDestroy(graph) != cudaSuccess);
}

TEST_CASE("simt: what waits is refused while a stream records", "[simt][graphs]") {
  const Stream stream;
  const Ints values(kCount);
  int host[kCount] = {};
  cudaEvent_t event = nullptr;
  REQUIRE(cudaEventCreate(&event) == cudaSuccess);
  const auto refuses = [&](cudaError_t error, auto call) {
    stream.begin();
    REQUIRE(call() == error);
    REQUIRE(cudaGetLastError() == error);
    REQUIRE(stream.status() == cudaStreamCaptureStatusInvalidated);
    REQUIRE(cudaMemsetAsync(values, 0, 4, stream) == cudaErrorStreamCaptureInvalidated);
    REQUIRE(stream.end() == cudaErrorStreamCaptureInvalidated);
    REQUIRE(stream.status() == cudaStreamCaptureStatusNone);
  };
  const cudaError_t kUnsupported = cudaErrorStreamCaptureUnsupported;
  refuses(kUnsupported, [&] { return cudaStreamSynchronize(stream); });
  refuses(kUnsupported, [&] { return cudaStreamQuery(stream); });
  refuses(kUnsupported, [&] { return cudaDeviceSynchronize(); });
  refuses(kUnsupported, [&] { return cudaMemcpy(host, values, 4, cudaMemcpyDeviceToHost); });
  refuses(kUnsupported, [&] { return cudaMemset(values, 0, 4); });
  refuses(kUnsupported, [&] { return cudaFree(values); });
  // A graph would write to, or read, whatever is on the stack when it is launched.
  refuses(kUnsupported,
          [&] { return cudaMemcpyAsync(host, values, 4, cudaMemcpyDeviceToHost, stream); });
  refuses(kUnsupported,
          [&] { return cudaMemcpyAsync(values, host, 4, cudaMemcpyHostToDevice, stream); });
  for (const auto ask : {cudaEventSynchronize, cudaEventQuery})
    refuses(cudaErrorCapturedEvent, [&] {
      REQUIRE(cudaEventRecord(event, stream) == cudaSuccess);
      return ask(event);
    });
  REQUIRE(cudaEventRecord(event) == cudaSuccess);
  refuses(cudaErrorStreamCaptureIsolation, [&] { return cudaStreamWaitEvent(stream, event); });
  REQUIRE(cudaEventDestroy(event) == cudaSuccess);
  REQUIRE(values.host() == ints(0, 1, 2, 3));
}

TEST_CASE("simt: memory while a stream records", "[simt][graphs]") {
  const Stream stream;
  void* block = nullptr;
  stream.begin(cudaStreamCaptureModeRelaxed);
  REQUIRE(cudaMalloc(&block, 16) == cudaSuccess);
  REQUIRE(stream.end() == cudaSuccess);
  REQUIRE(cudaFree(block) == cudaSuccess);
  for (const auto mode : {cudaStreamCaptureModeThreadLocal, cudaStreamCaptureModeGlobal}) {
    stream.begin(mode);
    REQUIRE(cudaMalloc(&block, 16) == cudaErrorStreamCaptureUnsupported);
    REQUIRE(stream.end() == cudaErrorStreamCaptureInvalidated);
  }
}

TEST_CASE("simt: page-locked memory is copied when a graph is launched", "[simt][graphs]") {
  const Stream stream;
  const Ints values(kCount);
  int* host = nullptr;
  REQUIRE(cudaMallocHost(&host, kCount * sizeof(int)) == cudaSuccess);
  stream.begin();
  REQUIRE(cudaMemcpyAsync(values, host, kCount * sizeof(int), cudaMemcpyDefault, stream) ==
          cudaSuccess);
  add(stream, values, kCount, 1);
  REQUIRE(cudaMemcpyAsync(host, values, sizeof(int), cudaMemcpyDefault, stream) == cudaSuccess);
  const Graph graph(stream);
  for (int i = 0; i < kCount; ++i) host[i] = 5 + i;
  REQUIRE(graph.launch(stream) == cudaSuccess);
  REQUIRE(values.host() == ints(6, 7, 8, 9));
  REQUIRE(host[0] == 6);
  REQUIRE(cudaFreeHost(host) == cudaSuccess);
  REQUIRE_THROWS_WITH(graph.launch(stream), Catch::Contains("memory that has been freed"));
}

TEST_CASE("simt: other streams run while one records", "[simt][graphs]") {
  const Stream stream, other;
  const Ints values(kCount);
  stream.begin(cudaStreamCaptureModeThreadLocal);
  add(stream, values, kCount, 100);
  add(other, values, kCount, 1);
  add(nullptr, values, kCount, 1);  // `stream` does not wait for the default stream
  REQUIRE(cudaStreamSynchronize(other) == cudaSuccess);
  const Graph graph(stream);
  REQUIRE(values.host() == ints(2, 3, 4, 5));
}

TEST_CASE("simt: the default stream waits for a blocking stream", "[simt][graphs]") {
  const Stream stream(cudaStreamDefault);
  const Ints values(kCount);
  stream.begin();
  REQUIRE(cudaMemsetAsync(values, 0, 4) == cudaErrorStreamCaptureImplicit);
  REQUIRE(stream.end() == cudaErrorStreamCaptureInvalidated);
}

TEST_CASE("simt: a capture spreads over streams by events", "[simt][graphs]") {
  const Stream stream, other;
  const Ints values(kCount), others(kCount);
  cudaEvent_t fork = nullptr, join = nullptr;
  REQUIRE(cudaEventCreateWithFlags(&fork, cudaEventDisableTiming) == cudaSuccess);
  REQUIRE(cudaEventCreateWithFlags(&join, cudaEventDisableTiming) == cudaSuccess);
  const auto spread = [&] {
    stream.begin();
    add(stream, values, kCount, 1);
    REQUIRE(cudaEventRecord(fork, stream) == cudaSuccess);
    REQUIRE(cudaStreamWaitEvent(other, fork) == cudaSuccess);
    REQUIRE(other.status() == cudaStreamCaptureStatusActive);
    add(other, others, kCount, 1);
    REQUIRE(cudaEventRecord(join, other) == cudaSuccess);
  };
  spread();
  REQUIRE(cudaStreamWaitEvent(stream, join) == cudaSuccess);
  {
    const Graph graph(stream);
    REQUIRE(other.status() == cudaStreamCaptureStatusNone);
    REQUIRE(graph.nodes == 2);
    REQUIRE(graph.launch(stream) == cudaSuccess);
    REQUIRE(others.host() == ints(1, 2, 3, 4));
  }
  spread();
  REQUIRE(stream.end() == cudaErrorStreamCaptureUnjoined);
  spread();
  cudaGraph_t graph = nullptr;
  REQUIRE(cudaStreamEndCapture(other, &graph) == cudaErrorStreamCaptureUnmatched);
  REQUIRE(stream.end() == cudaErrorStreamCaptureInvalidated);
  REQUIRE(cudaEventDestroy(fork) == cudaSuccess);
  REQUIRE(cudaEventDestroy(join) == cudaSuccess);
}

TEST_CASE("simt: captures begin and end in order", "[simt][graphs]") {
  const Stream stream;
  cudaGraph_t graph = nullptr;
  REQUIRE(cudaStreamEndCapture(stream, &graph) == cudaErrorIllegalState);
  REQUIRE(cudaStreamBeginCapture(nullptr, cudaStreamCaptureModeRelaxed) ==
          cudaErrorStreamCaptureUnsupported);
  stream.begin();
  REQUIRE(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed) == cudaErrorIllegalState);
  REQUIRE(stream.end() == cudaSuccess);
  {
    const Stream gone;
    gone.begin();
  }
  REQUIRE(cudaDeviceSynchronize() == cudaSuccess);  // a destroyed stream records no more
}

TEST_CASE("simt: a graph is recorded into another", "[simt][graphs]") {
  const Stream stream;
  const Ints values(kCount);
  stream.begin();
  add(stream, values, kCount, 1);
  const Graph inner(stream);
  stream.begin();
  REQUIRE(inner.launch(stream) == cudaSuccess);
  scale(stream, values, kCount, 3);
  const Graph outer(stream);
  REQUIRE(outer.nodes == 2);
  REQUIRE(outer.launch(stream) == cudaSuccess);
  REQUIRE(values.host() == ints(3, 6, 9, 12));
}

TEST_CASE("simt: a fault in a graph is reported by its launch", "[simt][graphs]") {
  const Stream stream;
  const Ints values(kCount);
  stream.begin();
  add(stream, values, kCount + 1, 1);
  const Graph graph(stream);
  REQUIRE_THROWS_WITH(graph.launch(stream),
                      Catch::Contains("out of bounds") && Catch::Contains("add_kernel"));
  REQUIRE(stream.status() == cudaStreamCaptureStatusNone);
}

}  // namespace simt::self_test
