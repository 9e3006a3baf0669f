#include "engine/tensor.h"

#include <algorithm>

#include "engine/dispatch.h"
#include "engine/graph.h"
#include "kernels/basic/copy.h"

namespace moat::engine {

const char* name_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::f64:
      return "float64";
    case Dtype::f32:
      return "float32";
    case Dtype::bf16:
      return "bfloat16";
    case Dtype::i32:
      return "int32";
    case Dtype::i64:
      return "int64";
    case Dtype::u8:
      return "uint8";
  }
  return "unknown";
}

bool is_floating(Dtype dtype) {
  return dtype == Dtype::f64 || dtype == Dtype::f32 || dtype == Dtype::bf16;
}

Tensor Tensor::empty(const Shape& shape, Dtype dtype, Device device) {
  auto bytes = static_cast<int64_t>(kernels::size_of(dtype));
  for (int64_t extent : shape) {
    require(extent >= 0,
            [&] { return text("a tensor's extents must not be negative, got ", shape.str()); });
    const bool is_beyond = __builtin_mul_overflow(bytes, std::max<int64_t>(extent, 1), &bytes);
    require(!is_beyond, [&] {
      return text("a tensor must have less than 2^63 bytes, got ", name_of(dtype), " ",
                  shape.str());
    });
  }
  Tensor t;
  t.shape_ = shape;
  t.strides_ = shape.contiguous_strides();
  t.dtype_ = dtype;
  t.device_ = device;
  t.storage_ = std::make_shared<Storage>(t.nbytes(), device);
  return t;
}

Tensor Tensor::zeros(const Shape& shape, Dtype dtype, Device device) {
  return full(shape, 0, dtype, device);
}

Tensor Tensor::full(const Shape& shape, double value, Dtype dtype, Device device) {
  Tensor t = empty(shape, dtype, device);
  t.fill(value);
  return t;
}

int64_t Tensor::dim(int axis) const {
  const int i = axis < 0 ? axis + rank() : axis;
  require(i >= 0 && i < rank(),
          [&] { return text("axis ", axis, " must exist in a tensor of shape ", shape_.str()); });
  return shape_[i];
}

void* Tensor::data() const {
  if (!storage_) return nullptr;
  return static_cast<char*>(storage_->data()) + offset_ * int64_t(kernels::size_of(dtype_));
}

void Tensor::require_defined(const char* what) const {
  require(defined(), [&] { return text(what, ": the tensor must be defined, it has no bytes"); });
}

double Tensor::item() const {
  require_defined("item()");
  require(size() == 1, [&] { return text("item() needs one element, shape is ", shape_.str()); });
  return to(Device{}).to(Dtype::f64).data_as<double>()[0];
}

bool Tensor::is_contiguous() const {
  int64_t run = 1;
  for (int i = rank() - 1; i >= 0; --i) {
    if (shape_[i] != 1 && strides_[i] != run) return size() == 0;
    run *= shape_[i];
  }
  return true;
}

Tensor Tensor::contiguous() const { return is_contiguous() ? *this : clone().as_variable(var_); }

Tensor Tensor::reshaped(const Shape& shape) const {
  require(is_contiguous(), "reshaped: the tensor must be contiguous; call contiguous() first");
  Shape to = shape;
  int64_t known = 1;
  int open = -1;
  for (int i = 0; i < to.rank(); ++i) {
    require(to[i] >= 0 || (to[i] == -1 && open < 0), [&] {
      return text("reshape: extents must not be negative but for one that is -1, got ",
                  shape.str());
    });
    if (to[i] == -1)
      open = i;
    else
      known *= to[i];
  }
  if (open >= 0) to[open] = known ? size() / known : 0;
  require(to.count() == size(),
          [&] { return text("reshape: ", shape_.str(), " does not fit into ", shape.str()); });
  Tensor t = *this;
  t.shape_ = to;
  t.strides_ = to.contiguous_strides();
  return t;
}

Tensor Tensor::permuted(const Shape& axes) const {
  require(axes.rank() == rank(),
          [&] { return text("permute: need ", rank(), " axes, got ", axes.str()); });
  Tensor t = *this;
  unsigned seen = 0;
  for (int i = 0; i < rank(); ++i) {
    const int from = to_int(axes[i]);
    require(from < rank() && !(seen & (1u << from)),
            [&] { return text("permute: axes must be a permutation, got ", axes.str()); });
    seen |= 1u << from;
    t.shape_[i] = shape_[from];
    t.strides_[i] = strides_[from];
  }
  return t;
}

Tensor Tensor::sliced(int axis, int64_t from, int64_t to) const {
  const int i = axis < 0 ? axis + rank() : axis;
  require(0 <= from && from <= to && to <= dim(axis), [&] {
    return text("slice: [", from, ", ", to, ") must lie inside axis ", axis, " of ", shape_.str());
  });
  Tensor t = *this;
  t.offset_ += from * strides_[i];
  t.shape_[i] = to - from;
  return t;
}

Tensor Tensor::expanded(const Shape& shape) const {
  require(broadcast(shape_, shape) == shape,
          [&] { return text("expand: ", shape_.str(), " does not broadcast to ", shape.str()); });
  Tensor t = *this;
  t.shape_ = shape;
  t.strides_ = Shape::of_rank(shape.rank(), 0);
  for (int i = 0; i < rank(); ++i) {
    const int to = shape.rank() - rank() + i;
    t.strides_[to] = shape_[i] == shape[to] ? strides_[i] : 0;
  }
  return t;
}

Tensor Tensor::clone() const {
  if (!defined()) return {};
  Tensor t = empty(shape_, dtype_, device_);
  t.copy_from(*this);
  return t;
}

Tensor Tensor::to(Dtype dtype) const {
  if (dtype == dtype_ || !defined()) return *this;
  Tensor t = empty(shape_, dtype, device_);
  t.copy_from(*this);
  return t;
}

Tensor Tensor::to(Device device) const {
  if (device == device_ || !defined()) return *this;
  const Device gpu = device.is_cpu() ? device_ : device;
  require(kCudaBuilt, "this build has no CUDA: use --device cpu");
  require_not_recording(gpu, "Tensor::to");
  const Tensor from = contiguous(), t = empty(shape_, dtype_, device);
  if constexpr (kCudaBuilt) {
    cuda::copy(gpu.index, t.data(), from.data(), nbytes());
    if (device.is_cpu()) cuda::synchronize(gpu.index);
  }
  return t;
}

void Tensor::copy_from(const Tensor& source) const {
  require_defined("copy_from");
  source.require_defined("copy_from");
  require(source.shape() == shape_, [&] {
    return text("copy_from: shapes must be equal, got ", source.shape().str(), " into ",
                shape_.str());
  });
  if (source.device() != device_) return copy_from(source.to(device_));
  dispatch(device_, [&](auto on) {
    return kernels::copy(on, {.from = source.data(),
                              .to = data(),
                              .extents = shape_.padded(1),
                              .from_strides = source.strides().padded(0),
                              .to_strides = strides_.padded(0),
                              .from_dtype = source.dtype(),
                              .to_dtype = dtype_});
  });
  mark_written();
}

void Tensor::fill(double value) const {
  require_defined("fill");
  require(is_contiguous(), "fill: the tensor must be contiguous");
  dispatch(device_, [&](auto on) { return kernels::fill(on, {data(), size(), value, dtype_}); });
  mark_written();
}

Device common_device(std::initializer_list<std::reference_wrapper<const Tensor>> operands,
                     Where where) {
  const Tensor* first = nullptr;
  for (const Tensor& operand : operands) {
    if (!operand.defined()) continue;
    if (!first) first = &operand;
    require(
        operand.device() == first->device(),
        [&] {
          return text("operands must share one device, got ", name_of(first->device()), " and ",
                      name_of(operand.device()), ": move them with Tensor::to");
        },
        where);
  }
  return first ? first->device() : Device{};
}

Tensor Tensor::as_variable(VarId var) const {
  Tensor t = *this;
  t.var_ = var;
  return t;
}

}  // namespace moat::engine
