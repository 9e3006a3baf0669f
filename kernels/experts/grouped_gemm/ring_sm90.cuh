#pragma once

// What Hopper's products over experts share: the ring of operand tiles in shared memory between
// the warps that load and the warps that multiply, and loading rows one by one.

#include <algorithm>

#include "kernels/cuda/warp.cuh"
#include "kernels/ptx.cuh"

namespace moat::kernels::sm90 {

inline constexpr int kGroup = 128;           // threads of a warpgroup
inline constexpr int kThreads = 3 * kGroup;  // one loads, two multiply
inline constexpr int kDepth = 64;            // values along the sum in a step: 128 bytes of bf16
inline constexpr int kSquareBytes = 64 * 64 * 2;  // 64 lines of 128 bytes
inline constexpr int kMostShared = 227 * 1024;

__device__ inline int lane() { return static_cast<int>(threadIdx.x) % kWarp; }
__device__ inline int group() { return static_cast<int>(threadIdx.x) / kGroup; }
__device__ inline int thread_of_group() { return static_cast<int>(threadIdx.x) % kGroup; }

// kStages slots of kStageBytes, filled and emptied in turn. Step s uses slot s mod kStages. A slot
// is full when `loaders` arrivals and all announced bytes have come, empty when one lane of every
// one of the `readers` warps has arrived. A warp waits together: a lane that looked after another
// one had gone on could find the barrier a phase too far and wait for ever.
template <int kSlots, int kStageBytes>
class Ring {
 public:
  static constexpr int kStages = kSlots, kBytes = kStages * kStageBytes,
                       kBarrierBytes = kStages * 16;

  __device__ Ring(unsigned char* stages, unsigned char* barriers)
      : stages_(stages), full_(reinterpret_cast<uint64_t*>(barriers)), empty_(full_ + kStages) {}

  // One thread, once; then fence_mbarrier_init and a barrier of the block.
  __device__ void begin(int loaders, int readers) const {
    for (int slot = 0; slot < kStages; ++slot) {
      ptx::mbarrier_init(full_ + slot, static_cast<uint32_t>(loaders));
      ptx::mbarrier_init(empty_ + slot, static_cast<uint32_t>(readers));
    }
  }

  __device__ unsigned char* stage(unsigned step) const {
    return stages_ + step % kStages * kStageBytes;
  }
  __device__ uint64_t* full(unsigned step) const { return full_ + step % kStages; }
  __device__ uint64_t* empty(unsigned step) const { return empty_ + step % kStages; }
  __device__ void wait_full(unsigned step) const {
    ptx::mbarrier_wait(full(step), step / kStages % 2);
    __syncwarp();
  }
  // The first round finds every slot empty: a new barrier's phase before the first counts as over.
  __device__ void wait_empty(unsigned step) const {
    ptx::mbarrier_wait(empty(step), (step / kStages + 1) % 2);
    __syncwarp();
  }
  __device__ void release(unsigned step) const {
    if (lane() == 0) ptx::mbarrier_arrive(empty(step));
  }

 private:
  unsigned char* stages_;
  uint64_t *full_, *empty_;
};

// Products of the `steps` slots from `step` on: start(stage) starts those of one slot with wgmma,
// and all_started() is called when no more follow. A slot is given back when the next one's
// products have been started: they never run dry.
template <class TheRing, class Start, class AllStarted>
__device__ void multiply(const TheRing& ring, unsigned step, unsigned steps, Start&& start,
                         AllStarted&& all_started) {
  if (steps == 0) return;
  for (const unsigned first = step, end = step + steps; step != end; ++step) {
    ring.wait_full(step);
    ptx::wgmma_fence();
    start(ring.stage(step));
    ptx::wgmma_commit();
    ptx::wgmma_wait<1>();
    if (step != first) ring.release(step - 1);
  }
  all_started();
  ptx::wgmma_wait<0>();
  ring.release(step - 1);
}

inline constexpr int kLateArrivals = kGroup / kWarp;  // per step, on the full barrier

// Copies issued by the 128 loading threads themselves (cp.async) become visible to the tensor cores
// kLag steps later: each thread waits for its own copies, orders them before the asynchronous
// proxy, and one lane per warp arrives. The more steps are under way, the less their latency is
// felt; but fewer than kStages - 1 may be unseen, or the multiplying warps, which give a slot back
// one step late, and the loading ones would wait for each other.
template <class TheRing>
class LateArrival {
 public:
  static constexpr unsigned kLag = std::min(4, TheRing::kStages - 2);
  __device__ explicit LateArrival(const TheRing& ring) : ring_(ring) {}

  // The copies of this step have been issued.
  __device__ void issued(unsigned step) const {
    ptx::cp_async_commit();
    if (step < kLag) return;
    ptx::cp_async_wait<kLag>();
    arrive(step - kLag);
  }
  // After `steps` steps no more follow.
  __device__ void finish(unsigned steps) const {
    ptx::cp_async_wait<0>();
    for (unsigned step = steps < kLag ? 0 : steps - kLag; step < steps; ++step) arrive(step);
  }

 private:
  __device__ void arrive(unsigned step) const {
    ptx::fence_proxy_async();
    __syncwarp();
    if (lane() == 0) ptx::mbarrier_arrive(ring_.full(step));
  }
  const TheRing& ring_;
};

// kSquares times 64 columns from `column` on of one row of `width` values, as line `line` of every
// square; zeros for a row of nullptr and outside the row. Eight lanes copy 128 bytes.
template <int kSquares>
__device__ void copy_line(unsigned char* squares, int line, const Bf16* row, int column, int width,
                          const void* anything) {
  const int chunk = thread_of_group() % 8;
  unsigned char* to = squares + line * 128 + (chunk ^ line % 8) * 16;
#pragma unroll
  for (int s = 0; s < kSquares; ++s) {
    const int c = column + s * 64 + chunk * 8;
    const bool is_there = row != nullptr && c < width;
    ptx::cp_async<16>(to + s * kSquareBytes, is_there ? row + c : anything, is_there ? 16 : 0);
  }
}

}  // namespace moat::kernels::sm90
