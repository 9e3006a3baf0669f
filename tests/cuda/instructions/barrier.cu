#include "kernels/ptx.cuh"
#include "tests/cuda/instructions/kernels.h"

namespace moat::tests {

using namespace kernels;

namespace {

constexpr int kLanes = 32;

// Warp 0 writes and only arrives on barrier 1, warp 1 waits there, reads, and both meet on
// barrier 2; then the other way around. Three rounds; out: what each read.
__global__ void named_barriers_kernel(const uint32_t* in, uint32_t* out) {
  __shared__ uint32_t box[kLanes];
  const int lane = static_cast<int>(threadIdx.x) % kLanes,
            warp = static_cast<int>(threadIdx.x) / kLanes;
  for (int round = 0; round < 3; ++round) {
    if (warp == 0) {
      box[lane] = in[round * kLanes + lane];
      ptx::bar_arrive(1, 2 * kLanes);
    } else {
      ptx::bar_sync(1, 2 * kLanes);
      out[round * kLanes + lane] = box[kLanes - 1 - lane];
    }
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
      while (!ptx::mbarrier_test(&full, phase % 2)) __nanosleep(20);
      out[static_cast<int>(phase) * kLanes + lane] = slot[kLanes - 1 - lane];
      ptx::mbarrier_arrive(&empty);
    }
  }
  __syncthreads();
  if (threadIdx.x == 0) {  // parity 0 is the phase that runs, parity 1 the one before
    out[4 * kLanes] = ptx::mbarrier_test(&full, 0);
    out[4 * kLanes + 1] = ptx::mbarrier_test(&full, 1);
    ptx::mbarrier_inval(&full);
    ptx::mbarrier_init(&full, 1);
    out[4 * kLanes + 2] = ptx::mbarrier_test(&full, 1);
    ptx::mbarrier_arrive(&full);
    out[4 * kLanes + 3] = ptx::mbarrier_test(&full, 0);
  }
}

// Bytes announced in two ways before and after the copies that bring them.
__global__ void mbarrier_expect_tx_kernel(const uint32_t* in, uint32_t* out) {
  uint32_t* shared = shared_memory<uint32_t>();
  __shared__ uint64_t barrier;
  if (threadIdx.x == 0) {
    ptx::mbarrier_init(&barrier, 2);
    ptx::fence_mbarrier_init();
    ptx::mbarrier_expect_tx(&barrier, 64);
    ptx::bulk_load(shared, in, 64, &barrier);
    ptx::bulk_load(shared + 16, in + 16, 32, &barrier);
    ptx::mbarrier_arrive_expect_tx(&barrier, 32 + 32);
    ptx::bulk_load(shared + 24, in + 24, 32, &barrier);
    ptx::mbarrier_arrive(&barrier);
  }
  __syncthreads();
  ptx::mbarrier_wait(&barrier, 0);
  out[threadIdx.x] = shared[kLanes - 1 - threadIdx.x];
}

// out: how many lanes of each warp were elected, and whether the same one twice.
__global__ void elect_kernel(const uint32_t*, uint32_t* out) {
  const bool first = ptx::elect_one(), second = ptx::elect_one();
  const uint32_t lanes = __ballot_sync(0xffffffffu, first);
  const uint32_t again = __ballot_sync(0xffffffffu, second);
  if (first) {
    out[threadIdx.x / kLanes * 2] = static_cast<uint32_t>(__popc(lanes));
    out[threadIdx.x / kLanes * 2 + 1] = lanes == again;
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
Status run_mbarrier_expect_tx(Cuda on, const uint32_t* in, uint32_t* out) {
  return launch(on, {dim3(1), dim3(kLanes), 1024}, mbarrier_expect_tx_kernel, in, out);
}
Status run_elect(Cuda on, const uint32_t* in, uint32_t* out) {
  return launch(on, {dim3(1), dim3(2 * kLanes)}, elect_kernel, in, out);
}
Status run_setmaxnreg(Cuda on, const uint32_t* in, uint32_t* out) {
  return launch(on, {dim3(1), dim3(384)}, setmaxnreg_kernel, in, out);
}

}  // namespace moat::tests
