#pragma once

// One call of the C API: reads the target and the tensors, refuses what is outside the contract
// before anything runs, and then runs the kernel where the tensors are.

#include <array>
#include <cstring>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/c_api.h"
#include "kernels/library/context.h"
#include "kernels/target.h"

struct moat_context {
  moat::kernels::Context kernels;
};

namespace moat::kernels::c_api {

#ifdef MOAT_KERNELS_CUDA
inline constexpr bool kCudaBuilt = true;
#else
inline constexpr bool kCudaBuilt = false;
#endif

// Ends a call with this status and message; caught at the boundary, by answer().
struct Refusal {
  Status status;
  std::string message;
};
[[noreturn]] void refuse(std::string message, Status status = Status::bad_args);

// One extent of a shape that a tensor must have: a value, or a variable that takes the extent of
// the first tensor that has it (while it is kUnknown) and binds the others to it.
inline constexpr int kUnknown = -1;
struct Extent {
  Extent(const char* name_, int& bound) : name(name_), variable(&bound) {}
  Extent(const char* name_, const int& fixed) : name(name_), value(fixed) {}
  Extent(const char* name_, int64_t fixed) : name(name_), value(fixed) {}
  const char* name;
  int* variable = nullptr;
  int64_t value = 0;
};
using Extents = std::initializer_list<Extent>;

enum class Absent { refused, allowed };
enum class Wanted { result, workspace };  // x(), or x_workspace(), whose tensors may have no data

class Call {
 public:
  explicit Call(const moat_target* on, Wanted wanted = Wanted::result);

  // The number format of a tensor that takes several.
  Dtype real(const char* name, const DLTensor* tensor) const;
  // The address of a tensor's first element, once everything about it holds; nullptr when the
  // tensor is NULL and may be.
  const void* in(const char* name, const DLTensor* tensor, Dtype dtype, Extents shape,
                 Absent absent = Absent::refused);
  void* out(const char* name, DLTensor* tensor, Dtype dtype, Extents shape,
            Absent absent = Absent::refused);
  // As above, of indices.
  const int32_t* indices(const char* name, const DLTensor* tensor, Extents shape,
                         Absent absent = Absent::refused);
  int32_t* indices_out(const char* name, DLTensor* tensor, Extents shape);
  // Allows a result to be another tensor of the call, all of it.
  void may_be(const char* result, const char* other) { in_place_ = {result, other}; }

  // kernel(target) on the tensors' device. `indices_hold` says what a kernel that answers bad_args
  // has found out about the contents of tensors.
  template <class Kernel>
  void run(Kernel&& kernel, std::string_view indices_hold = {}) const {
    refuse_overlaps();
    require(dispatch(kernel), indices_hold);
  }
  // Refuses a target whose scratch memory is not workspace(target) bytes.
  template <class Workspace>
  void takes_workspace(Workspace&& workspace) {
    require_workspace(dispatch(workspace));
  }
  // x_workspace(): writes workspace(target) to `bytes`.
  template <class Workspace>
  void tell(Workspace&& workspace, size_t* bytes) const {
    if (!bytes) refuse("bytes must not be NULL");
    *bytes = dispatch(workspace);
  }

 private:
  struct Range {
    const char* name = nullptr;
    uintptr_t begin = 0, end = 0;
    bool is_written = false;
  };

  bool is_cpu() const { return on_.device.device_type == kDLCPU; }
  uintptr_t checked(const char* name, const DLTensor* tensor, Dtype dtype, Extents shape,
                    bool is_written);
  void refuse_overlaps() const;
  void require_workspace(size_t bytes);
  static void require(Status status, std::string_view indices_hold);

  template <class Function>
  auto dispatch(Function&& function) const {
    Context* context = on_.context ? &on_.context->kernels : nullptr;
    if constexpr (kCudaBuilt) {
      if (!is_cpu())
        return function(Cuda{context, static_cast<CUstream_st*>(on_.stream), on_.workspace,
                             on_.workspace_bytes});
    }
    return function(Cpu{context, on_.workspace, on_.workspace_bytes});
  }

  moat_target on_;
  Wanted wanted_;
  std::vector<Range> ranges_;
  std::array<std::string_view, 2> in_place_;
};

// Runs `body` for the function of this name, and makes its status and moat_last_error() of what it
// throws.
moat_status answer_with(const char* function, void (*run)(const void*), const void* body);
template <class Body>
moat_status answer(const char* function, const Body& body) {
  return answer_with(
      function, [](const void* b) { (*static_cast<const Body*>(b))(); }, &body);
}

// The struct of arguments, which must be there.
template <class Args>
const Args& given(const Args* args) {
  if (!args) refuse("args must not be NULL");
  return *args;
}

// The value of a C enum, which any integer may be: it is not read as an enum before it is known to
// be one.
template <class To, class From>
To option(const char* name, const From& value, int count) {
  int number;
  static_assert(sizeof number == sizeof value);
  std::memcpy(&number, &value, sizeof number);
  if (number < 0 || number >= count)
    refuse(std::string(name) + " must be in [0, " + std::to_string(count) + "), got " +
           std::to_string(number));
  return static_cast<To>(number);
}

// What weights, biases and gradients of filters are: float32 for bfloat16.
constexpr Dtype wide(Dtype dtype) { return dtype == Dtype::bf16 ? Dtype::f32 : dtype; }

}  // namespace moat::kernels::c_api
