#include "kernels/cuda/tensor_map.h"
#include "kernels/ptx.cuh"
#include "tests/cuda/instructions/kernels.h"

namespace moat::tests {

using namespace kernels;
using ptx::Major;

namespace {

constexpr int kThreads = 128, kM = 64;

// An operand of `rows` x kDepth bf16 in shared memory as TMA brings it: along k in boxes of a
// swizzle's width by all rows, or along the rows in boxes of a width of rows by all k.
template <Major M>
struct Operand {
  static constexpr Swizzle kSwizzle = Swizzle::b128;
  static constexpr int kLine = static_cast<int>(swizzle_width(kSwizzle)) / 2;  // elements

  static Status map(TensorMap* map, const uint32_t* data, int rows) {
    const int inner = M == Major::k ? kDepth : rows, outer = M == Major::k ? rows : kDepth;
    return make_tensor_map(map, TiledTensor{.base = data,
                                            .extents = {inner, outer},
                                            .strides = {2, inner * 2},
                                            .box = {kLine, outer},
                                            .swizzle = kSwizzle});
  }
  static __device__ void load(unsigned char* shared, const TensorMap* map, uint64_t* barrier,
                              int rows) {
    const int inner = M == Major::k ? kDepth : rows, outer = M == Major::k ? rows : kDepth;
    for (int x = 0; x < inner; x += kLine)
      ptx::tma_load_2d(shared + x * outer * 2, map, barrier, x, 0);
  }
  // Of columns 16 step … of k.
  static __device__ uint64_t descriptor(const unsigned char* shared, int rows, int step) {
    const uint32_t start = ptx::shared_address(shared);
    const uint32_t k = 16 * static_cast<uint32_t>(step), line = kLine;
    if constexpr (M == Major::k)
      return ptx::k_major(start + k / line * line * 2 * static_cast<uint32_t>(rows) + k % line * 2,
                          kSwizzle);
    else
      return ptx::mn_major(start + k * line * 2, kSwizzle, kDepth * line * 2);
  }
};

// The warpgroup's sums to out [64, N].
template <int N>
__device__ void write_sums(const float (&d)[N / 2], uint32_t* out) {
  const int warp = static_cast<int>(threadIdx.x) / 32, lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int j = 0; j < N / 8; ++j)
#pragma unroll
    for (int i = 0; i < 4; ++i)
      out[(16 * warp + lane / 4 + i / 2 * 8) * N + 8 * j + lane % 4 * 2 + i % 2] =
          __float_as_uint(d[4 * j + i]);
}

// Both operands, by TMA.
template <int N, class A, class B>
__device__ void load_operands(unsigned char* a, unsigned char* b, const TensorMap& map_a,
                              const TensorMap& map_b) {
  __shared__ uint64_t barrier;
  if (threadIdx.x == 0) {
    ptx::mbarrier_init(&barrier, 1);
    ptx::fence_mbarrier_init();
    ptx::mbarrier_arrive_expect_tx(&barrier, (kM + N) * kDepth * 2);
    A::load(a, &map_a, &barrier, kM);
    B::load(b, &map_b, &barrier, N);
  }
  __syncthreads();
  ptx::mbarrier_wait(&barrier, 0);
}

// out = 2 a b: the first product of the first pass ignores what the accumulators hold, everything
// else adds.
template <int N, class A, class B, Major MajorA, Major MajorB>
__global__ void __launch_bounds__(kThreads)
    product_kernel(const __grid_constant__ TensorMap map_a, const __grid_constant__ TensorMap map_b,
                   uint32_t* out) {
  unsigned char* a = shared_memory<unsigned char>();
  unsigned char* b = a + kM * kDepth * 2;
  load_operands<N, A, B>(a, b, map_a, map_b);
  float d[N / 2];
#pragma unroll
  for (int i = 0; i < N / 2; ++i) d[i] = __int_as_float(0x7fffffff);
  ptx::wgmma_keep(d);
  ptx::wgmma_fence();
#pragma unroll
  for (int pass = 0; pass < 2; ++pass) {
#pragma unroll
    for (int step = 0; step < kDepth / 16; ++step)
      ptx::wgmma_m64k16_bf16<N, MajorA, MajorB>(d, A::descriptor(a, kM, step),
                                                B::descriptor(b, N, step), pass + step);
    ptx::wgmma_commit();
  }
  ptx::wgmma_wait<1>();
  ptx::wgmma_wait<0>();
  ptx::wgmma_keep(d);
  write_sums<N>(d, out);
}

// in: a, then b, each along its major.
template <int N, Major MajorA, Major MajorB>
Status run_product(Cuda on, const uint32_t* in, uint32_t* out) {
  using A = Operand<MajorA>;
  using B = Operand<MajorB>;
  TensorMap map_a, map_b;
  if (const Status s = A::map(&map_a, in, kM); s != Status::ok) return s;
  if (const Status s = B::map(&map_b, in + kM * kDepth / 2, N); s != Status::ok) return s;
  return launch(on, {dim3(1), dim3(kThreads), (kM + N) * kDepth * 2},
                product_kernel<N, A, B, MajorA, MajorB>, map_a, map_b, out);
}

// The same with a in registers, which come while the product before is under way.
template <int N, class B, Major MajorB>
__global__ void __launch_bounds__(kThreads)
    rows_kernel(const __grid_constant__ TensorMap map_a, const __grid_constant__ TensorMap map_b,
                uint32_t* out) {
  constexpr int kSteps = kDepth / 16;
  unsigned char* a = shared_memory<unsigned char>();
  unsigned char* b = a + kM * kDepth * 2;
  load_operands<N, Operand<Major::k>, B>(a, b, map_a, map_b);
  uint32_t rows[2][4];
  const auto load_rows = [&](int step) {
    const int lane = static_cast<int>(threadIdx.x) % 32,
              row = static_cast<int>(threadIdx.x) / 32 * 16 + lane % 16,
              piece = step % kSteps * 2 + lane / 16;
    ptx::ldmatrix_x4(rows[step % 2], a + row * 128 + (piece ^ row % 8) * 16);
  };
  float d[N / 2];
#pragma unroll
  for (int i = 0; i < N / 2; ++i) d[i] = __int_as_float(0x7fffffff);
  ptx::wgmma_keep(d);
  load_rows(0);
#pragma unroll
  for (int step = 0; step < 2 * kSteps; ++step) {
    ptx::wgmma_fence();
    ptx::wgmma_m64k16_bf16<N, MajorB>(d, rows[step % 2], B::descriptor(b, N, step % kSteps), step);
    ptx::wgmma_commit();
    ptx::wgmma_wait<1>();
    if (step + 1 < 2 * kSteps) load_rows(step + 1);
  }
  ptx::wgmma_wait<0>();
  ptx::wgmma_keep(d);
  write_sums<N>(d, out);
}

template <int N, Major MajorB>
Status run_rows(Cuda on, const uint32_t* in, uint32_t* out) {
  using B = Operand<MajorB>;
  TensorMap map_a, map_b;
  if (const Status s = Operand<Major::k>::map(&map_a, in, kM); s != Status::ok) return s;
  if (const Status s = B::map(&map_b, in + kM * kDepth / 2, N); s != Status::ok) return s;
  return launch(on, {dim3(1), dim3(kThreads), (kM + N) * kDepth * 2}, rows_kernel<N, B, MajorB>,
                map_a, map_b, out);
}

// Operands [64, 64] written by the threads themselves: piece c of row r to piece c ^ (r % 8).
__device__ void write_swizzled(unsigned char* shared, const uint32_t* in) {
  for (int piece = static_cast<int>(threadIdx.x); piece < kM * 8; piece += kThreads) {
    const int row = piece / 8, column = piece % 8;
    *reinterpret_cast<uint4*>(shared + row * 128 + (column ^ row % 8) * 16) =
        *reinterpret_cast<const uint4*>(in + piece * 4);
  }
}

__global__ void __launch_bounds__(kThreads) written_kernel(const uint32_t* in, uint32_t* out) {
  unsigned char* a = shared_memory<unsigned char>();
  unsigned char* b = a + kM * kDepth * 2;
  write_swizzled(a, in);
  write_swizzled(b, in + kM * kDepth / 2);
  ptx::fence_proxy_async();
  __syncthreads();
  float d[32] = {};
  ptx::wgmma_keep(d);
  ptx::wgmma_fence();
#pragma unroll
  for (int step = 0; step < kDepth / 16; ++step)
    ptx::wgmma_m64k16_bf16<64>(d, ptx::k_major(ptx::shared_address(a) + step * 32, Swizzle::b128),
                               ptx::k_major(ptx::shared_address(b) + step * 32, Swizzle::b128), 1);
  ptx::wgmma_commit();
  ptx::wgmma_wait<0>();
  ptx::wgmma_keep(d);
  write_sums<64>(d, out);
}

// Two products in two groups; the first is written out while the second may be under way.
// out: a b, then b a of the swapped operands.
__global__ void __launch_bounds__(kThreads) groups_kernel(const uint32_t* in, uint32_t* out) {
  unsigned char* a = shared_memory<unsigned char>();
  unsigned char* b = a + kM * kDepth * 2;
  write_swizzled(a, in);
  write_swizzled(b, in + kM * kDepth / 2);
  ptx::fence_proxy_async();
  __syncthreads();
  const uint64_t first = ptx::k_major(ptx::shared_address(a), Swizzle::b128),
                 second = ptx::k_major(ptx::shared_address(b), Swizzle::b128);
  float d[32], e[32];
  ptx::wgmma_fence();
  ptx::wgmma_m64k16_bf16<64>(d, first, second, 0);
  ptx::wgmma_commit();
  ptx::wgmma_m64k16_bf16<64>(e, second, first, 0);
  ptx::wgmma_commit();
  ptx::wgmma_wait<1>();
  ptx::wgmma_keep(d);
  write_sums<64>(d, out);
  ptx::wgmma_wait<0>();
  ptx::wgmma_keep(e);
  write_sums<64>(e, out + 64 * 64);
}

// Operands without a swizzle: bricks of 8 x 8 elements, 128 bytes each, the next brick of k right
// after, those of the next rows after all of k. In a brick of Major::mn lines are columns of k.
template <Major M>
__global__ void __launch_bounds__(kThreads) plain_kernel(const uint32_t* in, uint32_t* out) {
  constexpr uint32_t kNextRows = kDepth / 8 * 128;
  unsigned char* shared = shared_memory<unsigned char>();
  const uint16_t* elements = reinterpret_cast<const uint16_t*>(in);
  for (int i = static_cast<int>(threadIdx.x); i < 2 * kM * kDepth; i += kThreads) {
    const int row = i / kDepth % kM, k = i % kDepth, operand = i / (kM * kDepth);
    const int line = M == Major::k ? row % 8 : k % 8, at = M == Major::k ? k % 8 : row % 8;
    *reinterpret_cast<uint16_t*>(shared + operand * kM * kDepth * 2 + row / 8 * int{kNextRows} +
                                 k / 8 * 128 + line * 16 + at * 2) = elements[i];
  }
  ptx::fence_proxy_async();
  __syncthreads();
  float d[32];
  ptx::wgmma_fence();
#pragma unroll
  for (int step = 0; step < kDepth / 16; ++step) {
    const uint32_t a = ptx::shared_address(shared) + static_cast<uint32_t>(step) * 256;
    ptx::wgmma_m64k16_bf16<64, M, M>(
        d, ptx::encode({a, 128, kNextRows, Swizzle::none}),
        ptx::encode({a + kM * kDepth * 2, 128, kNextRows, Swizzle::none}), step);
  }
  ptx::wgmma_commit();
  ptx::wgmma_wait<0>();
  ptx::wgmma_keep(d);
  write_sums<64>(d, out);
}

template <Major M>
Status run_plain(Cuda on, const uint32_t* in, uint32_t* out) {
  return launch(on, {dim3(1), dim3(kThreads), 2 * kM * kDepth * 2}, plain_kernel<M>, in, out);
}

}  // namespace

Status run_wgmma_plain(Cuda on, const uint32_t* in, uint32_t* out) {
  return run_plain<Major::k>(on, in, out);
}
Status run_wgmma_plain_mn(Cuda on, const uint32_t* in, uint32_t* out) {
  return run_plain<Major::mn>(on, in, out);
}
Status run_wgmma_16_rows(Cuda on, const uint32_t* in, uint32_t* out) {
  return run_rows<16, Major::k>(on, in, out);
}
Status run_wgmma_32_rows(Cuda on, const uint32_t* in, uint32_t* out) {
  return run_rows<32, Major::k>(on, in, out);
}
Status run_wgmma_64_rows(Cuda on, const uint32_t* in, uint32_t* out) {
  return run_rows<64, Major::k>(on, in, out);
}
Status run_wgmma_64_rows_mn(Cuda on, const uint32_t* in, uint32_t* out) {
  return run_rows<64, Major::mn>(on, in, out);
}
Status run_wgmma_64(Cuda on, const uint32_t* in, uint32_t* out) {
  return run_product<64, Major::k, Major::k>(on, in, out);
}
Status run_wgmma_128(Cuda on, const uint32_t* in, uint32_t* out) {
  return run_product<128, Major::k, Major::k>(on, in, out);
}
Status run_wgmma_192(Cuda on, const uint32_t* in, uint32_t* out) {
  return run_product<192, Major::k, Major::k>(on, in, out);
}
Status run_wgmma_256(Cuda on, const uint32_t* in, uint32_t* out) {
  return run_product<256, Major::k, Major::k>(on, in, out);
}
Status run_wgmma_64_mn(Cuda on, const uint32_t* in, uint32_t* out) {
  return run_product<64, Major::mn, Major::mn>(on, in, out);
}
Status run_wgmma_128_mn(Cuda on, const uint32_t* in, uint32_t* out) {
  return run_product<128, Major::mn, Major::mn>(on, in, out);
}
Status run_wgmma_256_mn(Cuda on, const uint32_t* in, uint32_t* out) {
  return run_product<256, Major::mn, Major::mn>(on, in, out);
}
Status run_wgmma_192_mixed(Cuda on, const uint32_t* in, uint32_t* out) {
  return run_product<192, Major::k, Major::mn>(on, in, out);
}
Status run_wgmma_written(Cuda on, const uint32_t* in, uint32_t* out) {
  return launch(on, {dim3(1), dim3(kThreads), 2 * kM * kDepth * 2}, written_kernel, in, out);
}
Status run_wgmma_groups(Cuda on, const uint32_t* in, uint32_t* out) {
  return launch(on, {dim3(1), dim3(kThreads), 2 * kM * kDepth * 2}, groups_kernel, in, out);
}

}  // namespace moat::tests
