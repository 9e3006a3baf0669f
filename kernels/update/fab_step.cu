#include "kernels/update/fab_step.h"

#include <cmath>
#include <limits>

#include "kernels/cuda.cuh"
#include "kernels/cuda/warp.cuh"

// The arithmetic of fab_step.cpp, in float64. A block per image, whose passes after the first one
// read it from L1 or L2: 12 bytes of float32 are read and 4 written per pixel. Sums are in the
// order of the block's threads, so that nothing depends on the batch.

namespace moat::kernels {

namespace {

constexpr int kThreads = 256;

struct Move {
  double side, lambda, norm;
};

template <class T>
struct Image {
  const T *x, *center, *gradient;
  int64_t pixels;
  bool is_linf;
  double* scratch;  // shared, a value per warp

  __device__ double usable(T g) const {
    constexpr double kLargest = std::numeric_limits<float>::max();
    const double size = fabs(double{g});
    return size >= (is_linf ? 0 : kFlatGradient) ? copysign(fmin(size, kLargest), g) : 0;
  }

  __device__ double wanted(double lambda, double w) const {
    return is_linf ? lambda : lambda * fabs(w);
  }
  __device__ static double room(double v, double w) { return w > 0 ? v : 1 - v; }

  __device__ double moved(double v, const Move& m, double overshoot, int64_t i) const {
    const double w = m.side * usable(gradient[i]);
    if (w == 0) return v;
    const double size = fmin(wanted(m.lambda, w), room(v, w));
    return v - overshoot * (w > 0 ? size : -size);
  }

  // Of the whole block; every thread gets the result.
  template <class Op>
  __device__ double reduce(double value, Op op) const {
    return block_reduce<kThreads>(value, op, scratch);
  }

  __device__ Move onto_plane(const T* v, double excess) const {
    Move m{.side = excess < 0 ? -1.0 : 1.0, .lambda = 0, .norm = 0};
    for (double open_before = -1;;) {
      double taken = 0, slope = 0, open = 0, norm = 0;
      for (int64_t i = threadIdx.x; i < pixels; i += kThreads) {
        const double w = m.side * usable(gradient[i]);
        if (w == 0) continue;
        const double want = wanted(m.lambda, w), has = room(v[i], w), size = fmin(want, has);
        if (want < has) {
          slope += is_linf ? fabs(w) : w * w;
          open += 1;
        } else {
          taken += fabs(w) * has;
        }
        norm = is_linf ? fmax(norm, size) : norm + size * size;
      }
      open = reduce(open, Sum());
      if (open == open_before) {
        m.norm = is_linf ? reduce(norm, Largest()) : sqrt(reduce(norm, Sum()));
        return m;
      }
      taken = reduce(taken, Sum());
      slope = reduce(slope, Sum());
      m.lambda = slope > 0 ? fmax(m.lambda, (fabs(excess) - taken) / slope) : INFINITY;
      open_before = open;
    }
  }
};

template <class T>
__global__ void __launch_bounds__(kThreads) fab_step_kernel(FabStep a) {
  __shared__ double scratch[kThreads / kWarp];
  const int64_t first = int64_t{blockIdx.x} * a.pixels;
  const Image<T> image{.x = static_cast<const T*>(a.x) + first,
                       .center = static_cast<const T*>(a.center) + first,
                       .gradient = static_cast<const T*>(a.gradient) + first,
                       .pixels = a.pixels,
                       .is_linf = a.norm == Norm::linf,
                       .scratch = scratch};
  const double d = static_cast<const T*>(a.difference)[blockIdx.x], difference = d != d ? 0 : d;
  double between = 0;  // <gradient, center - x>
  for (int64_t i = threadIdx.x; i < a.pixels; i += kThreads)
    between += image.usable(image.gradient[i]) * (double{image.center[i]} - image.x[i]);
  between = image.reduce(between, Sum());
  const Move from_x = image.onto_plane(image.x, difference),
             back = image.onto_plane(image.center, difference + between);
  const double near = fmax(from_x.norm, kSmallestMove), far = fmax(back.norm, kSmallestMove),
               alpha = fmin(near / (near + far), a.pull);
  T* y = static_cast<T*>(a.y) + first;
  for (int64_t i = threadIdx.x; i < a.pixels; i += kThreads) {
    const double mixed = (1 - alpha) * image.moved(image.x[i], from_x, a.overshoot, i) +
                         alpha * image.moved(image.center[i], back, a.overshoot, i);
    y[i] = static_cast<T>(fmin(fmax(mixed, 0.0), 1.0));
  }
}

template <class T>
Status step_images(Cuda on, const FabStep& a) {
  return launch(on, {dim3(static_cast<unsigned>(a.images)), dim3(kThreads)}, fab_step_kernel<T>, a);
}

}  // namespace

Status fab_step(Cuda on, const FabStep& a) {
  if (a.images < 0 || a.pixels < 0 || !(a.pull >= 0 && a.pull <= 1) ||
      !(a.overshoot >= 0 && std::isfinite(a.overshoot)))
    return Status::bad_args;
  switch (a.dtype) {
    case Dtype::f64:
      return step_images<double>(on, a);
    case Dtype::f32:
      return step_images<float>(on, a);
    default:
      return Status::unsupported;
  }
}

}  // namespace moat::kernels
