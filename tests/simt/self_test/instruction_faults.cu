// Illegal uses of the instructions of kernels/ptx.

#include "kernels/ptx.cuh"
#include "tests/simt/self_test/cases.h"
#include "tests/simt/self_test/device.h"
#include "tests/simt/self_test/instruction_faults.h"

namespace simt::self_test {

namespace {

using namespace moat::kernels;
using moat::kernels::shared_memory;

// A tensor [16, 64] of bf16 over ints, boxes of 8 rows.
TensorMap map_of(int* data) {
  TensorMap map;
  encode_tensor_map(&map, TiledTensor{.base = data,
                                      .extents = {64, 16},
                                      .strides = {2, 128},
                                      .box = {64, 8},
                                      .swizzle = Swizzle::b128});
  return map;
}
template <auto Kernel, unsigned Threads>
void run_on() {
  const Ints ints(4096);
  moat::kernels::launch({}, {dim3(1), dim3(Threads), 32768}, Kernel, map_of(ints),
                        static_cast<int*>(ints));
}

__device__ uint64_t* ready_barrier(uint32_t arrivals) {
  uint64_t* barrier = reinterpret_cast<uint64_t*>(shared_memory<char>() + 16384);
  if (threadIdx.x == 0) {
    ptx::mbarrier_init(barrier, arrivals);
    ptx::fence_mbarrier_init();
  }
  __syncthreads();
  return barrier;
}

__global__ void copy_read_early(TensorMap, int* data) {
  int* shared = shared_memory<int>();
  ptx::cp_async<4>(shared + threadIdx.x, data + threadIdx.x);
  ptx::cp_async_commit();
  data[threadIdx.x] = shared[threadIdx.x];  // copy read early
}
__global__ void copy_misaligned(TensorMap, int* data) {
  ptx::cp_async<16>(shared_memory<int>() + 4, data + 1);  // copy misaligned
}
__global__ void rows_misaligned(TensorMap, int* data) {
  uint32_t r[4];
  shared_memory<int>()[threadIdx.x] = 0;
  ptx::ldmatrix_x4(r, shared_memory<char>() + threadIdx.x * 24);  // rows misaligned
  data[threadIdx.x] = static_cast<int>(r[0]);
}
__global__ void product_of_half_a_warp(TensorMap, int* data) {
  float d[4] = {};
  const uint32_t a[4] = {};
  if (threadIdx.x < 16) ptx::mma_m16n8k16_bf16(d, a, 0, 0);  // half a warp
  __syncthreads();
  data[threadIdx.x] = static_cast<int>(d[0]);
}
__global__ void not_rounded(TensorMap, int* data) {
  float d[4] = {};
  const uint32_t a[4] = {__float_as_uint(0.1f)};
  ptx::mma_m16n8k8_tf32(d, a, 0, 0);  // not rounded
  data[threadIdx.x] = static_cast<int>(d[0]);
}

__global__ void no_barrier(TensorMap, int*) {
  shared_memory<uint64_t>()[0] = 7;
  ptx::mbarrier_arrive(shared_memory<uint64_t>());  // no barrier
}
__global__ void barrier_not_shared_yet(TensorMap, int*) {
  if (threadIdx.x == 0) ptx::mbarrier_init(shared_memory<uint64_t>(), 32);
  __syncwarp();
  if (threadIdx.x >= 32) ptx::mbarrier_arrive(shared_memory<uint64_t>());  // not shared yet
}
__global__ void one_too_many(TensorMap, int*) {
  uint64_t* barrier = ready_barrier(1);
  if (threadIdx.x != 0) return;
  ptx::mbarrier_arrive_expect_tx(barrier, 16);
  ptx::mbarrier_arrive(barrier);  // one too many
}
__global__ void wrong_parity(TensorMap, int*) {
  uint64_t* barrier = ready_barrier(32);
  ptx::mbarrier_arrive(barrier);
  ptx::mbarrier_wait(barrier, 0);
  ptx::mbarrier_wait(barrier, 1);  // wrong parity
}
__global__ void too_few_expected(TensorMap map, int*) {
  uint64_t* barrier = ready_barrier(1);
  if (threadIdx.x != 0) return;
  ptx::mbarrier_arrive_expect_tx(barrier, 512);
  ptx::tma_load_2d(shared_memory<char>(), &map, barrier, 0, 0);
  ptx::mbarrier_wait(barrier, 0);
}
__global__ void too_many_expected(TensorMap, int*) {
  uint64_t* barrier = ready_barrier(1);
  if (threadIdx.x == 0) ptx::mbarrier_arrive_expect_tx(barrier, 1040);
}
__global__ void no_fence_after_init(TensorMap map, int*) {
  uint64_t* barrier = reinterpret_cast<uint64_t*>(shared_memory<char>() + 16384);
  if (threadIdx.x != 0) return;
  ptx::mbarrier_init(barrier, 1);
  ptx::mbarrier_arrive_expect_tx(barrier, 1024);
  ptx::tma_load_2d(shared_memory<char>(), &map, barrier, 0, 0);  // no fence after init
}
__global__ void barrier_overwritten(TensorMap, int*) {
  uint64_t* barrier = ready_barrier(1);
  if (threadIdx.x != 0) return;
  *barrier = 0;
  ptx::mbarrier_arrive(barrier);  // barrier overwritten
}

__global__ void load_read_early(TensorMap map, int* data) {
  uint64_t* barrier = ready_barrier(1);
  if (threadIdx.x == 0) {
    ptx::mbarrier_arrive_expect_tx(barrier, 1024);
    ptx::tma_load_2d(shared_memory<char>(), &map, barrier, 0, 0);
    data[0] = shared_memory<int>()[3];  // load read early
  }
  ptx::mbarrier_wait(barrier, 0);
}
__global__ void load_misaligned(TensorMap map, int*) {
  uint64_t* barrier = ready_barrier(1);
  if (threadIdx.x != 0) return;
  ptx::mbarrier_arrive_expect_tx(barrier, 1024);
  ptx::tma_load_2d(shared_memory<char>() + 128, &map, barrier, 0, 0);  // load misaligned
}
__global__ void column_misaligned(TensorMap map, int*) {
  uint64_t* barrier = ready_barrier(1);
  if (threadIdx.x != 0) return;
  ptx::mbarrier_arrive_expect_tx(barrier, 1024);
  ptx::tma_load_2d(shared_memory<char>(), &map, barrier, -2, 0);  // column misaligned
}
__global__ void no_map(TensorMap, int*) {
  uint64_t* barrier = ready_barrier(1);
  const TensorMap other{};
  if (threadIdx.x == 0) ptx::tma_load_2d(shared_memory<char>(), &other, barrier, 0, 0);  // no map
}
__global__ void load_not_waited_for(TensorMap map, int*) {
  uint64_t* barrier = ready_barrier(1);
  if (threadIdx.x != 0) return;
  ptx::mbarrier_arrive_expect_tx(barrier, 1024);
  ptx::tma_load_2d(shared_memory<char>(), &map, barrier, 0, 0);
}

// Stores of a box that thread 0 writes.
__device__ void write_box(int first) {
  for (int i = 0; i < 256; ++i) shared_memory<int>()[i] = first + i;
}
__global__ void store_without_fence(TensorMap map, int*) {
  if (threadIdx.x != 0) return;
  write_box(0);
  ptx::tma_store_2d(&map, shared_memory<char>(), 0, 0);  // store without fence
  ptx::bulk_commit();
  ptx::bulk_wait_read<0>();
}
__global__ void store_not_waited_for(TensorMap map, int*) {
  if (threadIdx.x != 0) return;
  write_box(0);
  ptx::fence_proxy_async();
  ptx::tma_store_2d(&map, shared_memory<char>(), 0, 0);  // store not waited for
  ptx::bulk_commit();
}
__global__ void source_overwritten(TensorMap map, int*) {
  if (threadIdx.x != 0) return;
  write_box(0);
  ptx::fence_proxy_async();
  ptx::tma_store_2d(&map, shared_memory<char>(), 0, 0);  // source overwritten
  ptx::bulk_commit();
  write_box(1);
  ptx::bulk_wait_read<0>();
}
__global__ void wrong_fence(TensorMap map, int* data) {
  uint64_t* barrier = ready_barrier(1);
  if (threadIdx.x != 0) return;
  data[1] = 5;
  ptx::fence_proxy_async();
  ptx::mbarrier_arrive_expect_tx(barrier, 1024);
  ptx::tma_load_2d(shared_memory<char>(), &map, barrier, 0, 0);  // wrong fence
  ptx::mbarrier_wait(barrier, 0);
}

// Products of two matrices of ones [64, 16].
__device__ uint64_t operand(int which) {
  return ptx::k_major(ptx::shared_address(shared_memory<char>() + which * 8192), Swizzle::b128);
}
__device__ void write_operands() {
  for (int i = static_cast<int>(threadIdx.x); i < 4096; i += 128)
    shared_memory<uint32_t>()[i] = 0x3f803f80;
}
__device__ void ready_operands() {
  write_operands();
  ptx::fence_proxy_async();
  __syncthreads();
}
__global__ void no_register_fence(TensorMap, int* data) {
  ready_operands();
  float d[32] = {};
  ptx::wgmma_m64k16_bf16<64>(d, operand(0), operand(1), 1);  // no register fence
  ptx::wgmma_commit();
  ptx::wgmma_wait<0>();
  data[threadIdx.x] = static_cast<int>(d[0]);
}
__global__ void register_fence_once(TensorMap, int* data) {
  ready_operands();
  float d[32] = {};
  ptx::wgmma_fence();
  for (int i = 0; i < 2; ++i) {
    ptx::wgmma_m64k16_bf16<64>(d, operand(0), operand(1), 1);  // register fence once
    ptx::wgmma_commit();
    ptx::wgmma_wait<0>();
    d[0] = 0;
  }
  data[threadIdx.x] = static_cast<int>(d[0]);
}
__global__ void operands_without_fence(TensorMap, int* data) {
  write_operands();
  __syncthreads();
  float d[32] = {};
  ptx::wgmma_fence();
  ptx::wgmma_m64k16_bf16<64>(d, operand(0), operand(1), 1);  // operands without fence
  ptx::wgmma_commit();
  ptx::wgmma_wait<0>();
  data[threadIdx.x] = static_cast<int>(d[0]);
}
__global__ void sums_touched(TensorMap, int* data) {
  ready_operands();
  float d[32] = {};
  ptx::wgmma_fence();
  ptx::wgmma_m64k16_bf16<64>(d, operand(0), operand(1), 1);  // sums touched
  ptx::wgmma_commit();
  d[3] = 1;
  ptx::wgmma_wait<0>();
  data[threadIdx.x] = static_cast<int>(d[3]);
}
__global__ void product_not_waited_for(TensorMap, int* data) {
  ready_operands();
  float d[32] = {};
  ptx::wgmma_fence();
  ptx::wgmma_m64k16_bf16<64>(d, operand(0), operand(1), 1);  // product not waited for
  ptx::wgmma_commit();
  ptx::wgmma_wait<1>();
  data[threadIdx.x] = 0;
}
__global__ void operand_overwritten(TensorMap, int* data) {
  ready_operands();
  float d[32] = {};
  ptx::wgmma_fence();
  ptx::wgmma_m64k16_bf16<64>(d, operand(0), operand(1), 1);  // operand overwritten
  ptx::wgmma_commit();
  __syncthreads();
  if (threadIdx.x == 0) shared_memory<uint32_t>()[2] = 0;
  ptx::fence_proxy_async();
  ptx::wgmma_wait<0>();
  data[threadIdx.x] = static_cast<int>(d[0]);
}
__global__ void registers_not_fenced(TensorMap, int* data) {
  ready_operands();
  float d[8] = {}, e[8] = {};
  uint32_t rows[4] = {};
  ptx::wgmma_fence();
  ptx::wgmma_m64k16_bf16<16>(d, rows, operand(1), 1);
  ptx::wgmma_commit();
  ptx::wgmma_wait<0>();
  rows[0] = 1;
  ptx::wgmma_m64k16_bf16<16>(e, rows, operand(1), 1);  // registers not fenced
  ptx::wgmma_commit();
  ptx::wgmma_wait<0>();
  data[threadIdx.x] = static_cast<int>(d[0] + e[0]);
}
__global__ void registers_overwritten(TensorMap, int* data) {
  ready_operands();
  float d[8] = {};
  uint32_t rows[4] = {};
  ptx::wgmma_fence();
  ptx::wgmma_m64k16_bf16<16>(d, rows, operand(1), 1);  // registers overwritten
  ptx::wgmma_commit();
  rows[3] = 1;
  ptx::wgmma_wait<0>();
  data[threadIdx.x] = static_cast<int>(d[0]);
}
__global__ void descriptors_differ(TensorMap, int* data) {
  ready_operands();
  float d[32] = {};
  ptx::wgmma_fence();
  ptx::wgmma_m64k16_bf16<64>(d, operand(threadIdx.x == 77), operand(1), 1);  // descriptors differ
  ptx::wgmma_commit();
  ptx::wgmma_wait<0>();
  data[threadIdx.x] = static_cast<int>(d[0]);
}
__global__ void one_warp_of_four(TensorMap, int* data) {
  ready_operands();
  if (threadIdx.x < 32) ptx::wgmma_fence();  // one warp of four
  data[threadIdx.x] = 0;
  __syncthreads();
}
__global__ void base_offset(TensorMap, int* data) {
  ready_operands();
  float d[32] = {};
  ptx::wgmma_fence();
  ptx::wgmma_m64k16_bf16<64>(d, operand(0) | uint64_t{1} << 49, operand(1), 1);  // base offset
  data[threadIdx.x] = static_cast<int>(d[0]);
}
__global__ void registers_of_half_a_group(TensorMap, int*) {
  if (threadIdx.x < 64) ptx::setmaxnreg_dec<40>();  // half a group
  __syncthreads();
}

__global__ void sums_read_early(TensorMap, int* data) {
  ready_operands();
  float d[32] = {};
  ptx::wgmma_fence();
  ptx::wgmma_m64k16_bf16<64>(d, operand(0), operand(1), 1);
  ptx::wgmma_commit();
  data[threadIdx.x] = __float_as_int(d[0]);
  ptx::wgmma_wait<0>();
  data[128 + threadIdx.x] = static_cast<int>(d[0]);
}

}  // namespace

const std::vector<Fault>& copy_faults() {
  static const std::vector<Fault> all{
      {"a copy is read before it is waited for",
       run_on<copy_read_early, 32>,
       {"in flight", "line copy read early"}},
      {"a copy from a misaligned address",
       run_on<copy_misaligned, 1>,
       {"misaligned: cp_async of 16 bytes", "line copy misaligned"}},
      {"rows for ldmatrix off 16 bytes",
       run_on<rows_misaligned, 32>,
       {"misaligned: ldmatrix", "lane 1's row", "line rows misaligned"}},
      {"a product of half a warp",
       run_on<product_of_half_a_warp, 32>,
       {"deadlock", "mma.m16n8k16 of bf16", "line half a warp"}},
      {"an operand with more bits than tf32",
       run_on<not_rounded, 32>,
       {"not rounded to tf32", "line not rounded"}},
  };
  return all;
}

const std::vector<Fault>& barrier_faults() {
  static const std::vector<Fault> all{
      {"no mbarrier there", run_on<no_barrier, 1>, {"no mbarrier", "line no barrier"}},
      {"an mbarrier that others may not see yet",
       run_on<barrier_not_shared_yet, 64>,
       {"line not shared yet"}},
      {"one arrival too many",
       run_on<one_too_many, 32>,
       {"more arrivals than the 1", "line one too many"}},
      {"the wrong parity",
       run_on<wrong_parity, 32>,
       {"deadlock", "mbarrier wait (parity 1)", "line wrong parity"}},
      {"fewer bytes expected than come",
       run_on<too_few_expected, 32>,
       {"512 bytes more than it was told to expect"}},
      {"more bytes expected than come",
       run_on<too_many_expected, 32>,
       {"1040 bytes that it expects and nothing brought"}},
      {"no fence after the initialisation",
       run_on<no_fence_after_init, 32>,
       {"without a later fence_mbarrier_init", "line no fence after init"}},
      {"a barrier is overwritten",
       run_on<barrier_overwritten, 32>,
       {"was overwritten", "line barrier overwritten"}},
  };
  return all;
}

const std::vector<Fault>& tma_faults() {
  static const std::vector<Fault> all{
      {"a box is read before it has arrived",
       run_on<load_read_early, 32>,
       {"in flight", "line load read early"}},
      {"a swizzled box off its pattern",
       run_on<load_misaligned, 32>,
       {"misaligned: TMA load", "1024 bytes", "line load misaligned"}},
      {"a box between the pieces of 16 bytes",
       run_on<column_misaligned, 32>,
       {"misaligned: TMA load", "column -2", "line column misaligned"}},
      {"a tensor map of zeros", run_on<no_map, 32>, {"make_tensor_map", "line no map"}},
      {"a store of what was just written",
       run_on<store_without_fence, 1>,
       {"missing proxy fence", "fence_proxy_async", "line store without fence"}},
      {"exit with a store under way",
       run_on<store_not_waited_for, 1>,
       {"exits while its TMA store", "line store not waited for"}},
      {"the source of a store changes", run_on<source_overwritten, 1>, {"line source overwritten"}},
      {"a load of global memory after a fence of shared memory",
       run_on<wrong_fence, 32>,
       {"missing proxy fence", "no fence of global memory", "line wrong fence"}},
  };
  return all;
}

const std::vector<Fault>& late_faults() {
  static const std::vector<Fault> all{
      {"exit with a load under way",
       run_on<load_not_waited_for, 32>,
       {"in flight: block (0,0,0) exits while 1 bulk loads"}},
  };
  return all;
}

const std::vector<Fault>& wgmma_faults() {
  static const std::vector<Fault> all{
      {"no wgmma_fence",
       run_on<no_register_fence, 128>,
       {"missing wgmma_fence", "line no register fence"}},
      {"no wgmma_fence after the accumulators were written",
       run_on<register_fence_once, 128>,
       {"missing wgmma_fence", "line register fence once"}},
      {"operands that were just written",
       run_on<operands_without_fence, 128>,
       {"missing proxy fence", "line operands without fence"}},
      {"accumulators written while in use",
       run_on<sums_touched, 128>,
       {"touched accumulators", "line sums touched"}},
      {"exit with a product under way",
       run_on<product_not_waited_for, 128>,
       {"exits without waiting for the wgmma", "line product not waited for"}},
      {"an operand changes under a product",
       run_on<operand_overwritten, 128>,
       {"overwritten: an operand", "line operand overwritten"}},
      {"an operand's registers written after the fence",
       run_on<registers_not_fenced, 128>,
       {"missing wgmma_fence", "an operand's registers", "line registers not fenced"}},
      {"an operand's registers change under a product",
       run_on<registers_overwritten, 128>,
       {"overwritten: an operand", "registers", "line registers overwritten"}},
      {"different descriptors",
       run_on<descriptors_differ, 128>,
       {"divergent wgmma", "line descriptors differ"}},
      {"one warp of the warpgroup",
       run_on<one_warp_of_four, 128>,
       {"deadlock", "wgmma_fence", "line one warp of four"}},
      {"a descriptor with a base offset",
       run_on<base_offset, 128>,
       {"has base offset 1", "line base offset"}},
      {"setmaxnreg in half a warpgroup",
       run_on<registers_of_half_a_group, 128>,
       {"deadlock", "setmaxnreg", "line half a group"}},
  };
  return all;
}

bool sums_are_poisoned_until_waited_for() {
  const Ints ints(4096);
  moat::kernels::launch({}, {dim3(1), dim3(128), 32768}, sums_read_early, map_of(ints),
                        static_cast<int*>(ints));
  const std::vector<int> found = ints.host();
  bool all = true;
  for (size_t i = 0; i < 128; ++i) all = all && found[i] == 0x7fdeadb1 && found[128 + i] == 16;
  return all;
}

}  // namespace simt::self_test
