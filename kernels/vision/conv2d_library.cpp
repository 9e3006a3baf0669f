#include "kernels/vision/conv2d_library.h"

#include <algorithm>
#include <bit>

#include "kernels/parallel.h"
#include "kernels/vision/conv2d_finish.h"
#include "kernels/vision/conv2d_plan.h"

namespace moat::kernels::library {

namespace {

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

size_t filter_bytes(ConvPlan& plan, FilterForm form, FilterUse use) {
  if (form == FilterForm::packed) return 0;
  return in_lines(plan.packed_bytes(use)) + in_lines(plan.pack(use).scratch_bytes());
}

// The packed filter: the caller's, or packed here.
const void* packed_filter(ConvPlan& plan, FilterForm form, FilterUse use, const void* filter,
                          WorkspacePieces& pieces) {
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

// oneDNN has nothing to run behind an input gradient; a chunk of it is still in the cache.
void finish(const Conv2dInputGrad& a, int64_t first, int64_t count) {
  parallel_for(count, 16384, [&](int64_t from, int64_t to) {
    if (a.geometry.dtype == Dtype::bf16)
      finish_input_grad<Bf16>(a, first + from, to - from);
    else
      finish_input_grad<float>(a, first + from, to - from);
  });
}

bool is_one_chunk(int n) {
  return std::has_single_bit(static_cast<unsigned>(n)) && n <= kLargestChunk;
}

}  // namespace

size_t workspace(Cpu on, const Conv2d& a) {
  ConvPlan& plan = ConvPlan::of(on, a.geometry);
  return filter_bytes(plan, a.form, FilterUse::forward) +
         scratch_bytes(a.n, [&](int images) -> Planned& { return plan.forward(images, a); });
}

void run(Cpu on, const Conv2d& a) {
  const Conv2dGeometry& g = a.geometry;
  ConvPlan& plan = ConvPlan::of(on, g);
  WorkspacePieces pieces(on);
  const void* filter = packed_filter(plan, a.form, FilterUse::forward, a.filter, pieces);
  char* scratch = pieces.take(0);
  for_each_chunk(a.n, [&](int first, int images) {
    const void* residual = a.residual ? image(a.residual, first, g.y_size(), g.dtype) : nullptr;
    plan.forward(images, a).run(plan.stream(),
                                {image(a.x, first, g.x_size(), g.dtype), filter,
                                 image(a.y, first, g.y_size(), g.dtype), a.bias, residual},
                                scratch);
  });
}

size_t workspace(Cpu on, const Conv2dInputGrad& a) {
  ConvPlan& plan = ConvPlan::of(on, a.geometry);
  return filter_bytes(plan, a.form, FilterUse::input_grad) +
         scratch_bytes(a.n, [&](int images) -> Planned& { return plan.input_grad(images); });
}

void run(Cpu on, const Conv2dInputGrad& a) {
  const Conv2dGeometry& g = a.geometry;
  ConvPlan& plan = ConvPlan::of(on, g);
  WorkspacePieces pieces(on);
  const void* filter = packed_filter(plan, a.form, FilterUse::input_grad, a.filter, pieces);
  char* scratch = pieces.take(0);
  for_each_chunk(a.n, [&](int first, int images) {
    plan.input_grad(images).run(plan.stream(),
                                {image(a.d_y, first, g.y_size(), g.dtype), filter,
                                 image(a.d_x, first, g.x_size(), g.dtype)},
                                scratch);
    if (a.added || a.mask) finish(a, first * g.x_size(), images * g.x_size());
  });
}

size_t workspace(Cpu on, const Conv2dWeightGrad& a) {
  ConvPlan& plan = ConvPlan::of(on, a.geometry);
  const size_t sums = is_one_chunk(a.n) ? 1 : 2;  // the running sum and the chunk to add
  return sums * in_lines(plan.laid_out_grad_bytes()) +
         std::max(
             in_lines(plan.unpack_grad().scratch_bytes()),
             scratch_bytes(a.n, [&](int images) -> Planned& { return plan.weight_grad(images); }));
}

void run(Cpu on, const Conv2dWeightGrad& a) {
  const Conv2dGeometry& g = a.geometry;
  ConvPlan& plan = ConvPlan::of(on, g);
  const size_t bytes = plan.laid_out_grad_bytes();
  WorkspacePieces pieces(on);
  char* sum = pieces.take(bytes);
  char* term = is_one_chunk(a.n) ? nullptr : pieces.take(bytes);
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
}

size_t workspace(Cpu on, const Conv2dPack& a) {
  return ConvPlan::of(on, a.geometry).pack(a.use).scratch_bytes();
}

void run(Cpu on, const Conv2dPack& a) {
  ConvPlan& plan = ConvPlan::of(on, a.geometry);
  plan.pack(a.use).run(plan.stream(), {a.filter, a.packed}, on.workspace);
}

size_t packed_bytes(Cpu on, const Conv2dGeometry& g, FilterUse use) {
  return ConvPlan::of(on, g).packed_bytes(use);
}

}  // namespace moat::kernels::library
