#pragma once

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <vector>

#include "engine/device.h"
#include "engine/error.h"
#include "engine/memory.h"
#include "engine/shape.h"
#include "kernels/target.h"

namespace moat::engine {

using kernels::Dtype;
using VarId = uint64_t;

const char* name_of(Dtype dtype);  // "float32", …
bool is_floating(Dtype dtype);
// What weights, statistics and sums are kept in beside floating values of `dtype`: float32 beside
// bfloat16, else the same.
constexpr Dtype master_of(Dtype dtype) { return dtype == Dtype::bf16 ? Dtype::f32 : dtype; }

template <class T>
constexpr Dtype dtype_of();
template <>
constexpr Dtype dtype_of<double>() {
  return Dtype::f64;
}
template <>
constexpr Dtype dtype_of<float>() {
  return Dtype::f32;
}
template <>
constexpr Dtype dtype_of<kernels::Bf16>() {
  return Dtype::bf16;
}
template <>
constexpr Dtype dtype_of<int32_t>() {
  return Dtype::i32;
}
template <>
constexpr Dtype dtype_of<int64_t>() {
  return Dtype::i64;
}
template <>
constexpr Dtype dtype_of<uint8_t>() {
  return Dtype::u8;
}

// A value: copying shares the bytes. Copying bytes is spelled clone() or to(). Images are NHWC,
// filters KRSC. Views (reshaped, permuted, sliced) are not recorded on a tape; the differentiable
// forms are in engine/ops/shape.h. What reads or writes values (to_vector, item, copy_from, fill)
// throws for an undefined tensor; the copies and views of one are undefined as well.
class Tensor {
 public:
  Tensor() = default;  // undefined
  // Throws for a negative extent, for 2^63 bytes and more, and when the device has no such memory.
  static Tensor empty(const Shape& shape, Dtype dtype = Dtype::f32, Device device = {});
  static Tensor zeros(const Shape& shape, Dtype dtype = Dtype::f32, Device device = {});
  static Tensor full(const Shape& shape, double value, Dtype dtype = Dtype::f32,
                     Device device = {});
  // Copies host values; their number must be shape.count().
  template <class T>
  static Tensor from(const std::vector<T>& values, const Shape& shape, Device device = {});
  static Tensor scalar(double value, Dtype dtype = Dtype::f32) { return full({}, value, dtype); }

  bool defined() const { return storage_ != nullptr; }
  const Shape& shape() const { return shape_; }
  const Shape& strides() const { return strides_; }
  int rank() const { return shape_.rank(); }
  int64_t dim(int axis) const;  // negative axes count from the back
  int64_t size() const { return shape_.count(); }
  size_t nbytes() const { return static_cast<size_t>(size()) * kernels::size_of(dtype_); }
  Dtype dtype() const { return dtype_; }
  Device device() const { return device_; }

  void* data() const;  // first element; nullptr when undefined
  template <class T>
  T* data_as() const {
    require(dtype_ == dtype_of<T>(), [&] {
      return text("tensor must hold ", name_of(dtype_of<T>()), ", it holds ", name_of(dtype_));
    });
    return static_cast<T*>(data());
  }
  template <class T>
  std::vector<T> to_vector() const;  // contiguous host copy
  double item() const;               // the value of a one-element tensor

  bool is_contiguous() const;
  Tensor contiguous() const;  // itself when contiguous, else a copy

  // Views of the same bytes.
  Tensor reshaped(const Shape& shape) const;  // one extent may be -1; contiguous tensors only
  Tensor permuted(const Shape& axes) const;
  Tensor sliced(int axis, int64_t from, int64_t to) const;
  Tensor expanded(const Shape& shape) const;  // broadcast axes get stride 0

  Tensor clone() const;
  Tensor to(Dtype dtype) const;                // itself when it already is
  Tensor to(Device device) const;              // to the CPU: waits for the results
  void copy_from(const Tensor& source) const;  // same shape; converts dtype and device
  void fill(double value) const;

  // Which content the bytes hold (Storage::version); 0 when undefined.
  uint64_t version() const { return storage_ ? storage_->version() : 0; }
  void mark_written() const {
    if (storage_) storage_->mark_written();
  }

  // The tape's side: 0 marks a constant.
  VarId var() const { return var_; }
  Tensor as_variable(VarId var) const;
  Tensor detached() const { return as_variable(0); }

 private:
  void require_defined(const char* what) const;

  std::shared_ptr<Storage> storage_;
  Shape shape_, strides_;
  int64_t offset_ = 0;  // elements
  Dtype dtype_ = Dtype::f32;
  Device device_;
  VarId var_ = 0;
};

using Tensors = std::vector<Tensor>;

// Where an op of several operands runs: the device of all of them; undefined ones have none. Throws
// when they differ.
Device common_device(std::initializer_list<std::reference_wrapper<const Tensor>> operands,
                     Where where = Where::here());

template <class T>
Tensor Tensor::from(const std::vector<T>& values, const Shape& shape, Device device) {
  require(static_cast<int64_t>(values.size()) == shape.count(), [&] {
    return text("Tensor::from: ", shape.str(), " needs ", shape.count(), " values, got ",
                values.size());
  });
  Tensor t = empty(shape, dtype_of<T>());
  std::copy(values.begin(), values.end(), t.data_as<T>());
  return t.to(device);
}

template <class T>
std::vector<T> Tensor::to_vector() const {
  require_defined("to_vector");
  const Tensor t = to(Device{}).contiguous();
  const T* p = t.data_as<T>();
  return std::vector<T>(p, p + t.size());
}

}  // namespace moat::engine
