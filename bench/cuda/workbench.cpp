#include "bench/cuda/workbench.h"

#include <cublas_v2.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "engine/error.h"
#include "kernels/basic/copy.h"

namespace moat::bench {

using engine::text;

namespace {

void check(cudaError_t error, const char* what) {
  engine::require(error == cudaSuccess,
                  [&] { return text(what, ": ", cudaGetErrorString(error)); });
}

// A captured graph and its executable form.
class Graph {
 public:
  template <class Run>
  Graph(cudaStream_t stream, Run&& run) {
    check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "begin capture");
    const kernels::Status status = run();
    const cudaError_t ended = cudaStreamEndCapture(stream, &graph_);
    if (status != kernels::Status::ok) cudaGraphDestroy(graph_);
    engine::check(status);
    check(ended, "end capture");
    check(cudaGraphInstantiate(&executable_, graph_, 0), "instantiate graph");
  }
  ~Graph() {
    if (executable_) cudaGraphExecDestroy(executable_);
    cudaGraphDestroy(graph_);
  }
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;
  cudaGraphExec_t executable() const { return executable_; }

 private:
  cudaGraph_t graph_ = nullptr;
  cudaGraphExec_t executable_ = nullptr;
};

}  // namespace

std::string why_no_gpu() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess) return text("no usable GPU: ", cudaGetErrorString(error));
  if (count == 0) return "no usable GPU: this machine has none";
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, 0), "device properties");
  if (properties.major < 8)
    return text("no usable GPU: ", properties.name, " has compute capability ", properties.major,
                ".", properties.minor, ", the kernels need 8.0");
  return {};
}

CudaWorkbench::CudaWorkbench() {
  check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "create stream");
  check(cudaEventCreate(&before_), "create event");
  check(cudaEventCreate(&after_), "create event");
  int l2 = 0;
  check(cudaDeviceGetAttribute(&l2, cudaDevAttrL2CacheSize, 0), "L2 size");
  flushed_bytes_ = std::max<size_t>(4 * static_cast<size_t>(l2), size_t{256} << 20);
  flushed_ = allocate(flushed_bytes_);
  const auto start = nvml_.find<int()>("nvmlInit_v2");
  const auto device = nvml_.find<int(unsigned, void**)>("nvmlDeviceGetHandleByIndex_v2");
  if (!start || !device || start() != 0 || device(0, &nvml_device_) != 0) nvml_device_ = nullptr;
}

CudaWorkbench::~CudaWorkbench() {
  cudaEventDestroy(before_);
  cudaEventDestroy(after_);
  cudaStreamDestroy(stream_);
}

std::shared_ptr<void> CudaWorkbench::allocate(size_t bytes) {
  void* block = nullptr;
  check(cudaMalloc(&block, std::max<size_t>(bytes, 256)), "device memory");
  return {block, cudaFree};
}

void CudaWorkbench::upload(void* to, const void* from, size_t bytes) {
  check(cudaMemcpy(to, from, bytes, cudaMemcpyHostToDevice), "copy to the device");
}

void CudaWorkbench::repeat(void* to, size_t bytes, const void* pattern, size_t pattern_bytes) {
  size_t filled = std::min(bytes, pattern_bytes);
  upload(to, pattern, filled);
  // Whole patterns, twice as many with every copy.
  while (filled < bytes) {
    const size_t next = std::min(filled, bytes - filled);
    check(cudaMemcpy(static_cast<char*>(to) + filled, to, next, cudaMemcpyDeviceToDevice),
          "copy on the device");
    filled += next;
  }
}

double CudaWorkbench::once(cudaGraphExec_t graph) {
  check(cudaMemsetAsync(flushed_.get(), 0, flushed_bytes_, stream_), "flush L2");
  check(cudaEventRecord(before_, stream_), "record event");
  check(cudaGraphLaunch(graph, stream_), "launch graph");
  check(cudaEventRecord(after_, stream_), "record event");
  check(cudaEventSynchronize(after_), "run");
  float milliseconds = 0;
  check(cudaEventElapsedTime(&milliseconds, before_, after_), "elapsed time");
  return 1e-3 * milliseconds;
}

std::vector<double> CudaWorkbench::seconds(const std::function<kernels::Status()>& run,
                                           const Budget& budget) {
  engine::check(run());  // outside the graph: what a kernel sets up once
  check(cudaStreamSynchronize(stream_), "run");
  const Graph graph(stream_, run);
  once(graph.executable());
  std::vector<double> out;
  double spent = 0;
  do {
    out.push_back(once(graph.executable()));
    spent += out.back();
  } while (!is_enough(out, budget, spent));
  return out;
}

nlohmann::ordered_json CudaWorkbench::clocks() const {
  const auto clock = nvml_.find<int(void*, int, unsigned*)>("nvmlDeviceGetClockInfo");
  const auto power = nvml_.find<int(void*, unsigned*)>("nvmlDeviceGetPowerUsage");
  nlohmann::ordered_json out = nlohmann::ordered_json::object();
  constexpr int kMultiprocessors = 1;
  unsigned value = 0;
  if (nvml_device_ && clock && clock(nvml_device_, kMultiprocessors, &value) == 0)
    out["sm_mhz"] = value;
  if (nvml_device_ && power && power(nvml_device_, &value) == 0) out["watts"] = value / 1e3;
  return out;
}

nlohmann::ordered_json CudaWorkbench::device() const {
  cudaDeviceProp properties{};
  check(cudaGetDeviceProperties(&properties, 0), "device properties");
  int driver = 0, runtime = 0;
  check(cudaDriverGetVersion(&driver), "driver version");
  check(cudaRuntimeGetVersion(&runtime), "runtime version");
  return {{"gpu", properties.name},
          {"compute_capability", text(properties.major, ".", properties.minor)},
          {"multiprocessors", properties.multiProcessorCount},
          {"memory_bytes", properties.totalGlobalMem},
          {"l2_bytes", properties.l2CacheSize},
          {"driver_cuda", driver},
          {"runtime_cuda", runtime},
          {"clocks", clocks()}};
}

double CudaWorkbench::copy_bytes_per_second() {
  constexpr size_t kBytes = size_t{1} << 30;
  const auto from = allocate(kBytes), to = allocate(kBytes);
  // By a kernel: the driver's own copy, recorded in a graph, took half as long again on an H200.
  const auto copy = [&] {
    return kernels::copy({.stream = stream_}, {.from = from.get(),
                                               .to = to.get(),
                                               .extents = {1, 1, 1, 1, 1, kBytes / 4},
                                               .from_strides = {0, 0, 0, 0, 0, 1},
                                               .to_strides = {0, 0, 0, 0, 0, 1},
                                               .from_dtype = kernels::Dtype::f32,
                                               .to_dtype = kernels::Dtype::f32});
  };
  return 2.0 * kBytes / quartiles(seconds(copy, {.least = 9, .most = 30})).median;
}

double CudaWorkbench::product_flops_per_second() {
  const Library cublas("libcublas.so.13");
  const auto create = cublas.find<decltype(cublasCreate_v2)>("cublasCreate_v2");
  const auto destroy = cublas.find<decltype(cublasDestroy_v2)>("cublasDestroy_v2");
  const auto set_stream = cublas.find<decltype(cublasSetStream_v2)>("cublasSetStream_v2");
  const auto multiply = cublas.find<cublasStatus_t(
      cublasHandle_t, cublasOperation_t, cublasOperation_t, int, int, int, const void*, const void*,
      cudaDataType, int, const void*, cudaDataType, int, const void*, void*, cudaDataType, int,
      cublasComputeType_t, cublasGemmAlgo_t)>("cublasGemmEx");
  cublasHandle_t handle = nullptr;
  if (!create || !destroy || !set_stream || !multiply || create(&handle) != 0)
    return std::numeric_limits<double>::quiet_NaN();
  set_stream(handle, stream_);
  constexpr int kSide = 8192;
  constexpr size_t kBytes = size_t{kSide} * kSide * 2;
  const auto a = allocate(kBytes), b = allocate(kBytes), c = allocate(kBytes);
  std::vector<kernels::Bf16> values(1'048'573);  // from -1 to 1, no two columns alike
  for (size_t i = 0; i < values.size(); ++i)
    values[i] = kernels::Bf16(static_cast<float>(i * 2654435761u % 65521) / 32760 - 1);
  for (const auto& operand : {a, b})
    repeat(operand.get(), kBytes, values.data(), 2 * values.size());
  const auto product = [&] {
    const float one = 1, zero = 0;
    return multiply(handle, CUBLAS_OP_T, CUBLAS_OP_N, kSide, kSide, kSide, &one, a.get(),
                    CUDA_R_16BF, kSide, b.get(), CUDA_R_16BF, kSide, &zero, c.get(), CUDA_R_16BF,
                    kSide, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT) == CUBLAS_STATUS_SUCCESS
               ? kernels::Status::ok
               : kernels::Status::library_failed;
  };
  const double median = quartiles(seconds(product, {.least = 9, .most = 30})).median;
  destroy(handle);
  return 2.0 * kSide * kSide * kSide / median;
}

}  // namespace moat::bench
