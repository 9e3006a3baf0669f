// Accesses of different threads that nothing orders.

#include "tests/simt/self_test/cases.h"
#include "tests/simt/self_test/device.h"

namespace simt::self_test {

namespace {

__global__ void shared_write_write(int* out) {
  __shared__ int word;
  word = static_cast<int>(threadIdx.x);  // shared write write
  __syncthreads();
  out[threadIdx.x] = word;
}

__global__ void shared_missing_barrier(int* out) {
  __shared__ int words[64];
  words[threadIdx.x] = 1;                      // barrier write
  out[threadIdx.x] = words[63 - threadIdx.x];  // barrier read
}

__global__ void shared_write_after_read(int* out) {
  __shared__ int words[64];
  words[threadIdx.x] = 1;
  __syncthreads();
  out[threadIdx.x] = words[63 - threadIdx.x];  // war read
  words[threadIdx.x] = 2;                      // war write
}

__global__ void missing_syncwarp(int* out) {
  __shared__ int words[64];
  words[threadIdx.x] = 1;                     // warp write
  out[threadIdx.x] = words[threadIdx.x ^ 1];  // warp read
}

__global__ void shuffle_orders_nothing(int* out) {
  __shared__ int words[64];
  words[threadIdx.x] = 1;  // shuffle write
  const int other = __shfl_xor_sync(0xffffffffu, static_cast<int>(threadIdx.x), 1);
  out[threadIdx.x] = words[other];  // shuffle read
}

__global__ void global_write_write(int* out) {
  if (threadIdx.x % 32 == 0) out[0] = 1;  // global write write
}

__global__ void global_between_blocks(int* out) {
  if (threadIdx.x == 0) out[blockIdx.x / 2] = 1;  // blocks write
}

__global__ void global_read_of_other_block(int* out) {
  if (threadIdx.x == 0 && blockIdx.x == 0) out[0] = 1;                // blocks raw write
  if (threadIdx.x == 0 && blockIdx.x != 0) out[blockIdx.x] = out[0];  // blocks raw read
}

__global__ void plain_counter(int* out) {
  if (threadIdx.x % 32 == 0) ++out[0];  // plain counter
}

__global__ void atomic_and_plain(int* out) {
  if (threadIdx.x == 0) atomicAdd(&out[0], 1);  // atomic half
  if (threadIdx.x == 32) out[0] = 5;            // plain half
}

__global__ void bytes_of_a_word(unsigned char* out) {
  out[threadIdx.x / 2] = 1;  // byte write
}

// The last block sums what the others wrote: without a fence before the ticket it may not see it.
template <bool kFenceBefore, bool kFenceAfter>
__global__ void last_block(int* parts, int* ticket, int* sum) {
  __shared__ bool is_last;
  if (threadIdx.x == 0) {
    parts[blockIdx.x] = 1;  // part write
    if (kFenceBefore) __threadfence();
    is_last = atomicAdd(ticket, 1) == static_cast<int>(gridDim.x) - 1;
    if (kFenceAfter) __threadfence();
  }
  __syncthreads();
  if (!is_last || threadIdx.x != 1) return;
  int total = 0;
  for (unsigned i = 0; i < gridDim.x; ++i) total += parts[i];  // part read
  *sum = total;
}

template <bool kFenceBefore, bool kFenceAfter>
void run_last_block() {
  const Ints parts(8), ticket(1), sum(1);
  run(8, 64, last_block<kFenceBefore, kFenceAfter>, parts, ticket, sum);
}

template <void (*kKernel)(int*)>
void run_plain() {
  const Ints out(64);
  run(1, 64, kKernel, out);
}
template <void (*kKernel)(int*)>
void run_blocks() {
  const Ints out(64);
  run(4, 64, kKernel, out);
}
void run_bytes() {
  const Ints out(64);
  run(1, 64, bytes_of_a_word, reinterpret_cast<unsigned char*>(static_cast<int*>(out)));
}

}  // namespace

const std::vector<Fault>& race_faults() {
  static const std::vector<Fault> all{
      {"two threads write a shared word",
       run_plain<shared_write_write>,
       {"data race", "shared_write_write", "writes 4 bytes", "wrote", "line shared write write",
        "static shared memory", "of block (0,0,0)"}},
      {"missing __syncthreads",
       run_plain<shared_missing_barrier>,
       {"data race", "line barrier write", "line barrier read"}},
      {"missing __syncthreads before a write",
       run_plain<shared_write_after_read>,
       {"data race", "line war read", "line war write"}},
      {"missing __syncwarp",
       run_plain<missing_syncwarp>,
       {"data race", "line warp write", "line warp read"}},
      {"a shuffle is no __syncwarp",
       run_plain<shuffle_orders_nothing>,
       {"data race", "line shuffle write", "line shuffle read"}},
      {"two threads write a device word",
       run_plain<global_write_write>,
       {"data race", "writes 4 bytes", "wrote", "line global write write",
        "byte 0 of an allocation of 256 bytes"}},
      {"two blocks write a device word",
       run_blocks<global_between_blocks>,
       {"data race", "line blocks write", "earlier block of the launch"}},
      {"a block reads what another writes",
       run_blocks<global_read_of_other_block>,
       {"data race", "line blocks raw write", "line blocks raw read",
        "earlier block of the launch"}},
      {"a counter that is not atomic",
       run_plain<plain_counter>,
       {"data race", "line plain counter"}},
      {"an atomic and a plain write",
       run_plain<atomic_and_plain>,
       {"data race", "line atomic half", "line plain half"}},
      {"two threads write a byte", run_bytes, {"data race", "writes 1 bytes", "line byte write"}},
      {"last block without a fence before the ticket",
       run_last_block<false, true>,
       {"data race", "line part write", "line part read", "earlier block of the launch"}},
      {"last block without a fence after the ticket",
       run_last_block<true, false>,
       {"data race", "line part write", "line part read", "earlier block of the launch"}},
  };
  return all;
}

}  // namespace simt::self_test
