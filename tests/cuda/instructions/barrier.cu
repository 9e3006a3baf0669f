#include "kernels/ptx.cuh"
#include "tests/cuda/instructions/kernels.h"

namespace moat::tests {

using namespace kernels;

namespace {

constexpr int kLanes = 32;

// Warp 0 writes, both meet on barrier 1, warp 1 reads, and both meet on barrier 2. Three rounds;
// out: what warp 1 read.
__global__ void named_barriers_kernel(const uint32_t* in, uint32_t* out) {
  __shared__ uint32_t box[kLanes];
  const int lane = static_cast<int>(threadIdx.x) % kLanes,
            warp = static_cast<int>(threadIdx.x) / kLanes;
  for (int round = 0; round < 3; ++round) {
    if (warp == 0) box[lane] = in[round * kLanes + lane];
    ptx::bar_sync(1, 2 * kLanes);
    if (warp == 1) out[round * kLanes + lane] = box[kLanes - 1 - lane];
    ptx::bar_sync(2, 2 * kLanes);
  }
}

// Warp 0 hands numbers to warp 1 through one slot: `full` and `empty` barriers, four phases.
__global__ void mbarrier_phases_kernel(const uint32_t* in, uint32_t* out) {
  __shared__ uint32_t slot[kLanes];
  __shared__ uint64_t full, empty;
  const int lane = static_cast<int>(threadIdx.x) % kLanes;
  if (threadIdx.x == 0) {
    ptx::mbarrier_init(&full, kLanes);
    ptx::mbarrier_init(&empty, kLanes);
    ptx::fence_mbarrier_init();
  }
  __syncthreads();
  for (uint32_t phase = 0; phase < 4; ++phase) {
    if (threadIdx.x < kLanes) {
      ptx::mbarrier_wait(&empty, (phase + 1) % 2);  // of a new barrier, parity 1 is complete
      slot[lane] = in[static_cast<int>(phase) * kLanes + lane];
      ptx::mbarrier_arrive(&full);
    } else {
      ptx::mbarrier_wait(&full, phase % 2);
      out[static_cast<int>(phase) * kLanes + lane] = slot[kLanes - 1 - lane];
      ptx::mbarrier_arrive(&empty);
    }
  }
}

// One warpgroup gives registers to two others; out = in + 1 all the same.
__global__ void __launch_bounds__(384, 1) setmaxnreg_kernel(const uint32_t* in, uint32_t* out) {
  if (threadIdx.x < 128)
    ptx::setmaxnreg_dec<40>();
  else
    ptx::setmaxnreg_inc<232>();
  out[threadIdx.x] = in[threadIdx.x] + 1;
}

}  // namespace

Status run_named_barriers(Cuda on, const uint32_t* in, uint32_t* out) {
  return launch(on, {dim3(1), dim3(2 * kLanes)}, named_barriers_kernel, in, out);
}
Status run_mbarrier_phases(Cuda on, const uint32_t* in, uint32_t* out) {
  return launch(on, {dim3(1), dim3(2 * kLanes)}, mbarrier_phases_kernel, in, out);
}
Status run_setmaxnreg(Cuda on, const uint32_t* in, uint32_t* out) {
  return launch(on, {dim3(1), dim3(384)}, setmaxnreg_kernel, in, out);
}

}  // namespace moat::tests
