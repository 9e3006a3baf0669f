#include "kernels/c_api/call.h"

#include <algorithm>
#include <exception>
#include <limits>
#include <new>

#include "kernels/cuda/cuda_device.h"

namespace moat::kernels::c_api {

namespace {

static_assert(MOAT_LAUNCH_FAILED == static_cast<int>(Status::launch_failed));

thread_local std::string last_error;

// Where a tensor without data is said to lie: nullptr would mean that there is none.
alignas(256) const char kNothing = 0;

std::string name_of(DLDevice device) {
  const std::string index = ":" + std::to_string(device.device_id);
  if (device.device_type == kDLCPU) return "cpu" + index;
  if (device.device_type == kDLCUDA) return "cuda" + index;
  return "DLPack device type " + std::to_string(device.device_type) + index;
}

std::string name_of(DLDataType type) {
  constexpr const char* codes[] = {"int", "uint", "float", "handle", "bfloat", "complex"};
  return (type.code < std::size(codes) ? codes[type.code]
                                       : "DLPack type " + std::to_string(type.code) + " of ") +
         std::to_string(type.bits) + (type.lanes == 1 ? "" : "x" + std::to_string(type.lanes));
}

DLDataType type_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::f64:
      return {kDLFloat, 64, 1};
    case Dtype::f32:
      return {kDLFloat, 32, 1};
    case Dtype::bf16:
      return {kDLBfloat, 16, 1};
    case Dtype::i32:
      return {kDLInt, 32, 1};
    case Dtype::i64:
      return {kDLInt, 64, 1};
    case Dtype::u8:
      return {kDLUInt, 8, 1};
  }
  return {};
}

bool is(DLDataType type, Dtype dtype) {
  const DLDataType other = type_of(dtype);
  return type.code == other.code && type.bits == other.bits && type.lanes == other.lanes;
}

template <class Values>
std::string list(const Values& values) {
  std::string out = "[";
  for (const auto& value : values) out += (out.size() == 1 ? "" : ", ") + value;
  return out + "]";
}

std::string shape_of(const DLTensor& t, const int64_t* extents) {
  std::vector<std::string> values;
  for (int i = 0; i < t.ndim; ++i) values.push_back(std::to_string(extents[i]));
  return list(values);
}

std::string shape_of(Extents shape) {
  std::vector<std::string> values;
  for (const Extent& extent : shape) {
    const int64_t value = extent.variable ? *extent.variable : extent.value;
    values.push_back(extent.name + (value == kUnknown ? "" : " = " + std::to_string(value)));
  }
  return list(values);
}

// Elements, after the checks that make the number and its bytes representable.
int64_t elements_of(const std::string& name, const DLTensor& t) {
  constexpr int kHighestRank = 16;  // more is not a shape, and not to be read
  if (t.ndim < 0 || t.ndim > kHighestRank || (t.ndim > 0 && !t.shape))
    refuse(name + " must have a shape, got ndim = " + std::to_string(t.ndim) +
           (t.shape ? "" : " and shape = NULL"));
  const std::string shape = shape_of(t, t.shape);
  int64_t count = 1;
  for (int i = 0; i < t.ndim; ++i) {
    if (t.shape[i] < 0) refuse(name + " must not have a negative extent, got " + shape);
    if (t.shape[i] > std::numeric_limits<int32_t>::max())
      refuse(name + ": extents must be at most 2147483647, got " + shape);
    if (t.shape[i] > 0 && count > std::numeric_limits<int64_t>::max() / 16 / t.shape[i])
      refuse(name + " is larger than the address space: " + shape);
    count *= t.shape[i];
  }
  return count;
}

bool is_compact(const DLTensor& t, int64_t elements) {
  if (!t.strides || elements == 0) return true;
  int64_t stride = 1;
  for (int i = t.ndim - 1; i >= 0; --i) {
    if (t.shape[i] != 1 && t.strides[i] != stride) return false;
    stride *= t.shape[i];
  }
  return true;
}

// Whether the tensor has this shape; unknown extents become known.
bool fits(const DLTensor& t, Extents shape) {
  if (t.ndim != static_cast<int>(shape.size())) return false;
  const int64_t* given = t.shape;
  for (const Extent& extent : shape) {
    const int64_t value = *given++;
    if (extent.variable && *extent.variable == kUnknown) continue;
    if (value != (extent.variable ? *extent.variable : extent.value)) return false;
  }
  given = t.shape;
  for (const Extent& extent : shape) {
    if (extent.variable) *extent.variable = static_cast<int>(*given);
    ++given;
  }
  return true;
}

// Launches go to the current device, whatever the tensors' is.
void require_current(DLDevice device) {
  if constexpr (kCudaBuilt) {
    const int current = current_cuda_device();
    if (current < 0) refuse("there is no usable GPU for " + name_of(device), Status::unsupported);
    if (current != device.device_id)
      refuse("target.device must be the current one, cuda:" + std::to_string(current) + ", got " +
             name_of(device));
  }
}

}  // namespace

void refuse(std::string message, Status status) { throw Refusal{status, std::move(message)}; }

Call::Call(const moat_target* on, Wanted wanted) : wanted_(wanted) {
  if (!on) refuse("target must not be NULL");
  on_ = *on;
  const int device = on_.device.device_type;
  if (device != kDLCPU && device != kDLCUDA)
    refuse("target.device must be a CPU (kDLCPU) or CUDA (kDLCUDA), got " + name_of(on_.device));
  if (device == kDLCUDA && !kCudaBuilt)
    refuse("target.device is " + name_of(on_.device) + ", and this build has no CUDA",
           Status::unsupported);
  if (!is_cpu()) require_current(on_.device);
  if (is_cpu() && on_.stream) refuse("target.stream must be NULL on a CPU");
  ranges_.reserve(32);
}

Dtype Call::real(const char* name, const DLTensor* tensor) const {
  if (!tensor) refuse(std::string(name) + " must not be NULL");
  for (Dtype dtype : {Dtype::f32, Dtype::bf16, Dtype::f64})
    if (is(tensor->dtype, dtype)) return dtype;
  refuse(std::string(name) + " must be float32, bfloat16 or float64, got " +
         name_of(tensor->dtype));
}

uintptr_t Call::checked(const char* name_, const DLTensor* tensor, Dtype dtype, Extents shape,
                        bool is_written) {
  const std::string name = name_;
  const DLTensor& t = *tensor;
  const DLDevice device = t.device;
  if (device.device_type != on_.device.device_type || device.device_id != on_.device.device_id)
    refuse(name + " must be on " + name_of(on_.device) + " as the target is, got " +
           name_of(device));
  const int64_t elements = elements_of(name, t);
  if (!is(t.dtype, dtype) || !fits(t, shape))
    refuse(name + " must be " + name_of(type_of(dtype)) + " " + shape_of(shape) + ", got " +
           name_of(t.dtype) + " " + shape_of(t, t.shape));
  if (!is_compact(t, elements))
    refuse(name + " must be contiguous, got shape " + shape_of(t, t.shape) + " with strides " +
           shape_of(t, t.strides));
  if (elements == 0) return reinterpret_cast<uintptr_t>(&kNothing);
  const size_t bytes = static_cast<size_t>(elements) * size_of(dtype);
  if (!t.data && wanted_ == Wanted::result) refuse(name + ".data must not be NULL");
  const auto data = reinterpret_cast<uintptr_t>(t.data ? t.data : &kNothing);
  constexpr uintptr_t kHighest = std::numeric_limits<uintptr_t>::max();
  if (t.byte_offset > kHighest - data || bytes > kHighest - data - t.byte_offset)
    refuse(name + ".byte_offset must stay in the address space, got " +
           std::to_string(t.byte_offset));
  const uintptr_t begin = data + t.byte_offset;
  if (begin % size_of(dtype) != 0)
    refuse(name + " must start at a multiple of " + std::to_string(size_of(dtype)) +
           " bytes, got address " + std::to_string(data) + " + byte_offset " +
           std::to_string(t.byte_offset));
  ranges_.push_back({name_, begin, begin + bytes, is_written});
  return begin;
}

const void* Call::in(const char* name, const DLTensor* tensor, Dtype dtype, Extents shape,
                     Absent absent) {
  if (!tensor && absent == Absent::allowed) return nullptr;
  if (!tensor) refuse(std::string(name) + " must not be NULL");
  return reinterpret_cast<const void*>(checked(name, tensor, dtype, shape, false));
}

void* Call::out(const char* name, DLTensor* tensor, Dtype dtype, Extents shape, Absent absent) {
  if (!tensor && absent == Absent::allowed) return nullptr;
  if (!tensor) refuse(std::string(name) + " must not be NULL");
  return reinterpret_cast<void*>(checked(name, tensor, dtype, shape, true));
}

const int32_t* Call::indices(const char* name, const DLTensor* tensor, Extents shape,
                             Absent absent) {
  return static_cast<const int32_t*>(in(name, tensor, Dtype::i32, shape, absent));
}

int32_t* Call::indices_out(const char* name, DLTensor* tensor, Extents shape) {
  return static_cast<int32_t*>(out(name, tensor, Dtype::i32, shape));
}

void Call::require_workspace(size_t bytes) {
  const std::string needed = std::to_string(bytes) + " bytes";
  if (on_.workspace_bytes < bytes)
    refuse("target.workspace must have at least " + needed + ", got " +
               std::to_string(on_.workspace_bytes),
           Status::small_workspace);
  if (bytes == 0) return;
  const size_t alignment = is_cpu() ? 64 : 256;
  const auto begin = reinterpret_cast<uintptr_t>(on_.workspace);
  if (begin == 0) refuse("target.workspace must not be NULL: " + needed + " are needed");
  if (begin % alignment != 0)
    refuse("target.workspace must be aligned to " + std::to_string(alignment) +
           " bytes, got address " + std::to_string(begin));
  ranges_.push_back({"target.workspace", begin, begin + bytes, true});
}

void Call::refuse_overlaps() const {
  const auto is_in_place = [&](const Range& a, const Range& b) {
    return a.name == in_place_[0] && b.name == in_place_[1] && a.begin == b.begin && a.end == b.end;
  };
  for (size_t i = 0; i < ranges_.size(); ++i)
    for (size_t j = 0; j < i; ++j) {
      const Range &a = ranges_[i], &b = ranges_[j];
      if (a.begin >= b.end || b.begin >= a.end || !(a.is_written || b.is_written)) continue;
      if (is_in_place(a, b) || is_in_place(b, a)) continue;
      refuse(std::string(a.name) + " must not overlap " + b.name);
    }
}

void Call::require(Status status, std::string_view indices_hold) {
  switch (status) {
    case Status::ok:
      return;
    case Status::bad_args:
      refuse(indices_hold.empty() ? "the kernel refused its arguments" : std::string(indices_hold));
    case Status::unsupported:
      refuse("this device or build cannot run it in this size or number format", status);
    case Status::small_workspace:
      refuse("the kernel wants a larger workspace", status);
    case Status::library_failed:
      refuse("a library that the kernel calls returned an error", status);
    case Status::launch_failed:
      refuse("the launch of a CUDA kernel failed", status);
  }
}

moat_status answer_with(const char* function, void (*run)(const void*), const void* body) {
  const auto failed = [&](Status status, const char* message) {
    try {
      last_error = std::string(function) + ": " + message;
    } catch (const std::bad_alloc&) {
      last_error.clear();  // no memory even for the message
    }
    return static_cast<moat_status>(status);
  };
  try {
    run(body);
    last_error.clear();
    return MOAT_OK;
  } catch (const Refusal& refusal) {
    return failed(refusal.status, refusal.message.c_str());
  } catch (const std::bad_alloc&) {
    return failed(Status::library_failed, "out of memory");
  } catch (const std::exception& error) {
    return failed(Status::library_failed, error.what());
  }
}

}  // namespace moat::kernels::c_api

using namespace moat::kernels;

const char* moat_last_error(void) { return c_api::last_error.c_str(); }

moat_status moat_context_create(moat_context** context) {
  return c_api::answer("moat_context_create", [&] {
    if (!context) c_api::refuse("context must not be NULL");
    *context = new moat_context;
  });
}

void moat_context_destroy(moat_context* context) { delete context; }
