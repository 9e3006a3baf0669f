// Correct kernels that are close to the faults: none may be reported.

#include "tests/simt/self_test/cases.h"
#include "tests/simt/self_test/device.h"

namespace simt::self_test {

namespace {

constexpr unsigned kAll = 0xffffffffu;

__global__ void reverse(const int* in, int* out) {
  __shared__ int words[64];
  for (int round = 0; round < 3; ++round) {
    words[threadIdx.x] = round == 0 ? in[threadIdx.x] : out[threadIdx.x];
    __syncthreads();
    out[threadIdx.x] = words[63 - threadIdx.x];
    __syncthreads();
  }
}
bool run_reverse() {
  const Ints in(64), out(64);
  run(1, 64, reverse, in, out);
  bool right = true;
  for (int i = 0; i < 64; ++i) right = right && out.host()[i] == 63 - i;
  return right;
}

__global__ void exchange_in_warp(int* out) {
  __shared__ int words[96];
  words[threadIdx.x] = static_cast<int>(threadIdx.x);
  __syncwarp();
  const int neighbour = words[threadIdx.x ^ 1];
  __syncwarp();
  words[threadIdx.x] = 2 * neighbour;
  __syncwarp();
  out[threadIdx.x] = words[threadIdx.x ^ 1] / 2;
}
bool run_exchange() {
  const Ints out(96);
  run(1, 96, exchange_in_warp, out);
  bool right = true;
  for (int i = 0; i < 96; ++i) right = right && out.host()[i] == i;
  return right;
}

__global__ void ragged_warp(int* out) {
  int sum = static_cast<int>(threadIdx.x);
  for (int step = 16; step > 0; step /= 2) {
    const int other = __shfl_down_sync(kAll, sum, step);
    if (threadIdx.x % 32 + step < (threadIdx.x < 32 ? 32 : 8)) sum += other;
  }
  if (threadIdx.x % 32 == 0) out[threadIdx.x / 32] = sum;
}
bool run_ragged() {
  const Ints out(2);
  run(1, 40, ragged_warp, out);
  return out.host()[0] == 496 && out.host()[1] == 284;
}

__global__ void halves(int* out) {
  const unsigned mask = threadIdx.x % 32 < 16 ? 0xffffu : 0xffff0000u;
  int v = static_cast<int>(threadIdx.x);
  if (threadIdx.x % 32 < 16)
    v = __shfl_xor_sync(mask, v, 3);
  else
    v = __shfl_xor_sync(mask, v, 5);
  out[threadIdx.x] = v;
}
bool run_halves() {
  const Ints out(32);
  run(1, 32, halves, out);
  return out.host()[1] == 2 && out.host()[16] == 21;
}

__global__ void last_block(int* parts, int* ticket, int* sum) {
  __shared__ bool is_last;
  parts[blockIdx.x * 64 + threadIdx.x] = 1;
  __syncthreads();
  if (threadIdx.x == 0) {
    __threadfence();
    is_last = atomicAdd(ticket, 1) == static_cast<int>(gridDim.x) - 1;
    __threadfence();
  }
  __syncthreads();
  if (!is_last) return;
  __shared__ int total;
  if (threadIdx.x == 0) total = 0;
  __syncthreads();
  for (unsigned i = 0; i < gridDim.x; ++i) atomicAdd(&total, parts[i * 64 + threadIdx.x]);
  __syncthreads();
  if (threadIdx.x == 0) *sum = total;
}
bool run_last_block() {
  const Ints parts(9 * 64, false), ticket(1), sum(1);
  run(9, 64, last_block, parts, ticket, sum);
  return sum.host()[0] == 9 * 64;
}

__global__ void histogram(const int* in, int* counts) {
  __shared__ int bins[8];
  if (threadIdx.x < 8) bins[threadIdx.x] = 0;
  __syncthreads();
  atomicAdd(&bins[in[blockIdx.x * 64 + threadIdx.x] % 8], 1);
  __syncthreads();
  if (threadIdx.x < 8) atomicAdd(&counts[threadIdx.x], bins[threadIdx.x]);
}
bool run_histogram() {
  const Ints in(256), counts(8, false);
  cudaMemsetAsync(counts, 0, 8 * sizeof(int));
  run(4, 64, histogram, in, counts);
  bool right = true;
  for (const int count : counts.host()) right = right && count == 32;
  return right;
}

__global__ void neighbouring_bytes(unsigned char* out) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  out[i] = static_cast<unsigned char>(i);
}
bool run_bytes() {
  const Ints out(16, false);
  run(2, 32, neighbouring_bytes, reinterpret_cast<unsigned char*>(static_cast<int*>(out)));
  return out.host()[1] == 0x07060504;
}

// Warp 0 produces, warp 1 consumes, through two named barriers.
__global__ void ping_pong(const int* in, int* out) {
  __shared__ int words[32];
  const unsigned lane = threadIdx.x % 32;
  for (int round = 0; round < 4; ++round) {
    if (threadIdx.x < 32) words[lane] = in[round * 32 + lane];
    simt::block_sync(1, 64, simt::Where::here());
    if (threadIdx.x >= 32) out[round * 32 + lane] = words[31 - lane];
    simt::block_sync(2, 64, simt::Where::here());
  }
}
bool run_ping_pong() {
  const Ints in(128), out(128);
  run(1, 64, ping_pong, in, out);
  return out.host()[0] == 31 && out.host()[127] == 96;
}

__global__ void votes(int* out) {
  const int count = __syncthreads_count(threadIdx.x % 3 == 0);
  const int all = __syncthreads_and(threadIdx.x < 50), any = __syncthreads_or(threadIdx.x == 49);
  out[threadIdx.x] = count * 4 + all * 2 + any;
}
bool run_votes() {
  const Ints out(64);
  run(1, 64, votes, out);
  bool right = true;
  for (const int y : out.host()) right = right && y == 22 * 4 + 1;
  return right;
}

}  // namespace

const std::vector<Sound>& sound_kernels() {
  static const std::vector<Sound> all{
      {"reverse through shared memory", run_reverse},
      {"exchange in a warp", run_exchange},
      {"a warp of 8 lanes", run_ragged},
      {"half warps on two lines", run_halves},
      {"last block", run_last_block},
      {"histogram", run_histogram},
      {"neighbouring bytes", run_bytes},
      {"named barriers", run_ping_pong},
      {"votes of a block", run_votes},
  };
  return all;
}

}  // namespace simt::self_test
