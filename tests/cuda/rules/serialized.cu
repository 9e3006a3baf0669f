// Products that ptxas serialises, as a sum is used while they are under way, and a setmaxnreg that
// it ignores, as the kernel does not say how many threads a block has: for
// ptxas_can_fail_on_serialized.
#include <cstdint>

__global__ void __launch_bounds__(128) sum_used_early(float* out, [[maybe_unused]] uint64_t a,
                                                      [[maybe_unused]] uint64_t b, int count) {
  float sum[4] = {};
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
  for (int i = 0; i < count; ++i) {
    asm volatile(
        "wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%0, %1, %2, %3}, %4, %5, "
        "1, 1, 1, 0, 0;"
        : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
        : "l"(a), "l"(b));
    sum[0] *= 2;
  }
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
  asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
#endif
  for (const float s : sum) out[threadIdx.x] += s + count;
}

__global__ void ignored(float* out) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  asm volatile("setmaxnreg.dec.sync.aligned.u32 40;");
#endif
  out[threadIdx.x] += 1;
}
