#pragma once

// What stands in for a CUDA library works on copies of device memory on the host: it may touch no
// byte outside the values it names, and what it gives back counts as written.

#include <type_traits>
#include <vector>

#include "kernels/cuda.cuh"
#include "kernels/target.h"

namespace moat::tests {

// Values on the device as float32 (float64 for float64), in which the CPU's kernels run on any
// processor. Empty for nullptr.
template <class C>
std::vector<C> fetched(const void* from, int64_t count, kernels::Dtype dtype);

// Rounds values to `dtype` and writes them to the device.
template <class C>
void deliver(const std::vector<C>& values, void* to, kernels::Dtype dtype);

// A library may leave anything in its workspace.
void scribble(void* workspace, size_t bytes);

// The CPU with a workspace that is aligned within `memory`, 64 bytes larger than asked for.
kernels::Cpu on_cpu(kernels::Context& context, std::vector<char>& memory);

// Throws simt::Error where a kernel of the CPU fails.
void require_ok(kernels::Status status);

}  // namespace moat::tests
