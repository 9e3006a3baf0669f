#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/device.h"

namespace moat::bench {

struct TrainCaseOptions {
  int attack_steps = 10;
  int repeats = 3;  // measured; one more runs first, unmeasured
  uint64_t seed = 0;
  engine::Device device = {};
};

struct TrainMeasurement {
  std::string name;
  std::vector<double> seconds;  // one per repeat
  int64_t images = 0;           // of one repeat
  int64_t peak_rss_bytes = 0;   // of this process
  int64_t peak_gpu_bytes = 0;   // of tensors on the GPU
  int64_t launches = 0;         // kernels and copies of a step's graph; 0 on a CPU
  std::string precision;
};

struct TrainCase {
  std::string name, about;
};

// Whole training steps, the same work as bench/peers/pytorch.py does in PyTorch.
const std::vector<TrainCase>& train_cases();

// Throws UsageError for an unknown name.
TrainMeasurement measure_train_case(const std::string& name, const TrainCaseOptions& options);

}  // namespace moat::bench
