// A kernel that cannot keep its values in 32 registers, for ptxas_can_fail_on_spills.
__global__ void __launch_bounds__(1024, 2) spills(float* values) {
  float kept[96];
#pragma unroll
  for (int i = 0; i < 96; ++i) kept[i] = values[i * 1024 + threadIdx.x];
  __syncthreads();
#pragma unroll
  for (int i = 0; i < 96; ++i) values[(95 - i) * 1024 + threadIdx.x] = kept[i] * kept[95 - i];
}
