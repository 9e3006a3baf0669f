#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "bench/cuda/library.h"
#include "bench/workbench.h"

struct CUevent_st;  // cudaEvent_t and cudaGraphExec_t without the CUDA headers
struct CUgraphExec_st;

namespace moat::bench {

// Empty where kernels can run; else why they cannot, in one line.
std::string why_no_gpu();

// One GPU, the current device. A call is captured in a graph once; every measured replay finds the
// L2 cache flushed and lies between two events on the stream. The flush keeps the GPU busy while
// the host enqueues what follows, so that no launch latency is measured.
class CudaWorkbench : public Workbench {
 public:
  CudaWorkbench();
  ~CudaWorkbench() override;
  CudaWorkbench(const CudaWorkbench&) = delete;
  CudaWorkbench& operator=(const CudaWorkbench&) = delete;

  kernels::Cuda target() { return {.context = &context_, .stream = stream_}; }
  std::shared_ptr<void> allocate(size_t bytes) override;
  void upload(void* to, const void* from, size_t bytes) override;
  void repeat(void* to, size_t bytes, const void* pattern, size_t pattern_bytes) override;
  std::vector<double> seconds(const std::function<kernels::Status()>& run,
                              const Budget& budget) override;
  nlohmann::ordered_json clocks() const override;  // by NVML, where the driver has it

  nlohmann::ordered_json device() const;  // name, memory, driver and runtime versions
  double copy_bytes_per_second();         // a large device-to-device copy, read and written
  // A bf16 product of 8192 x 8192 x 8192 by cuBLAS; NaN where the machine has no libcublas.
  double product_flops_per_second();

 private:
  double once(CUgraphExec_st* graph);  // seconds

  kernels::Context context_;
  CUstream_st* stream_ = nullptr;
  CUevent_st *before_ = nullptr, *after_ = nullptr;
  std::shared_ptr<void> flushed_;
  size_t flushed_bytes_ = 0;
  Library nvml_{"libnvidia-ml.so.1"};
  void* nvml_device_ = nullptr;
};

}  // namespace moat::bench
