#pragma once

namespace moat::cli {

// What this machine reaches with the threads in use, measured in a fraction of a second; the roof
// that times of kernels are compared with.
struct Ceilings {
  double float32_gflops;  // independent fused multiply-adds in registers, 2 operations each
  double copy_gbps;       // a large copy, 10^9 bytes read plus bytes written per second
};
Ceilings measure_ceilings();

}  // namespace moat::cli
