#include "kernels/vision/conv2d.h"

#include <algorithm>
#include <cstring>

#include "kernels/library/onednn.h"
#include "kernels/parallel.h"
#include "kernels/vision/conv2d_direct.h"
#include "kernels/vision/conv2d_library.h"
#include "kernels/vision/conv2d_products.h"

namespace moat::kernels {

namespace {

bool is_valid(const Conv2dGeometry& g, int n) {
  return n >= 0 && g.height > 0 && g.width > 0 && g.c_in > 0 && g.c_out > 0 && g.r > 0 && g.s > 0 &&
         g.stride > 0 && g.padding >= 0 && g.height + 2 * g.padding >= g.r &&
         g.width + 2 * g.padding >= g.s;
}

template <class Body>
Status for_each(int64_t n, Body&& body) {
  parallel_for(n, 1, [&](int64_t from, int64_t to) {
    for (int64_t i = from; i < to; ++i) body(i);
  });
  return Status::ok;
}

// Products want long rows: filters of one tap and thin layers are no faster, or slower, that way.
constexpr int kFewestChannels = 32;

// oneDNN 2.6 gives wrong borders where the padding reaches beyond the filter.
bool library_is_right(const Conv2dGeometry& g) { return g.padding < std::min(g.r, g.s); }

ConvAlgorithm algorithm(Cpu on, const Conv2dGeometry& g) {
  if (g.dtype != Dtype::f32) return ConvAlgorithm::library;
  if (!library_is_right(g)) return ConvAlgorithm::products;
  return g.r * g.s > 1 && g.c_in >= kFewestChannels ? on.context->conv_algorithm()
                                                    : ConvAlgorithm::library;
}

// A size, 0 where there is none to ask for: float64, and where the call itself will report why not.
template <class Size>
size_t size_or_zero(Cpu on, const Conv2dGeometry& g, int n, Size&& size) {
  if (g.dtype == Dtype::f64 || !is_valid(g, n) || !supports(on, g.dtype) || !on.context) return 0;
  size_t bytes = 0;
  guarded([&] {
    bytes = size();
    return Status::ok;
  });
  return bytes;
}

template <class Args>
size_t workspace(Cpu on, const Args& a, int n) {
  return size_or_zero(on, a.geometry, n, [&] {
    return algorithm(on, a.geometry) == ConvAlgorithm::products ? products::workspace(on, a)
                                                                : library::workspace(on, a);
  });
}

// float32 and bfloat16.
template <class Args>
Status run(Cpu on, const Args& a, int n) {
  if (!supports(on, a.geometry.dtype)) return Status::unsupported;
  if (a.geometry.dtype == Dtype::bf16 && !library_is_right(a.geometry)) return Status::unsupported;
  if (!on.context) return Status::bad_args;
  return guarded([&] {
    if (on.workspace_bytes < workspace(on, a, n)) return Status::small_workspace;
    if (algorithm(on, a.geometry) == ConvAlgorithm::products)
      products::run(on, a);
    else
      library::run(on, a);
    return Status::ok;
  });
}

}  // namespace

size_t conv2d_workspace(Cpu on, const Conv2d& a) { return workspace(on, a, a.n); }

Status conv2d(Cpu on, const Conv2d& a) {
  if (!is_valid(a.geometry, a.n)) return Status::bad_args;
  if (a.n == 0) return Status::ok;
  if (a.geometry.dtype != Dtype::f64) return run(on, a, a.n);
  if (a.form != FilterForm::krsc) return Status::bad_args;
  return for_each(a.n, [&](int64_t i) { forward_image<double>(a, i); });
}

size_t conv2d_input_grad_workspace(Cpu on, const Conv2dInputGrad& a) {
  return workspace(on, a, a.n);
}

Status conv2d_input_grad(Cpu on, const Conv2dInputGrad& a) {
  if (!is_valid(a.geometry, a.n)) return Status::bad_args;
  if (a.n == 0) return Status::ok;
  if (a.geometry.dtype != Dtype::f64) return run(on, a, a.n);
  if (a.form != FilterForm::krsc) return Status::bad_args;
  return for_each(a.n, [&](int64_t i) { input_grad_image<double>(a, i); });
}

size_t conv2d_weight_grad_workspace(Cpu on, const Conv2dWeightGrad& a) {
  return workspace(on, a, a.n);
}

Status conv2d_weight_grad(Cpu on, const Conv2dWeightGrad& a) {
  const Conv2dGeometry& g = a.geometry;
  if (!is_valid(g, a.n)) return Status::bad_args;
  if (a.n == 0) {
    std::memset(a.d_filter, 0, static_cast<size_t>(g.filter_size()) * size_of(g.filter_dtype()));
    return Status::ok;
  }
  if (g.dtype != Dtype::f64) return run(on, a, a.n);
  return for_each(g.c_out, [&](int64_t o) { weight_grad_channel<double>(a, int(o)); });
}

size_t conv2d_packed_bytes(Cpu on, const Conv2dGeometry& g, FilterUse use) {
  return size_or_zero(on, g, 0, [&] {
    return algorithm(on, g) == ConvAlgorithm::products ? products::packed_bytes(on, g, use)
                                                       : library::packed_bytes(on, g, use);
  });
}

size_t conv2d_pack_workspace(Cpu on, const Conv2dPack& a) { return workspace(on, a, 0); }

Status conv2d_pack(Cpu on, const Conv2dPack& a) {
  if (!is_valid(a.geometry, 0)) return Status::bad_args;
  return a.geometry.dtype == Dtype::f64 ? Status::ok : run(on, a, 0);
}

}  // namespace moat::kernels
