// Addresses that a kernel must not touch, and values that nothing wrote.

#include "tests/simt/self_test/cases.h"
#include "tests/simt/self_test/device.h"

namespace simt::self_test {

namespace {

__global__ void write_past_end(int* out) { out[threadIdx.x] = 1; }  // past end
__global__ void read_before_start(const int* in, int* out) {
  out[threadIdx.x] = in[static_cast<int>(threadIdx.x) - 1];  // before start
}
__global__ void write_anywhere(int* out) {
  if (threadIdx.x == 0) out[1 << 20] = 1;  // wild
}
__global__ void write_host(int* out) {
  if (threadIdx.x == 0) *out = 1;  // host
}
__global__ void shared_past_end(int* out) {
  int* words = moat::kernels::shared_memory<int>();
  words[threadIdx.x] = 1;  // shared past end
  out[threadIdx.x] = words[threadIdx.x];
}
__global__ void read_unwritten(const int* in, int* out) {
  out[threadIdx.x] = in[threadIdx.x];  // unwritten device
}
__global__ void read_unwritten_shared(int* out) {
  __shared__ int words[64];
  if (threadIdx.x != 5) words[threadIdx.x] = 1;
  __syncthreads();
  out[threadIdx.x] = words[threadIdx.x];  // unwritten shared
}
__global__ void read_unwritten_dynamic(int* out) {
  out[threadIdx.x] = moat::kernels::shared_memory<int>()[threadIdx.x];  // unwritten dynamic
}
__global__ void shared_of_the_last_block(int* out) {
  __shared__ int words[64];
  if (blockIdx.x == 0) words[threadIdx.x] = 1;
  __syncthreads();
  if (blockIdx.x == 1) out[threadIdx.x] = words[threadIdx.x];  // last block
}
__global__ void misaligned_vector(const int* in, int* out) {
  const int4 v = *reinterpret_cast<const int4*>(in + threadIdx.x);  // misaligned
  out[threadIdx.x] = v.x + v.y + v.z + v.w;
}
__global__ void misaligned_half_vector(const int* in, int* out) {
  const int2 v = *reinterpret_cast<const int2*>(in + 2 * threadIdx.x + 1);  // misaligned 8
  out[threadIdx.x] = v.x;
}
__global__ void misaligned_store(int* out) {
  if (threadIdx.x == 1)
    *reinterpret_cast<float4*>(out + 1) = make_float4(0, 1, 2, 3);  // misaligned store
}
__global__ void unwritten_counter(int* out) { atomicAdd(out, 1); }  // unwritten counter
__global__ void foreign_local(int* out) {
  __shared__ const int* pointer;
  int own[4] = {1, 2, 3, static_cast<int>(threadIdx.x)};
  if (threadIdx.x == 0) pointer = own;
  __syncthreads();
  out[threadIdx.x] = pointer[threadIdx.x % 4] + own[threadIdx.x % 3];  // foreign local
  __syncthreads();
}
__global__ void local_array(int* out) {
  int own[4] = {1, 2, 3, 4};
  own[threadIdx.x % 4] = 5;
  out[threadIdx.x] = own[threadIdx.x / 13];  // local array
}
__global__ void static_shared_array(int* out) {
  __shared__ int words[60];
  words[threadIdx.x] = 1;  // static shared array
  out[threadIdx.x] = words[threadIdx.x];
}
__global__ void write_program(int* out) {
  static int counter;
  if (threadIdx.x == 0) out[0] = ++counter;  // program
}
__global__ void does_trap(int* out) {
  if (out[threadIdx.x] == 5) __trap();  // trap
}

void run_past_end() {
  const Ints out(63);
  run(1, 64, write_past_end, out);
}
void run_before_start() {
  const Ints in(64), out(64);
  run(1, 64, read_before_start, in, out);
}
void run_freed() {
  int* freed;
  {
    const Ints gone(64);
    freed = gone;
  }
  run(1, 64, write_past_end, freed);
}
void run_host() {
  static int host;
  run(1, 64, write_host, &host);
}
void run_heap() {
  std::vector<int> host(1);
  run(1, 64, write_host, host.data());
}
void run_unwritten() {
  const Ints in(64, false), out(64);
  run(1, 64, read_unwritten, in, out);
}
void run_unwritten_part() {
  const Ints in(64, false), out(64);
  cudaMemsetAsync(in, 0, 63 * sizeof(int));
  run(1, 64, read_unwritten, in, out);
}
void run_poisoned() {
  const Ints in(64), out(64);
  cudaMemset(in, 0xff, 64 * sizeof(int));
  run(1, 64, read_unwritten, in, out);
}
void run_unwritten_counter() {
  const Ints out(1, false);
  run(1, 64, unwritten_counter, out);
}
template <void (*kKernel)(int*)>
void run_plain() {
  const Ints out(64);
  run(1, 64, kKernel, out);
}
template <void (*kKernel)(const int*, int*)>
void run_misaligned() {
  const Ints in(256), out(64);
  run(1, 64, kKernel, in, out);
}
void run_two_blocks() {
  const Ints out(64);
  run(2, 64, shared_of_the_last_block, out);
}
template <void (*kKernel)(int*), int kInts>
void run_dynamic() {
  const Ints out(64);
  moat::kernels::launch({}, {1, 64, kInts * sizeof(int)}, kKernel, out);
}

}  // namespace

const std::vector<Fault>& memory_faults() {
  static const std::vector<Fault> all{
      {"write past the end",
       run_past_end,
       {"out of bounds", "write_past_end", "writes 4 bytes", "line past end",
        "0 bytes past the end of an allocation of 252 bytes", "thread (63,0,0) of block (0,0,0)"}},
      {"read before the start",
       run_before_start,
       {"out of bounds", "reads 4 bytes", "line before start", "4 bytes before an allocation"}},
      {"write far away",
       run_plain<write_anywhere>,
       {"out of bounds", "line wild", "which is no device memory"}},
      {"write to a variable of the host", run_host, {"out of bounds", "line host"}},
      {"write to the host's heap", run_heap, {"out of bounds", "line host"}},
      {"use after free",
       run_freed,
       {"out of bounds", "line past end", "of freed memory (256 bytes)"}},
      {"dynamic shared memory past its end",
       run_dynamic<shared_past_end, 63>,
       {"out of bounds", "line shared past end",
        "byte 252 of the 252 of dynamic shared memory, past its end"}},
      {"memory that nothing wrote",
       run_unwritten,
       {"uninitialised", "line unwritten device", "of an allocation of 256 bytes"}},
      {"the one word that nothing wrote",
       run_unwritten_part,
       {"uninitialised", "line unwritten device", "byte 252 of an allocation of 256 bytes",
        "thread (63,0,0)"}},
      {"memory that the test poisoned", run_poisoned, {"uninitialised", "line unwritten device"}},
      {"a counter that nothing set",
       run_unwritten_counter,
       {"uninitialised", "line unwritten counter"}},
      {"shared memory that nothing wrote",
       run_plain<read_unwritten_shared>,
       {"uninitialised", "line unwritten shared", "thread (5,0,0)", "static shared memory"}},
      {"dynamic shared memory that nothing wrote",
       run_dynamic<read_unwritten_dynamic, 64>,
       {"uninitialised", "line unwritten dynamic", "dynamic shared memory"}},
      {"shared memory of an earlier block",
       run_two_blocks,
       {"uninitialised", "line last block", "block (1,0,0)"}},
      {"misaligned 16 bytes",
       run_misaligned<misaligned_vector>,
       {"misaligned", "int4", "multiple of 16", "line misaligned"}},
      {"misaligned 8 bytes",
       run_misaligned<misaligned_half_vector>,
       {"misaligned", "int2", "multiple of 8", "line misaligned 8"}},
      {"misaligned store",
       run_plain<misaligned_store>,
       {"misaligned", "float4", "multiple of 16", "line misaligned store"}},
      {"local memory of another thread",
       run_plain<foreign_local>,
       {"out of bounds", "line foreign local", "local memory of thread (0,0,0)"}},
      {"an index past a local array",
       run_plain<local_array>,
       {"out of bounds: index 4 of an array of type 'int [4]'", "line local array"}},
      {"an index past a shared array",
       run_plain<static_shared_array>,
       {"out of bounds: index 6", "of an array of type 'int [60]'", "line static shared array"}},
      {"a variable of the program", run_plain<write_program>, {"out of bounds", "line program"}},
      {"__trap", run_plain<does_trap>, {"__trap", "line trap", "thread (5,0,0)"}},
  };
  return all;
}

}  // namespace simt::self_test
