// Launches: a grid cluster by cluster, and what the host asks of the device.

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
  if (--thread.block->live == 0)
    for (auto& [key, extension] : thread.block->extensions) extension->at_exit();
  finish(thread.fiber);
}

void reset_thread(Thread& thread, Block& block, int index, int slot) {
  const dim3 extent = running->block;
  const auto linear = static_cast<unsigned>(index);
  prepare(thread.fiber, slot, enter_kernel);
  thread.block = &block;
  thread.position = {linear % extent.x, linear / extent.x % extent.y,
                     linear / (extent.x * extent.y)};
  thread.index = index;
  thread.id = slot;
  thread.state = State::ready;
  thread.clocks.own = 1;
  thread.clocks.detail = Knowledge::Detail::base;
  thread.born = make_epoch(block.cluster->generation, slot, 0);
  thread.proxy_fence = 0;
  thread.waits_on = nullptr;
  thread.waits_mask = 0;
  if (!thread.extensions.empty()) thread.extensions.clear();
}

void reset_block(Block& block, int rank, uint3 index) {
  const int threads = running->threads_per_block();
  block.cluster = cluster;
  block.rank = rank;
  block.index = index;
  block.live = threads;
  block.threads = std::span(cluster->threads)
                      .subspan(static_cast<size_t>(rank * threads), static_cast<size_t>(threads));
  for (Barrier& barrier : block.barriers) barrier = Barrier{};
  block.warps.assign(static_cast<size_t>(threads + kWarpThreads - 1) / kWarpThreads, {});
  block.warpgroups.assign(static_cast<size_t>(threads + kWarpgroupThreads - 1) / kWarpgroupThreads,
                          {});
  block.base.assign(cluster->threads.size(), 0);
  block.extensions.clear();
  block.static_memory.assign(space.static_bytes * (cluster->blocks.size() > 1),
                             static_cast<char>(0xff));
  const uintptr_t start = space.arena + static_cast<size_t>(rank) * kSharedStride;
  block.dynamic = reinterpret_cast<char*>(start);
#if defined(__SANITIZE_ADDRESS__)
  __asan_poison_memory_region(block.dynamic, kSharedStride);
  __asan_unpoison_memory_region(block.dynamic, running->shared_bytes);
#endif
  std::memset(block.dynamic, 0xff, running->shared_bytes);  // NaN
}

void run_cluster(Cluster& all, uint3 first) {
  all.generation = observer.generation = ++generations;
  all.ready.clear();
  all.landings.clear();
  all.barrier = Barrier{};
  all.order = GridOrder{};
  all.stopped = false;
  all.last_warp = -1;
  generator.seed(options().seed * 1000003 + first.x * 7919 + first.y * 104729 + first.z);
  draw_preemption();
  const dim3 extent = running->cluster;
  const int threads = running->threads_per_block();
  for (int rank = 0; rank < static_cast<int>(all.blocks.size()); ++rank) {
    const auto r = static_cast<unsigned>(rank);
    reset_block(all.blocks[static_cast<size_t>(rank)], rank,
                {first.x + r % extent.x, first.y + r / extent.x % extent.y,
                 first.z + r / (extent.x * extent.y)});
    for (int index = 0; index < threads; ++index) {
      const int slot = rank * threads + index;
      reset_thread(all.threads[static_cast<size_t>(slot)], all.blocks[static_cast<size_t>(rank)],
                   index, slot);
    }
  }
  run_threads();
}

// A step that visits all of `count` in an order that looks random.
uint64_t stride(uint64_t count) {
  if (options().schedule != Schedule::random) return 1;
  uint64_t step = (options().seed * 2654435761u) % count | 1;
  while (std::gcd(step, count) != 1) step += 2;
  return step;
}

void open_shared(size_t bytes, int ranks) {
  for (int rank = 0; rank < ranks; ++rank) {
    const uintptr_t start = space.arena + static_cast<size_t>(rank) * kSharedStride;
    for (size_t page = 0; page < kSharedStride >> kPageBits; ++page)
      space.pages[((start - space.arena) >> kPageBits) + page].end = 0;
    open_range(start, bytes, Space::shared);
  }
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
  static Cluster all;  // its vectors keep their memory from launch to launch
  const auto ranks = static_cast<int>(job.cluster.x * job.cluster.y * job.cluster.z);
  all.launch = &job;
  all.blocks.resize(static_cast<size_t>(ranks));
  all.threads.resize(static_cast<size_t>(ranks * job.threads_per_block()));
  make_address_space();
  follow_thread();
  const DeviceAccess access;
  const ProgramVariables kept;
  open_shared(job.shared_bytes, ranks);
  forget_releases();
  observer.first_generation = generations + 1;
  observer.launched = make_epoch(observer.first_generation, 0, 0);
  cluster = &all;
  running = &job;
  const dim3 clusters{job.grid.x / job.cluster.x, job.grid.y / job.cluster.y,
                      job.grid.z / job.cluster.z};
  const uint64_t count = uint64_t{clusters.x} * clusters.y * clusters.z, step = stride(count);
  std::string reports;
  try {
    for (uint64_t i = 0; i < count; ++i) {
      const uint64_t at = i * step % count;
      run_cluster(all, {static_cast<unsigned>(at % clusters.x) * job.cluster.x,
                        static_cast<unsigned>(at / clusters.x % clusters.y) * job.cluster.y,
                        static_cast<unsigned>(at / clusters.x / clusters.y) * job.cluster.z});
      reports = take_reports();
      if (!reports.empty()) break;
    }
  } catch (const Error& error) {
    reports = error.what();
  }
  cluster = nullptr;
  running = nullptr;
  current = nullptr;
  statistics().launches += 1;
  statistics().blocks += count * static_cast<uint64_t>(ranks);
  statistics().threads += count * all.threads.size();
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
  Launch job{call, config.grid, config.block, dim3(), config.dynamicSmemBytes, 0};
  for (unsigned i = 0; i < config.numAttrs; ++i)
    if (config.attrs[i].id == cudaLaunchAttributeClusterDimension) {
      const auto& d = config.attrs[i].val.clusterDim;
      job.cluster = dim3(d.x, d.y, d.z);
    }
  const dim3 g = job.grid, b = job.block, c = job.cluster;
  const uint64_t threads = uint64_t{b.x} * b.y * b.z, ranks = uint64_t{c.x} * c.y * c.z;
  if (threads < 1 || threads > 1024 || b.z > 64) return cudaErrorInvalidConfiguration;
  if (ranks < 1 || ranks > kMostRanks) return cudaErrorInvalidConfiguration;
  if (g.x == 0 || g.y == 0 || g.z == 0 || g.x > 0x7fffffffu || g.y > 65535 || g.z > 65535)
    return cudaErrorInvalidConfiguration;
  if (g.x % c.x || g.y % c.y || g.z % c.z) return cudaErrorInvalidConfiguration;
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
uint3 block_index() { return current->block->index; }
dim3 block_extent() { return running->block; }
dim3 grid_extent() { return running->grid; }
void* shared_memory() { return current->block->dynamic; }
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
