#pragma once

// Where a kernel runs and in which number format. Every kernel is a pair of overloads,
//   Status x(Cpu, const X&)    in x.cpp
//   Status x(Cuda, const X&)   in x.cu
// over one plain args struct X. Kernels never allocate, throw, print or keep state: scratch memory
// comes through the target, library handles and plan caches live in the Context it carries.

#include <cstddef>
#include <cstdint>

#include "kernels/bf16.h"

struct CUstream_st;  // cudaStream_t without the CUDA headers

namespace moat::kernels {

enum class Dtype : uint8_t { f64, f32, bf16, i32, i64, u8 };

constexpr size_t size_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::f64:
    case Dtype::i64:
      return 8;
    case Dtype::f32:
    case Dtype::i32:
      return 4;
    case Dtype::bf16:
      return 2;
    case Dtype::u8:
      return 1;
  }
  return 0;
}

enum class Status : int {
  ok = 0,
  bad_args = 1,         // an extent, index or flag is outside the contract
  unsupported = 2,      // legal, but this target or machine cannot do it
  small_workspace = 3,  // the target's workspace is smaller than x_workspace() says
  library_failed = 4,   // oneDNN or a CUDA library returned an error
  launch_failed = 5,    // the CUDA launch itself failed
};

// How CUDA multiplies float32 values on tensor cores, which take 11 significant bits. float32: as
// sums of two such parts, three products for one, with float32's accuracy (an infinite operand may
// come out as NaN). tf32: rounded to one part. The CPU, bfloat16 and float64 multiply exactly.
enum class Precision { float32, tf32 };

class Context;  // kernels/library/context.h: library handles and primitive caches, owned by the
                // caller

struct Cpu {
  Context* context = nullptr;
  void* workspace = nullptr;  // 64-byte aligned
  size_t workspace_bytes = 0;
};

struct Cuda {
  Context* context = nullptr;
  CUstream_st* stream = nullptr;
  void* workspace = nullptr;  // 256-byte aligned device memory
  size_t workspace_bytes = 0;
};

// Calls f.operator()<T>() with the C++ type of a floating dtype.
template <class F>
Status with_float(Dtype dtype, F&& f) {
  switch (dtype) {
    case Dtype::f64:
      return f.template operator()<double>();
    case Dtype::f32:
      return f.template operator()<float>();
    case Dtype::bf16:
      return f.template operator()<Bf16>();
    default:
      return Status::unsupported;
  }
}

// What a kernel computes in for a stored type: sums of float32 and bf16 values run in float32.
template <class T>
struct Compute {
  using type = T;
};
template <>
struct Compute<Bf16> {
  using type = float;
};
template <class T>
using compute_t = typename Compute<T>::type;

}  // namespace moat::kernels
