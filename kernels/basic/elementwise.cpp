#include "kernels/basic/elementwise.h"

#include <algorithm>

#include "kernels/basic/axes.h"
#include "kernels/basic/elementwise_functions.h"
#include "kernels/parallel.h"

namespace moat::kernels {

namespace {

constexpr int64_t kGrain = 16384;  // elements a thread takes at least

template <class T, class F>
Status map(const Unary& a, F f) {
  using C = compute_t<T>;
  const auto* x = static_cast<const T*>(a.x);
  auto* y = static_cast<T*>(a.y);
  parallel_for(a.count, kGrain, [=](int64_t from, int64_t to) {
    for (int64_t i = from; i < to; ++i) y[i] = static_cast<T>(f(static_cast<C>(x[i])));
  });
  return Status::ok;
}

// d_x = f(d_y, saved).
template <class T, class F>
Status map_grad(const UnaryGrad& a, F f) {
  using C = compute_t<T>;
  const auto* d_y = static_cast<const T*>(a.d_y);
  const auto* saved = static_cast<const T*>(saved_by(a.op) == Saved::nothing ? a.d_y : a.saved);
  auto* d_x = static_cast<T*>(a.d_x);
  parallel_for(a.count, kGrain, [=](int64_t from, int64_t to) {
    for (int64_t i = from; i < to; ++i)
      d_x[i] = static_cast<T>(f(static_cast<C>(d_y[i]), static_cast<C>(saved[i])));
  });
  return Status::ok;
}

// One run of the innermost axis. The three common stride pairs vectorise.
template <class T, class F>
void zip(const T* a, int64_t a_stride, const T* b, int64_t b_stride, T* y, int64_t count, F f) {
  using C = compute_t<T>;
  if (a_stride == 1 && b_stride == 1) {
    for (int64_t i = 0; i < count; ++i) y[i] = T(f(C(a[i]), C(b[i])));
  } else if (a_stride == 1 && b_stride == 0) {
    const C v = C(b[0]);
    for (int64_t i = 0; i < count; ++i) y[i] = T(f(C(a[i]), v));
  } else if (a_stride == 0 && b_stride == 1) {
    const C v = C(a[0]);
    for (int64_t i = 0; i < count; ++i) y[i] = T(f(v, C(b[i])));
  } else {
    for (int64_t i = 0; i < count; ++i) y[i] = T(f(C(a[i * a_stride]), C(b[i * b_stride])));
  }
}

template <class T, class F>
Status zip_all(const Binary& args, const Axes& axes, F f) {
  parallel_for(axes.count, kGrain, [&](int64_t from, int64_t to) {
    const auto rank = static_cast<size_t>(axes.rank);
    std::array<int64_t, 6> index{};
    const auto* a = static_cast<const T*>(args.a);
    const auto* b = static_cast<const T*>(args.b);
    int64_t rest = from;
    for (size_t i = 0; i < rank; ++i) {
      index[i] = rest % axes.extents[i];
      rest /= axes.extents[i];
      a += index[i] * axes.a_strides[i];
      b += index[i] * axes.b_strides[i];
    }
    for (int64_t at = from; at < to;) {
      const int64_t run = std::min(axes.extents[0] - index[0], to - at);
      zip(a, axes.a_strides[0], b, axes.b_strides[0], static_cast<T*>(args.y) + at, run, f);
      at += run;
      index[0] += run;
      a += run * axes.a_strides[0];
      b += run * axes.b_strides[0];
      for (size_t i = 0; i + 1 < rank && index[i] == axes.extents[i]; ++i) {  // carry
        a += axes.a_strides[i + 1] - index[i] * axes.a_strides[i];
        b += axes.b_strides[i + 1] - index[i] * axes.b_strides[i];
        index[i] = 0;
        ++index[i + 1];
      }
    }
  });
  return Status::ok;
}

}  // namespace

Status unary(Cpu, const Unary& args) {
  if (args.count < 0) return Status::bad_args;
  return with_float(args.dtype, [&]<class T>() {
    using C = compute_t<T>;
    const C p = static_cast<C>(args.p), q = static_cast<C>(args.q);
    return with_op(args.op, [&]<UnaryOp kOp>() {
      return map<T>(args, [=](C x) { return unary_value<kOp>(x, p, q); });
    });
  });
}

Status unary_grad(Cpu, const UnaryGrad& args) {
  if (args.count < 0) return Status::bad_args;
  return with_float(args.dtype, [&]<class T>() {
    using C = compute_t<T>;
    const C p = static_cast<C>(args.p), q = static_cast<C>(args.q);
    return with_op(args.op, [&]<UnaryOp kOp>() {
      return map_grad<T>(args, [=](C d, C saved) { return unary_slope<kOp>(d, saved, p, q); });
    });
  });
}

Status binary(Cpu, const Binary& args) {
  for (int64_t extent : args.extents)
    if (extent < 0) return Status::bad_args;
  const Axes axes = merged_axes(args.extents, args.a_strides, args.b_strides);
  if (axes.count == 0) return Status::ok;
  return with_float(args.dtype, [&]<class T>() {
    using C = compute_t<T>;
    return with_op(args.op, [&]<BinaryOp kOp>() {
      return zip_all<T>(args, axes, [](C a, C b) { return binary_value<kOp>(a, b); });
    });
  });
}

}  // namespace moat::kernels
