#pragma once

#include "engine/device.h"

namespace moat::cli {

// What this machine reaches with the threads in use, measured in a fraction of a second; the roof
// that times of kernels are compared with.
struct Ceilings {
  double float32_gflops;  // independent fused multiply-adds in registers, 2 operations each
  double copy_gbps;       // a large copy, 10^9 bytes read plus bytes written per second
};
Ceilings measure_ceilings();

// The same of a GPU.
struct GpuCeilings {
  double bf16_tflops;  // one product of 8192 x 8192 x 8192 random bfloat16 numbers
  double copy_gbps;
};
GpuCeilings measure_ceilings(engine::Device gpu);

}  // namespace moat::cli
