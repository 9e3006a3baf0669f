#include "tests/cuda/instructions/cluster.h"

#include "kernels/ptx.cuh"
#include "tests/cuda/instructions/kernels.h"

namespace moat::tests {

using namespace kernels;

namespace {

constexpr unsigned kLanes = 32, kBlocks = 2, kSharedBytes = 256;

// Each block waits until all lanes of the other have arrived on its barrier, then reads the other's
// numbers where it left them. out: [blocks, 2 + lanes]: rank, size, numbers.
__global__ void cluster_arrive_kernel(const uint32_t* in, uint32_t* out) {
  uint32_t* box = shared_memory<uint32_t>();
  uint64_t* barrier = reinterpret_cast<uint64_t*>(box + kLanes);
  const uint32_t rank = ptx::cluster_rank(), other = 1 - rank;
  if (threadIdx.x == 0) {
    ptx::mbarrier_init(barrier, kLanes);
    ptx::fence_mbarrier_init();
  }
  ptx::cluster_arrive();
  ptx::cluster_wait();
  box[threadIdx.x] = in[rank * kLanes + threadIdx.x];
  ptx::mbarrier_arrive_cluster(barrier, other);
  ptx::mbarrier_wait_cluster(barrier, 0);
  out += rank * (2 + kLanes);
  if (threadIdx.x == 0) out[0] = rank, out[1] = ptx::cluster_size();
  out[2 + threadIdx.x] = ptx::map_shared(box, other)[kLanes - 1 - threadIdx.x];
  ptx::cluster_arrive();  // no block leaves while the other reads from it
  ptx::cluster_wait();
}

// Each block writes into the other's shared memory. out: [blocks, lanes], what each then finds.
__global__ void cluster_shared_kernel(const uint32_t* in, uint32_t* out) {
  uint32_t* box = shared_memory<uint32_t>();
  const uint32_t rank = ptx::cluster_rank();
  ptx::cluster_arrive();  // the other block has begun
  ptx::cluster_wait();
  ptx::map_shared(box, 1 - rank)[threadIdx.x] = in[rank * kLanes + threadIdx.x];
  ptx::cluster_arrive();
  ptx::cluster_wait();
  out[rank * kLanes + threadIdx.x] = box[threadIdx.x];
}

}  // namespace

Status run_cluster_arrive(Cuda on, const uint32_t* in, uint32_t* out) {
  return launch_cluster(on, kBlocks, kLanes, kSharedBytes, cluster_arrive_kernel, in, out);
}
Status run_cluster_shared(Cuda on, const uint32_t* in, uint32_t* out) {
  return launch_cluster(on, kBlocks, kLanes, kSharedBytes, cluster_shared_kernel, in, out);
}

}  // namespace moat::tests
