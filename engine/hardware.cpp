#include "engine/hardware.h"

#include <omp.h>
#include <unistd.h>

#include <charconv>

#include "engine/cuda/runtime.h"
#include "engine/dispatch.h"
#include "kernels/library/context.h"

namespace moat::engine {

Device parse_device(const std::string& given) {
  if (given == "cpu") return {};
  if (given == "auto") return gpu_count() > 0 ? Device{Device::cuda, 0} : Device{};
  int8_t index = 0;
  bool known = given == "cuda";
  if (given.starts_with("cuda:")) {
    const char *begin = given.data() + 5, *end = given.data() + given.size();
    const auto [stop, error] = std::from_chars(begin, end, index);
    known = error == std::errc() && stop == end && index >= 0;
  }
  if (!known) throw UsageError("device must be cpu, cuda, cuda:<i> or auto, got '" + given + "'");
  require(kCudaBuilt, "built without CUDA: use --device cpu, or build the preset cuda");
  require(gpu_count() > 0,
          [&] { return text("no usable GPU: ", why_no_gpu(), "; use --device cpu"); });
  require(index < gpu_count(), [&] {
    return text("this machine has ", gpu_count(), " usable GPU", gpu_count() == 1 ? "" : "s",
                ", numbered from cuda:0, got cuda:", int{index});
  });
  return {Device::cuda, index};
}

int gpu_count() {
  if constexpr (kCudaBuilt) return cuda::device_count();
  return 0;
}

std::string why_no_gpu() {
  if constexpr (kCudaBuilt) return cuda::why_no_device();
  return "built without CUDA";
}

Precision parse_precision(const std::string& given) {
  for (Precision precision : {Precision::fp32, Precision::tf32, Precision::bf16})
    if (given == name_of(precision)) return precision;
  throw UsageError("precision must be fp32, tf32 or bf16, got '" + given + "'");
}

const char* name_of(Precision precision) {
  switch (precision) {
    case Precision::fp32:
      return "fp32";
    case Precision::tf32:
      return "tf32";
    case Precision::bf16:
      return "bf16";
  }
  return "unknown";
}

Dtype activation_dtype(Precision precision) {
  return precision == Precision::bf16 ? Dtype::bf16 : Dtype::f32;
}

void use_precision(Precision precision, Device device) {
  if (!device.is_cpu()) {
    context(device).set_precision(precision == Precision::tf32 ? kernels::Precision::tf32
                                                               : kernels::Precision::float32);
    return;
  }
  require(precision != Precision::tf32,
          "tf32 needs an NVIDIA GPU of sm_80 or later; use --precision fp32");
  require(precision != Precision::bf16 || kernels::supports(kernels::Cpu{}, Dtype::bf16),
          "bf16 needs a CPU with AVX-512 (oneDNN has no bfloat16 products below it); use "
          "--precision fp32");
}

void synchronize(Device device) {
  if constexpr (kCudaBuilt)
    if (!device.is_cpu()) cuda::synchronize(device.index);
}

int cores() { return omp_get_num_procs(); }
int threads() { return omp_get_max_threads(); }

int set_threads(int count) {
  static const int by_default = omp_get_max_threads();
  const int most = 4 * cores();
  if (count < 0 || count > most)
    throw UsageError(
        text("threads must be from 1 to ", most, " (four per core of ", cores(), "), got ", count));
  omp_set_num_threads(count == 0 ? by_default : count);
  return threads();
}

int64_t memory_bytes() {
  return static_cast<int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGE_SIZE);
}

}  // namespace moat::engine
