#include "kernels/ptx.cuh"
#include "tests/cuda/instructions/kernels.h"

namespace moat::tests {

using namespace kernels;

namespace {

constexpr int kLanes = 32;

// Rows of four matrices, each 16 bytes, 48 bytes apart as in a padded tile.
__device__ unsigned char* padded_rows(const uint32_t* in) {
  unsigned char* shared = shared_memory<unsigned char>();
  for (int i = 0; i < 4; ++i)
    *reinterpret_cast<uint32_t*>(shared + threadIdx.x * 48 + i * 4) = in[threadIdx.x * 4 + i];
  __syncwarp();
  return shared + threadIdx.x * 48;
}

__global__ void ldmatrix_kernel(const uint32_t* in, uint32_t* out) {
  uint32_t r[4];
  ptx::ldmatrix_x4(r, padded_rows(in));
  for (int i = 0; i < 4; ++i) out[i * kLanes + threadIdx.x] = r[i];
}
__global__ void ldmatrix_trans_kernel(const uint32_t* in, uint32_t* out) {
  uint32_t r[4];
  ptx::ldmatrix_x4_trans(r, padded_rows(in));
  for (int i = 0; i < 4; ++i) out[i * kLanes + threadIdx.x] = r[i];
}

// Register i of lane l is in[32 i + l]; out are the 32 rows that the lanes name.
__global__ void stmatrix_kernel(const uint32_t* in, uint32_t* out) {
  unsigned char* row = shared_memory<unsigned char>() + threadIdx.x * 48;
  const uint32_t r[4] = {in[threadIdx.x], in[kLanes + threadIdx.x], in[2 * kLanes + threadIdx.x],
                         in[3 * kLanes + threadIdx.x]};
  ptx::stmatrix_x4(row, r);
  __syncwarp();
  for (int i = 0; i < 4; ++i) out[threadIdx.x * 4 + i] = *reinterpret_cast<uint32_t*>(row + i * 4);
}

// in: a [16, 16], b^T [8, 16] of 16 bits, d [16, 8] of 32; out: d + a b.
struct Fragments {
  uint32_t a[4], b[2];
  float d[4];
};
__device__ Fragments read_fragments(const uint32_t* in) {
  const int g = static_cast<int>(threadIdx.x) / 4, t = static_cast<int>(threadIdx.x) % 4;
  const uint32_t *a = in, *b = in + 16 * 8;
  const float* d = reinterpret_cast<const float*>(b + 8 * 8);
  return {
      {a[g * 8 + t], a[(g + 8) * 8 + t], a[g * 8 + t + 4], a[(g + 8) * 8 + t + 4]},
      {b[g * 8 + t], b[g * 8 + t + 4]},
      {d[g * 8 + 2 * t], d[g * 8 + 2 * t + 1], d[(g + 8) * 8 + 2 * t], d[(g + 8) * 8 + 2 * t + 1]}};
}
__device__ void write_sums(const float (&d)[4], uint32_t* out) {
  const int g = static_cast<int>(threadIdx.x) / 4, t = static_cast<int>(threadIdx.x) % 4;
  for (int i = 0; i < 4; ++i) out[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = __float_as_uint(d[i]);
}

__global__ void mma_bf16_kernel(const uint32_t* in, uint32_t* out) {
  Fragments f = read_fragments(in);
  ptx::mma_m16n8k16_bf16(f.d, f.a, f.b[0], f.b[1]);
  write_sums(f.d, out);
}
// in: a [16, 8], b^T [8, 8] of 32 bits, d: in memory as above.
__global__ void mma_tf32_kernel(const uint32_t* in, uint32_t* out) {
  Fragments f = read_fragments(in);
  ptx::mma_m16n8k8_tf32(f.d, f.a, f.b[0], f.b[1]);
  write_sums(f.d, out);
}

// The product of bf16 with operands that ldmatrix brings: a from [16, 16] in shared memory, b from
// its transpose [8, 16], and once more from [16, 8] by ldmatrix_trans, the two halves of b twice
// each; out: both results.
__global__ void mma_from_ldmatrix_kernel(const uint32_t* in, uint32_t* out) {
  uint32_t* shared = shared_memory<uint32_t>();  // a, b^T, b
  const int lane = static_cast<int>(threadIdx.x);
  for (int i = lane; i < 16 * 8 + 8 * 8; i += kLanes) shared[i] = in[i];
  uint16_t* b = reinterpret_cast<uint16_t*>(shared + 192);
  for (int i = lane; i < 128; i += kLanes)
    b[i] = reinterpret_cast<const uint16_t*>(in + 128)[i % 8 * 16 + i / 8];
  __syncwarp();
  uint32_t a[4], b_t[4], b_plain[4];
  ptx::ldmatrix_x4(a, shared + lane % 16 * 8 + lane / 16 * 4);
  ptx::ldmatrix_x4(b_t, shared + 128 + lane % 8 * 8 + lane / 8 % 2 * 4);
  ptx::ldmatrix_x4_trans(b_plain, b + lane % 16 * 8);
  float first[4] = {}, second[4] = {};
  ptx::mma_m16n8k16_bf16(first, a, b_t[0], b_t[1]);
  ptx::mma_m16n8k16_bf16(second, a, b_plain[2], b_plain[3]);
  write_sums(first, out);
  write_sums(second, out + 128);
}

Grid one_warp() { return {dim3(1), dim3(kLanes), 4096}; }

}  // namespace

Status run_ldmatrix(Cuda on, const uint32_t* in, uint32_t* out) {
  return launch(on, one_warp(), ldmatrix_kernel, in, out);
}
Status run_ldmatrix_trans(Cuda on, const uint32_t* in, uint32_t* out) {
  return launch(on, one_warp(), ldmatrix_trans_kernel, in, out);
}
Status run_stmatrix(Cuda on, const uint32_t* in, uint32_t* out) {
  return launch(on, one_warp(), stmatrix_kernel, in, out);
}
Status run_mma_bf16(Cuda on, const uint32_t* in, uint32_t* out) {
  return launch(on, one_warp(), mma_bf16_kernel, in, out);
}
Status run_mma_tf32(Cuda on, const uint32_t* in, uint32_t* out) {
  return launch(on, one_warp(), mma_tf32_kernel, in, out);
}
Status run_mma_from_ldmatrix(Cuda on, const uint32_t* in, uint32_t* out) {
  return launch(on, one_warp(), mma_from_ldmatrix_kernel, in, out);
}

}  // namespace moat::tests
