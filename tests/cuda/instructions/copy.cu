#include "tests/cuda/instructions/kernels.h"

#include "kernels/ptx.cuh"

namespace moat::tests {

using namespace kernels;

namespace {

constexpr int kLanes = 32;

// Lane l copies Bytes from its place and keeps l % (Bytes + 1) of them; then reads its neighbour's.
template <int Bytes>
__device__ void copy_and_look(unsigned char* shared, const unsigned char* in, unsigned char* out) {
  const int lane = static_cast<int>(threadIdx.x), other = (lane + 1) % kLanes;
  ptx::cp_async<Bytes>(shared + lane * Bytes, in + lane * Bytes, lane % (Bytes + 1));
  ptx::cp_async_commit();
  ptx::cp_async_wait<0>();
  __syncwarp();
  for (int i = 0; i < Bytes; ++i) out[lane * Bytes + i] = shared[other * Bytes + i];
  __syncwarp();
}

__global__ void cp_async_kernel(const unsigned char* in, unsigned char* out) {
  unsigned char* shared = shared_memory<unsigned char>();
  copy_and_look<4>(shared, in, out);
  copy_and_look<8>(shared, in, out + kLanes * 4);
  copy_and_look<16>(shared, in, out + kLanes * 12);
}

__global__ void cp_async_l1_kernel(const unsigned char* in, unsigned char* out) {
  unsigned char* shared = shared_memory<unsigned char>();
  const int lane = static_cast<int>(threadIdx.x), other = (lane + 1) % kLanes;
  ptx::cp_async_l1(shared + lane * 16, in + lane * 16, lane % 17);
  ptx::cp_async_commit();
  ptx::cp_async_wait<0>();
  __syncwarp();
  for (int i = 0; i < 16; ++i) out[lane * 16 + i] = shared[other * 16 + i];
}

// Three groups, looked at one after another as each is done: out = group 0, 1, 2.
__global__ void cp_async_groups_kernel(const uint32_t* in, uint32_t* out) {
  uint32_t* shared = shared_memory<uint32_t>();
  const int lane = static_cast<int>(threadIdx.x);
  for (int group = 0; group < 3; ++group) {
    ptx::cp_async<4>(shared + group * kLanes + lane, in + group * kLanes + lane);
    ptx::cp_async_commit();
  }
  ptx::cp_async_wait<2>();
  out[lane] = shared[lane];
  ptx::cp_async_wait<1>();
  out[kLanes + lane] = shared[kLanes + lane];
  ptx::cp_async_wait<0>();
  out[2 * kLanes + lane] = shared[2 * kLanes + lane];
}

__global__ void prefetch_kernel(const uint4* in, uint4* out) {
  ptx::prefetch_l2(in + threadIdx.x);
  out[threadIdx.x] = in[threadIdx.x];
}

Grid one_warp() { return {dim3(1), dim3(kLanes), 4096}; }

}  // namespace

Status run_cp_async(Cuda on, const uint32_t* in, uint32_t* out) {
  return launch(on, one_warp(), cp_async_kernel, reinterpret_cast<const unsigned char*>(in),
                reinterpret_cast<unsigned char*>(out));
}
Status run_cp_async_l1(Cuda on, const uint32_t* in, uint32_t* out) {
  return launch(on, one_warp(), cp_async_l1_kernel, reinterpret_cast<const unsigned char*>(in),
                reinterpret_cast<unsigned char*>(out));
}
Status run_cp_async_groups(Cuda on, const uint32_t* in, uint32_t* out) {
  return launch(on, one_warp(), cp_async_groups_kernel, in, out);
}
Status run_prefetch(Cuda on, const uint32_t* in, uint32_t* out) {
  return launch(on, one_warp(), prefetch_kernel, reinterpret_cast<const uint4*>(in),
                reinterpret_cast<uint4*>(out));
}

}  // namespace moat::tests
