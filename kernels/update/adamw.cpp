#include "kernels/update/adamw.h"

#include <cmath>

#include "kernels/parallel.h"

namespace moat::kernels {

namespace {

constexpr int64_t kGrain = 8192;

template <class T>
void step(const Adamw& a) {
  T *w = static_cast<T*>(a.weights), *m = static_cast<T*>(a.first_moment),
    *v = static_cast<T*>(a.second_moment);
  const T* d_w = static_cast<const T*>(a.gradients);
  const double rate = a.lr_factor ? a.lr * *a.lr_factor : a.lr;
  const T kept = static_cast<T>(1 - rate * a.weight_decay),
          length = static_cast<T>(rate / (1 - a.powers[0])),
          root = static_cast<T>(std::sqrt(1 - a.powers[1])), eps = static_cast<T>(a.eps),
          share = static_cast<T>(1 - a.beta1), beta2 = static_cast<T>(a.beta2),
          square_share = static_cast<T>(1 - a.beta2);
  const uint8_t* decayed = a.decayed;
  parallel_for(a.count, kGrain, [=](int64_t from, int64_t to) {
    for (int64_t i = from; i < to; ++i) {
      const T g = d_w[i];
      m[i] += share * (g - m[i]);
      v[i] = beta2 * v[i] + square_share * g * g;
      w[i] = (decayed && !decayed[i] ? T(1) : kept) * w[i] -
             length * (m[i] / (std::sqrt(v[i]) / root + eps));
    }
  });
}

}  // namespace

Status adamw(Cpu, const Adamw& a) {
  if (a.count < 0) return Status::bad_args;
  if (a.dtype != Dtype::f32 && a.dtype != Dtype::f64) return Status::unsupported;
  if (a.skip && *a.skip != 0) return Status::ok;
  a.powers[0] *= a.beta1;
  a.powers[1] *= a.beta2;
  if (a.dtype == Dtype::f64)
    step<double>(a);
  else
    step<float>(a);
  return Status::ok;
}

}  // namespace moat::kernels
