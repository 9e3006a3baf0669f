// Launches: a grid block by block, and what the host asks of the device.

#include <algorithm>
#include <cstring>
#include <map>
#include <new>
#include <numeric>
#include <vector>

#include "tests/simt/core.h"
#include "tests/simt/runtime/guard.h"
#include "tests/simt/runtime/observe.h"
#include "tests/simt/runtime/preempt.h"
#include "tests/simt/runtime/schedule.h"
#include "tests/simt/runtime/streams.h"
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#endif

namespace simt {

Options& options() {
  static Options all;
  return all;
}
Statistics& statistics() {
  static Statistics all;
  return all;
}

namespace {

uint32_t generations = 0;
std::map<const void*, size_t> shared_limits;  // by kernel, from cudaFuncSetAttribute

void enter_kernel() {
  started();
  running->call.call(running->call.arguments);
  Thread& thread = *current;
  for (auto& [key, extension] : thread.extensions) extension->at_exit();
  thread.state = State::exited;
  if (--block->live == 0)
    for (auto& [key, extension] : block->extensions) extension->at_exit();
  finish(thread.fiber);
}

void reset_thread(Thread& thread, int index) {
  const dim3 extent = running->block;
  const auto linear = static_cast<unsigned>(index);
  prepare(thread.fiber, index, enter_kernel);
  thread.position = {linear % extent.x, linear / extent.x % extent.y,
                     linear / (extent.x * extent.y)};
  thread.index = index;
  thread.state = State::ready;
  thread.clocks.own = 1;
  thread.clocks.detail = Knowledge::Detail::base;
  thread.born = make_epoch(block->generation, index, 0);
  thread.waits_on = nullptr;
  thread.waits_mask = 0;
  if (!thread.extensions.empty()) thread.extensions.clear();
}

void run_block(Block& one, uint3 index) {
  const int threads = running->threads_per_block();
  one.generation = observer.generation = ++generations;
  one.index = index;
  one.live = threads;
  one.ready.clear();
  one.landings.clear();
  for (Barrier& barrier : one.barriers) barrier = Barrier{};
  one.warps.assign(static_cast<size_t>(threads + kWarpThreads - 1) / kWarpThreads, {});
  one.warpgroups.assign(static_cast<size_t>(threads + kWarpgroupThreads - 1) / kWarpgroupThreads,
                        {});
  one.dynamic = reinterpret_cast<char*>(space.arena);
#if defined(__SANITIZE_ADDRESS__)
  __asan_poison_memory_region(one.dynamic, kHeapStart);
  __asan_unpoison_memory_region(one.dynamic, running->shared_bytes);
#endif
  std::memset(one.dynamic, 0xff, running->shared_bytes);  // NaN
  one.base.assign(one.threads.size(), 0);
  one.order = GridOrder{};
  one.extensions.clear();
  one.last_warp = -1;
  one.stopped = false;
  generator.seed(options().seed * 1000003 + index.x * 7919 + index.y * 104729 + index.z);
  draw_preemption();
  for (int thread = 0; thread < threads; ++thread)
    reset_thread(one.threads[static_cast<size_t>(thread)], thread);
  run_threads();
}

// A step that visits all of `count` in an order that looks random.
uint64_t stride(uint64_t count) {
  if (options().schedule != Schedule::random) return 1;
  uint64_t step = (options().seed * 2654435761u) % count | 1;
  while (std::gcd(step, count) != 1) step += 2;
  return step;
}

void open_shared(size_t bytes) {
  for (size_t page = 0; page < kHeapStart >> kPageBits; ++page) space.pages[page].end = 0;
  open_range(space.arena, bytes, Space::shared);
}

// Static shared memory lies in the program's own segment of thread_local variables: what the
// program keeps there for itself is put back after a launch.
class ProgramVariables {
 public:
  ProgramVariables() : kept_(segment(), segment() + space.static_bytes) {}
  ~ProgramVariables() { std::copy(kept_.begin(), kept_.end(), segment()); }
  ProgramVariables(const ProgramVariables&) = delete;
  ProgramVariables& operator=(const ProgramVariables&) = delete;

 private:
  static char* segment() { return reinterpret_cast<char*>(space.static_shared); }
  std::vector<char> kept_;
};

void run_grid(const Launch& job) {
  static Block one;  // its vectors keep their memory from launch to launch
  one.threads.resize(static_cast<size_t>(job.threads_per_block()));
  make_address_space();
  follow_thread();
  const DeviceAccess access;
  const ProgramVariables kept;
  open_shared(job.shared_bytes);
  forget_releases();
  observer.first_generation = generations + 1;
  observer.launched = make_epoch(observer.first_generation, 0, 0);
  block = &one;
  running = &job;
  const dim3 grid = job.grid;
  const uint64_t count = uint64_t{grid.x} * grid.y * grid.z, step = stride(count);
  std::string reports;
  try {
    for (uint64_t i = 0; i < count; ++i) {
      const uint64_t at = i * step % count;
      run_block(one,
                {static_cast<unsigned>(at % grid.x), static_cast<unsigned>(at / grid.x % grid.y),
                 static_cast<unsigned>(at / grid.x / grid.y)});
      reports = take_reports();
      if (!reports.empty()) break;
    }
  } catch (const Error& error) {
    reports = error.what();
  }
  block = nullptr;
  running = nullptr;
  current = nullptr;
  statistics().launches += 1;
  statistics().blocks += count;
  statistics().threads += count * one.threads.size();
  if (!reports.empty()) throw Error(reports);
}

// The arguments of a recorded launch: a copy, aligned as the kernel expects them.
class KeptArguments {
 public:
  explicit KeptArguments(const KernelCall& call)
      : alignment_{call.argument_alignment},
        bytes_(::operator new(call.argument_bytes, alignment_)) {
    std::memcpy(bytes_, call.arguments, call.argument_bytes);
  }
  ~KeptArguments() { ::operator delete(bytes_, alignment_); }
  KeptArguments(const KeptArguments&) = delete;
  KeptArguments& operator=(const KeptArguments&) = delete;
  const void* get() const { return bytes_; }

 private:
  std::align_val_t alignment_;
  void* bytes_;
};

cudaError_t launch_checked(const cudaLaunchConfig_t& config, const KernelCall& call) {
  Launch job{call, config.grid, config.block, config.dynamicSmemBytes};
  const dim3 g = job.grid, b = job.block;
  const uint64_t threads = uint64_t{b.x} * b.y * b.z;
  if (threads < 1 || threads > 1024 || b.z > 64) return cudaErrorInvalidConfiguration;
  if (g.x == 0 || g.y == 0 || g.z == 0 || g.x > 0x7fffffffu || g.y > 65535 || g.z > 65535)
    return cudaErrorInvalidConfiguration;
  const auto limit = shared_limits.find(call.kernel);
  const size_t allowed = limit == shared_limits.end()
                             ? kSharedWithoutAsking
                             : std::max(limit->second, kSharedWithoutAsking);
  if (job.shared_bytes > allowed) return cudaErrorInvalidValue;
  if (const cudaError_t error = may_enqueue(config.stream)) return error;
  const auto kept = [job, arguments = std::make_shared<KeptArguments>(call)]() mutable {
    job.call.arguments = arguments->get();
    run_grid(job);
  };
  if (is_capturing(config.stream))
    add_node(config.stream, cudaGraphNodeTypeKernel, kept);
  else
    do_or_put_off(config.stream, kept);
  return cudaSuccess;
}

}  // namespace

cudaError_t launch(const cudaLaunchConfig_t& config, const KernelCall& call) {
  if (current) fail("a kernel launches a kernel");
  const Turn turn(host_mutex());
  return remember(launch_checked(config, call));
}

uint3 thread_index() { return current->position; }
uint3 block_index() { return block->index; }
dim3 block_extent() { return running->block; }
dim3 grid_extent() { return running->grid; }
void* shared_memory() { return block->dynamic; }
long long clock_ticks() { return static_cast<long long>(current->clocks.own); }
void trap(Where where) { fail("__trap%s", at(where).c_str()); }

}  // namespace simt

cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value) {
  const simt::Turn turn(simt::host_mutex());
  if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaSuccess;
  if (value < 0 || static_cast<size_t>(value) > simt::kMostShared)
    return simt::remember(cudaErrorInvalidValue);
  simt::shared_limits[kernel] = static_cast<size_t>(value);
  return cudaSuccess;
}
