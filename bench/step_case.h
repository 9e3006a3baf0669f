#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "engine/hardware.h"

namespace moat::bench {

struct CaseOptions {
  int64_t batch = 128;
  int attack_steps = 10;
  int repeats = 3;  // measured, after those that warm up
  engine::Precision precision = engine::Precision::fp32;
  uint64_t seed = 0;
  engine::Device device = {};
};

// What one repeat of a case does.
struct Work {
  std::function<void()> run;  // returns when the device is done
  int64_t images = 0;
  double macs = 0;                         // multiply-accumulates that the method needs
  std::function<int64_t()> launches = {};  // kernels and copies of a repeat's graph, once it ran
};

// A whole step that `moat bench train` or `moat bench attack` times; bench/peers/pytorch.py does
// the same work under the same name.
struct Case {
  std::string name, about;
  std::function<Work(const CaseOptions&)> prepare;
};
const std::vector<Case>& train_cases();
const std::vector<Case>& attack_cases();

struct CaseMeasurement {
  std::vector<double> seconds;  // one per repeat
  int64_t images = 0;           // of one repeat
  double flops = 0;             // of one repeat: two per multiply-accumulate
  int64_t peak_rss_bytes = 0;   // of this process
  int64_t peak_gpu_bytes = 0;   // of tensors on the GPU
  int64_t launches = 0;         // 0 on a CPU
};
CaseMeasurement measure(const Case& subject, const CaseOptions& options);

}  // namespace moat::bench
