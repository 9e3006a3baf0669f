#include "kernels/update/sgd.h"

#include "kernels/parallel.h"

namespace moat::kernels {

namespace {

constexpr int64_t kGrain = 16384;

template <class T>
void step(const Sgd& a) {
  T* w = static_cast<T*>(a.weights);
  const T* d_w = static_cast<const T*>(a.gradients);
  T* v = static_cast<T*>(a.velocity);
  const T lr = static_cast<T>(a.lr_factor ? a.lr * *a.lr_factor : a.lr),
          momentum = static_cast<T>(a.momentum), decay = static_cast<T>(a.weight_decay);
  const uint8_t* decayed = a.decayed;
  parallel_for(a.count, kGrain, [=](int64_t from, int64_t to) {
    const auto decay_of = [&](int64_t i) { return decayed && !decayed[i] ? T(0) : decay; };
    if (!v) {
      for (int64_t i = from; i < to; ++i) w[i] -= lr * (d_w[i] + decay_of(i) * w[i]);
      return;
    }
    for (int64_t i = from; i < to; ++i) {
      v[i] = momentum * v[i] + (d_w[i] + decay_of(i) * w[i]);
      w[i] -= lr * v[i];
    }
  });
}

}  // namespace

Status sgd(Cpu, const Sgd& a) {
  if (a.count < 0 || (!a.velocity && a.momentum != 0 && a.count > 0)) return Status::bad_args;
  if (a.skip && *a.skip != 0) return Status::ok;
  switch (a.dtype) {
    case Dtype::f64:
      step<double>(a);
      return Status::ok;
    case Dtype::f32:
      step<float>(a);
      return Status::ok;
    default:
      return Status::unsupported;
  }
}

}  // namespace moat::kernels
