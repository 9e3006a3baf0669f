#include "kernels/ptx.cuh"
#include "tests/cuda/instructions/kernels.h"

namespace moat::tests {

using namespace kernels;

namespace {

__global__ void pack_bf16_kernel(const float* in, uint32_t* out) {
  out[threadIdx.x] = ptx::pack_bf16(in[2 * threadIdx.x], in[2 * threadIdx.x + 1]);
}
__global__ void round_tf32_kernel(const float* in, uint32_t* out) {
  out[threadIdx.x] = ptx::round_tf32(in[threadIdx.x]);
}
// in: kRounded numbers, then what is expected of them; out: the expected number where the found one
// is as near as promised, else the found one.
template <class F>
__device__ void approximate(const float* in, float* out, F&& f) {
  const float found = f(in[threadIdx.x]), expected = in[kRounded + threadIdx.x];
  const bool near =
      fabsf(found - expected) <= fabsf(expected) * 0x1.8p-22f;  // it is rounded itself
  out[threadIdx.x] = near ? expected : found;
}
__global__ void exp2_kernel(const float* in, float* out) {
  approximate(in, out, [](float x) { return ptx::approximate_exp2(x); });
}
__global__ void reciprocal_kernel(const float* in, float* out) {
  approximate(in, out, [](float x) { return ptx::approximate_reciprocal(x); });
}

Status run_approximation(Cuda on, void (*kernel)(const float*, float*), const uint32_t* in,
                         uint32_t* out) {
  return launch(on, {dim3(1), dim3(kRounded)}, kernel, reinterpret_cast<const float*>(in),
                reinterpret_cast<float*>(out));
}

}  // namespace

Status run_pack_bf16(Cuda on, const uint32_t* in, uint32_t* out) {
  return launch(on, {dim3(1), dim3(kRounded / 2)}, pack_bf16_kernel,
                reinterpret_cast<const float*>(in), out);
}
Status run_round_tf32(Cuda on, const uint32_t* in, uint32_t* out) {
  return launch(on, {dim3(1), dim3(kRounded)}, round_tf32_kernel,
                reinterpret_cast<const float*>(in), out);
}
Status run_exp2(Cuda on, const uint32_t* in, uint32_t* out) {
  return run_approximation(on, exp2_kernel, in, out);
}
Status run_reciprocal(Cuda on, const uint32_t* in, uint32_t* out) {
  return run_approximation(on, reciprocal_kernel, in, out);
}

}  // namespace moat::tests
