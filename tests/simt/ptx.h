#pragma once

// What kernels/ptx.cuh includes where there is no nvcc: the same functions, emulated by the files
// of tests/simt/instructions. What each does is said in kernels/ptx/; what the emulation checks on
// top is said there.

#include "kernels/cuda/tensor_map.h"
#include "kernels/ptx/descriptor.h"
#include "tests/simt/cuda.h"
#include "tests/simt/instructions/tensor_box.h"

namespace simt {

void encode_tensor_map(moat::kernels::TensorMap* map, const moat::kernels::TiledTensor& tensor);
void encode_tensor_map(moat::kernels::TensorMap* map, const moat::kernels::WalkedImages& images);

// The families that differ in a number only.
void copy_async(void* shared, const void* global, int bytes, int filled, Where where);
void copy_async_wait(int pending, Where where);
void matrix_load(uint32_t* registers, const void* row, bool transpose, Where where);
void matrix_store(const uint32_t* registers, void* row, Where where);
struct TensorPlace {
  const moat::kernels::TensorMap* map;
  int rank;
  BoxPlace place;
  bool walked = false;  // pixels of WalkedImages
};
void tensor_load(void* shared, const TensorPlace& place, uint64_t* barrier, Where where);
void tensor_store(const TensorPlace& place, const void* shared, Where where);
void bulk_store_wait_read(int pending);
struct GroupProduct {
  float* sums;  // columns / 2 of each thread
  int columns;
  const uint32_t* rows;  // a in registers, or nullptr
  uint64_t a, b;         // descriptors
  moat::kernels::ptx::Major a_major, b_major;
  int accumulate;
};
void group_product(const GroupProduct& product, Where where);
void group_product_wait(int pending, Where where);
void set_registers(int registers, Where where);

}  // namespace simt

namespace moat::kernels::ptx {

using simt::Where;

// Inline, so that a report can name the kernel's line.

uint32_t shared_address(const void* shared);

template <int Bytes>
__forceinline__ void cp_async(void* shared, const void* global, int filled = Bytes,
                              Where where = Where::here()) {
  static_assert(Bytes == 4 || Bytes == 8 || Bytes == 16);
  simt::copy_async(shared, global, Bytes, filled, where);
}
__forceinline__ void cp_async_l1(void* shared, const void* global, int filled = 16,
                                 Where where = Where::here()) {
  simt::copy_async(shared, global, 16, filled, where);
}
void cp_async_commit();
template <int Pending>
__forceinline__ void cp_async_wait(Where where = Where::here()) {
  simt::copy_async_wait(Pending, where);
}
void prefetch_l2(const void* global);
uint32_t pack_bf16(float low, float high);
uint32_t round_tf32(float x);
float approximate_exp2(float x);
float approximate_reciprocal(float x);

__forceinline__ void ldmatrix_x4(uint32_t (&r)[4], const void* row, Where where = Where::here()) {
  simt::matrix_load(r, row, false, where);
}
__forceinline__ void ldmatrix_x4_trans(uint32_t (&r)[4], const void* row,
                                       Where where = Where::here()) {
  simt::matrix_load(r, row, true, where);
}
__forceinline__ void stmatrix_x4(void* row, const uint32_t (&r)[4], Where where = Where::here()) {
  simt::matrix_store(r, row, where);
}
void mma_m16n8k16_bf16(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1,
                       Where where = Where::here());
void mma_m16n8k8_tf32(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1,
                      Where where = Where::here());

__forceinline__ void bar_sync(int id, int threads, Where where = Where::here()) {
  simt::block_sync(id, threads, where);
}
void mbarrier_init(uint64_t* barrier, uint32_t arrivals, Where where = Where::here());
void fence_mbarrier_init();
void mbarrier_arrive(uint64_t* barrier, Where where = Where::here());
void mbarrier_arrive_expect_tx(uint64_t* barrier, uint32_t bytes, Where where = Where::here());
void mbarrier_wait(uint64_t* barrier, uint32_t parity, Where where = Where::here());

template <int Registers>
__forceinline__ void setmaxnreg_dec(Where where = Where::here()) {
  static_assert(Registers % 8 == 0 && Registers >= 24 && Registers <= 256);
  simt::set_registers(Registers, where);
}
template <int Registers>
__forceinline__ void setmaxnreg_inc(Where where = Where::here()) {
  static_assert(Registers % 8 == 0 && Registers >= 24 && Registers <= 256);
  simt::set_registers(Registers, where);
}

void fence_proxy_async();
__forceinline__ void tma_load_2d(void* shared, const TensorMap* map, uint64_t* barrier, int x,
                                 int y, Where where = Where::here()) {
  simt::tensor_load(shared, {map, 2, {{x, y}}}, barrier, where);
}
__forceinline__ void tma_load_3d(void* shared, const TensorMap* map, uint64_t* barrier, int x,
                                 int y, int z, Where where = Where::here()) {
  simt::tensor_load(shared, {map, 3, {{x, y, z}}}, barrier, where);
}
__forceinline__ void tma_load_4d(void* shared, const TensorMap* map, uint64_t* barrier, int x,
                                 int y, int z, int w, Where where = Where::here()) {
  simt::tensor_load(shared, {map, 4, {{x, y, z, w}}}, barrier, where);
}
__forceinline__ void tma_load_pixels(void* shared, const TensorMap* map, uint64_t* barrier,
                                     int channel, int x, int y, int n, uint16_t right,
                                     uint16_t down, Where where = Where::here()) {
  simt::tensor_load(shared, {map, 4, {{channel, x, y, n}, right, down}, true}, barrier, where);
}
__forceinline__ void tma_store_2d(const TensorMap* map, const void* shared, int x, int y,
                                  Where where = Where::here()) {
  simt::tensor_store({map, 2, {{x, y}}}, shared, where);
}
void bulk_commit();
template <int Pending>
__forceinline__ void bulk_wait_read() {
  simt::bulk_store_wait_read(Pending);
}

void wgmma_fence(Where where = Where::here());
void wgmma_commit(Where where = Where::here());
template <int Pending>
__forceinline__ void wgmma_wait(Where where = Where::here()) {
  simt::group_product_wait(Pending, where);
}
template <int Count>
__forceinline__ void wgmma_keep(float (&)[Count]) {}
template <int N, Major A = Major::k, Major B = Major::k>
__forceinline__ void wgmma_m64k16_bf16(float (&d)[N / 2], uint64_t a, uint64_t b, int accumulate,
                                       Where where = Where::here()) {
  static_assert(N == 64 || N == 128 || N == 192 || N == 256);
  simt::group_product({d, N, nullptr, a, b, A, B, accumulate}, where);
}
template <int N, Major B = Major::k>
__forceinline__ void wgmma_m64k16_bf16(float (&d)[N / 2], const uint32_t (&a)[4], uint64_t b,
                                       int accumulate, Where where = Where::here()) {
  static_assert(N == 16 || N == 32 || N == 64);
  simt::group_product({d, N, a, 0, b, Major::k, B, accumulate}, where);
}

}  // namespace moat::kernels::ptx
