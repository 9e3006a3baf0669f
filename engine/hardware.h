#pragma once

#include <cstdint>
#include <string>

#include "engine/device.h"
#include "engine/tensor.h"

namespace moat::engine {

// Number format of products and convolutions; sums, statistics, losses and weights stay float32.
enum class Precision { fp32, tf32, bf16 };

// "cpu", "cuda", "cuda:<i>" or "auto" (a GPU where there is a usable one). Throws UsageError for
// another text, Error for a device this build cannot use.
Device parse_device(const std::string& text);

// "fp32", "tf32" or "bf16"; throws UsageError for another text.
Precision parse_precision(const std::string& text);
const char* name_of(Precision precision);
Dtype activation_dtype(Precision precision);  // f32 or bf16

// The calling thread's products on the device follow it (bf16 is up to the activations). Throws a
// one-line Error when the device cannot compute in this format.
void use_precision(Precision precision, Device device);

// Waits until the GPU has done what the engine asked of it; nothing on a CPU.
void synchronize(Device device);

int gpu_count();           // that this build and machine can use
std::string why_no_gpu();  // when there are none, in the driver's words

// Sets the number of OpenMP threads, which oneDNN shares; 0: all cores (or OMP_NUM_THREADS).
// Returns the number in use. Throws UsageError beyond four threads per core.
int set_threads(int count);
int threads();
int cores();  // that this process may run on

int64_t memory_bytes();  // of this machine

}  // namespace moat::engine
