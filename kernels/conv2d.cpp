#include "kernels/conv2d.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "kernels/conv2d_direct.h"
#include "kernels/conv2d_library.h"
#include "kernels/parallel.h"

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

// The legal formats on this target; `direct` is for float64.
template <class Direct, class Library>
Status choose(Cpu on, const Conv2dGeometry& g, FilterForm form, Direct&& direct,
              Library&& library) {
  if (g.dtype == Dtype::f64) return form == FilterForm::krsc ? direct() : Status::bad_args;
  if (!supports(on, g.dtype)) return Status::unsupported;
  if (!on.context) return Status::bad_args;
  return guarded([&] { return library(ConvPlan::of(on, g)); });
}

// body(first image, images) over [0, n).
template <class Body>
void for_each_chunk(int n, Body&& body) {
  for (int first = 0; first < n;) {
    const int images =
        std::min(kLargestChunk, static_cast<int>(std::bit_floor(static_cast<unsigned>(n - first))));
    body(first, images);
    first += images;
  }
}

// Bytes of the largest scratch that planned(images) wants over the chunks of n.
template <class Plan>
size_t scratch_bytes(int n, Plan&& planned) {
  size_t most = 0;
  for_each_chunk(n, [&](int, int images) {
    most = std::max(most, in_lines(planned(images).scratch_bytes()));
  });
  return most;
}

// A workspace size: that of the library, 0 where the call itself will report why there is none.
template <class Size>
size_t library_workspace(Cpu on, const Conv2dGeometry& g, int n, Size&& size) {
  if (g.dtype == Dtype::f64 || !is_valid(g, n) || !supports(on, g.dtype) || !on.context) return 0;
  size_t bytes = 0;
  guarded([&] {
    bytes = size(ConvPlan::of(on, g));
    return Status::ok;
  });
  return bytes;
}

size_t filter_bytes(ConvPlan& plan, FilterForm form, FilterUse use) {
  if (form == FilterForm::packed) return 0;
  return in_lines(plan.packed_bytes(use)) + in_lines(plan.pack(use).scratch_bytes());
}

// Cuts the workspace into pieces.
class Pieces {
 public:
  explicit Pieces(Cpu on) : next_(static_cast<char*>(on.workspace)) {}
  char* take(size_t bytes) {
    char* piece = next_;
    next_ += in_lines(bytes);
    return piece;
  }

 private:
  char* next_;
};

// The packed filter: the caller's, or packed here.
const void* packed_filter(ConvPlan& plan, FilterForm form, FilterUse use, const void* filter,
                          Pieces& pieces) {
  if (form == FilterForm::packed) return filter;
  char* packed = pieces.take(plan.packed_bytes(use));
  Planned& pack = plan.pack(use);
  pack.run(plan.stream(), {filter, packed}, pieces.take(pack.scratch_bytes()));
  return packed;
}

const char* image(const void* images, int i, int64_t size, Dtype dtype) {
  return static_cast<const char*>(images) + i * size * static_cast<int64_t>(size_of(dtype));
}

void add_into(float* sum, const float* term, int64_t count) {
  parallel_for(count, 16384, [&](int64_t from, int64_t to) {
    for (int64_t i = from; i < to; ++i) sum[i] += term[i];
  });
}

}  // namespace

size_t conv2d_workspace(Cpu on, const Conv2d& a) {
  return library_workspace(on, a.geometry, a.n, [&](ConvPlan& plan) {
    return filter_bytes(plan, a.form, FilterUse::forward) +
           scratch_bytes(a.n, [&](int images) -> Planned& { return plan.forward(images, a); });
  });
}

Status conv2d(Cpu on, const Conv2d& a) {
  const Conv2dGeometry& g = a.geometry;
  if (!is_valid(g, a.n)) return Status::bad_args;
  if (a.n == 0) return Status::ok;
  const auto direct = [&] {
    return for_each(a.n, [&](int64_t i) { forward_image<double>(a, i); });
  };
  return choose(on, g, a.form, direct, [&](ConvPlan& plan) {
    if (on.workspace_bytes < conv2d_workspace(on, a)) return Status::small_workspace;
    Pieces pieces(on);
    const void* filter = packed_filter(plan, a.form, FilterUse::forward, a.filter, pieces);
    char* scratch = pieces.take(0);
    for_each_chunk(a.n, [&](int first, int images) {
      const void* residual = a.residual ? image(a.residual, first, g.y_size(), g.dtype) : nullptr;
      plan.forward(images, a).run(plan.stream(),
                                  {image(a.x, first, g.x_size(), g.dtype), filter,
                                   image(a.y, first, g.y_size(), g.dtype), a.bias, residual},
                                  scratch);
    });
    return Status::ok;
  });
}

size_t conv2d_input_grad_workspace(Cpu on, const Conv2dInputGrad& a) {
  return library_workspace(on, a.geometry, a.n, [&](ConvPlan& plan) {
    return filter_bytes(plan, a.form, FilterUse::input_grad) +
           scratch_bytes(a.n, [&](int images) -> Planned& { return plan.input_grad(images); });
  });
}

Status conv2d_input_grad(Cpu on, const Conv2dInputGrad& a) {
  const Conv2dGeometry& g = a.geometry;
  if (!is_valid(g, a.n)) return Status::bad_args;
  if (a.n == 0) return Status::ok;
  const auto direct = [&] {
    return for_each(a.n, [&](int64_t i) { input_grad_image<double>(a, i); });
  };
  return choose(on, g, a.form, direct, [&](ConvPlan& plan) {
    if (on.workspace_bytes < conv2d_input_grad_workspace(on, a)) return Status::small_workspace;
    Pieces pieces(on);
    const void* filter = packed_filter(plan, a.form, FilterUse::input_grad, a.filter, pieces);
    char* scratch = pieces.take(0);
    for_each_chunk(a.n, [&](int first, int images) {
      plan.input_grad(images).run(plan.stream(),
                                  {image(a.d_y, first, g.y_size(), g.dtype), filter,
                                   image(a.d_x, first, g.x_size(), g.dtype)},
                                  scratch);
    });
    return Status::ok;
  });
}

size_t conv2d_weight_grad_workspace(Cpu on, const Conv2dWeightGrad& a) {
  return library_workspace(on, a.geometry, a.n, [&](ConvPlan& plan) {
    const size_t sums = std::has_single_bit(static_cast<unsigned>(a.n)) && a.n <= kLargestChunk
                            ? 1
                            : 2;  // the running sum and the chunk to add
    return sums * in_lines(plan.laid_out_grad_bytes()) +
           std::max(in_lines(plan.unpack_grad().scratch_bytes()),
                    scratch_bytes(
                        a.n, [&](int images) -> Planned& { return plan.weight_grad(images); }));
  });
}

Status conv2d_weight_grad(Cpu on, const Conv2dWeightGrad& a) {
  const Conv2dGeometry& g = a.geometry;
  if (!is_valid(g, a.n)) return Status::bad_args;
  if (a.n == 0) {
    std::memset(a.d_filter, 0, static_cast<size_t>(g.filter_size()) * size_of(g.filter_dtype()));
    return Status::ok;
  }
  const auto direct = [&] {
    return for_each(g.c_out, [&](int64_t o) { weight_grad_channel<double>(a, int(o)); });
  };
  return choose(on, g, FilterForm::krsc, direct, [&](ConvPlan& plan) {
    if (on.workspace_bytes < conv2d_weight_grad_workspace(on, a)) return Status::small_workspace;
    const size_t bytes = plan.laid_out_grad_bytes();
    const bool one_chunk = std::has_single_bit(static_cast<unsigned>(a.n)) && a.n <= kLargestChunk;
    Pieces pieces(on);
    char* sum = pieces.take(bytes);
    char* term = one_chunk ? nullptr : pieces.take(bytes);
    char* scratch = pieces.take(0);
    for_each_chunk(a.n, [&](int first, int images) {
      plan.weight_grad(images).run(
          plan.stream(),
          {image(a.x, first, g.x_size(), g.dtype), image(a.d_y, first, g.y_size(), g.dtype),
           first == 0 ? sum : term},
          scratch);
      if (first > 0)
        add_into(reinterpret_cast<float*>(sum), reinterpret_cast<const float*>(term),
                 static_cast<int64_t>(bytes / sizeof(float)));
    });
    plan.unpack_grad().run(plan.stream(), {sum, a.d_filter}, scratch);
    return Status::ok;
  });
}

size_t conv2d_packed_bytes(Cpu on, const Conv2dGeometry& g, FilterUse use) {
  return library_workspace(on, g, 0, [&](ConvPlan& plan) { return plan.packed_bytes(use); });
}

size_t conv2d_pack_workspace(Cpu on, const Conv2dPack& a) {
  return library_workspace(on, a.geometry, 0,
                           [&](ConvPlan& plan) { return plan.pack(a.use).scratch_bytes(); });
}

Status conv2d_pack(Cpu on, const Conv2dPack& a) {
  if (!is_valid(a.geometry, 0)) return Status::bad_args;
  const auto direct = [] { return Status::ok; };
  return choose(on, a.geometry, FilterForm::krsc, direct, [&](ConvPlan& plan) {
    Planned& pack = plan.pack(a.use);
    if (on.workspace_bytes < pack.scratch_bytes()) return Status::small_workspace;
    pack.run(plan.stream(), {a.filter, a.packed}, on.workspace);
    return Status::ok;
  });
}

}  // namespace moat::kernels
