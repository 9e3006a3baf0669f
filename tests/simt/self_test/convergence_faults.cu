// Barriers and warp functions that not everybody reaches who should.

#include "tests/simt/self_test/cases.h"
#include "tests/simt/self_test/device.h"

namespace simt::self_test {

namespace {

constexpr unsigned kAll = 0xffffffffu;

__global__ void two_barriers(int* out) {
  if (threadIdx.x < 32)
    __syncthreads();  // first barrier
  else
    __syncthreads();  // second barrier
  out[threadIdx.x] = 1;
}
__global__ void exit_before_barrier(int* out) {
  if (threadIdx.x == 7) return;
  __syncthreads();  // after exit
  out[threadIdx.x] = 1;
}
__global__ void barriers_crossed(int* out) {
  simt::block_sync(threadIdx.x < 32 ? 1 : 2, 64, simt::Where::here());  // crossed
  out[threadIdx.x] = 1;
}
__global__ void not_in_mask(int* out) {
  out[threadIdx.x] = __shfl_xor_sync(0x0000ffffu, 1, 1);  // not in mask
}
__global__ void diverged_warp(int* out) {
  if (threadIdx.x % 32 < 16)
    out[threadIdx.x] = __shfl_xor_sync(kAll, 1, 1);  // lower half
  else
    out[threadIdx.x] = __shfl_xor_sync(kAll, 1, 1);  // upper half
}
__global__ void different_functions(int* out) {
  if (threadIdx.x % 2)
    out[threadIdx.x] = __shfl_xor_sync(kAll, 1, 1);  // a shuffle
  else
    out[threadIdx.x] = static_cast<int>(__ballot_sync(kAll, 1));  // a ballot
}
__global__ void overlapping_masks(int* out) {
  const unsigned mask = threadIdx.x % 32 < 16 ? 0x0001ffffu : 0xffff0000u;
  __syncwarp(mask);  // overlap
  out[threadIdx.x] = 1;
}
__global__ void exited_lane(int* out) {
  if (threadIdx.x == 3) return;
  out[threadIdx.x] = __shfl_sync(kAll, 1, 0);  // exited lane
}
__global__ void source_outside_mask(int* out) {
  if (threadIdx.x % 32 < 16) out[threadIdx.x] = __shfl_sync(0xffffu, 1, 16);  // outside source
}
__global__ void never_woken(int* out) {
  if (threadIdx.x % 32 != 0)
    out[threadIdx.x] = __any_sync(kAll, 1);  // never woken
  else
    __syncthreads();  // waits alone
}
__global__ void wrong_counts(int* out) {
  simt::block_sync(1, threadIdx.x < 32 ? 96 : 64, simt::Where::here());  // wrong counts
  out[threadIdx.x] = 1;
}
__global__ void ragged_count(int* out) {
  simt::block_sync(1, 40, simt::Where::here());  // ragged count
  out[threadIdx.x] = 1;
}

template <void (*kKernel)(int*)>
void run_plain() {
  const Ints out(64);
  run(1, 64, kKernel, out);
}

}  // namespace

const std::vector<Fault>& convergence_faults() {
  static const std::vector<Fault> all{
      {"threads in different __syncthreads",
       run_plain<two_barriers>,
       {"divergent barrier", "two_barriers", "line first barrier", "line second barrier"}},
      {"exit before __syncthreads",
       run_plain<exit_before_barrier>,
       {"exit before a barrier", "1 threads", "line after exit"}},
      {"two warps in two barriers",
       run_plain<barriers_crossed>,
       {"deadlock", "64 threads waiting in bar.sync", "line crossed"}},
      {"a lane outside its mask",
       run_plain<not_in_mask>,
       {"wrong mask", "__shfl_sync", "0000ffff", "line not in mask"}},
      {"the same shuffle on two lines",
       run_plain<diverged_warp>,
       {"divergent warp", "line lower half", "line upper half"}},
      {"a shuffle meets a ballot",
       run_plain<different_functions>,
       {"divergent warp", "line a shuffle", "line a ballot"}},
      {"masks that overlap",
       run_plain<overlapping_masks>,
       {"wrong mask", "0001ffff", "line overlap"}},
      {"a lane of the mask has exited", run_plain<exited_lane>, {"lane", "line exited lane"}},
      {"a shuffle from outside the mask",
       run_plain<source_outside_mask>,
       {"wrong mask", "shuffles from lane 16"}},
      {"lanes that wait for one that does not come",
       run_plain<never_woken>,
       {"deadlock", "line never woken", "line waits alone", "62 threads waiting in __ballot_sync",
        "2 threads waiting in __syncthreads"}},
      {"a named barrier with two counts",
       run_plain<wrong_counts>,
       {"divergent barrier 1", "line wrong counts"}},
      {"a named barrier of 40 threads",
       run_plain<ragged_count>,
       {"barrier 1", "multiple of a warp", "line ragged count"}},
  };
  return all;
}

}  // namespace simt::self_test
