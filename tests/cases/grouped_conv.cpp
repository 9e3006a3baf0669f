#include <algorithm>

#include "engine/ops/moe.h"
#include "tests/cases/conv_reference.h"
#include "tests/op_case.h"

namespace moat::tests {

using namespace engine;

namespace {

const Conv2dOptions kSame{.stride = 1, .padding = 1};

Segments segments_of(const std::vector<int>& offsets, Device device) {
  return {.order = {},
          .inverse = {},
          .offsets = Tensor::from(std::vector<int32_t>(offsets.begin(), offsets.end()),
                                  {static_cast<int64_t>(offsets.size())}, device)};
}

// Inputs: x, filter bank.
OpCase grouped_case(const std::vector<int>& offsets, int64_t h, int64_t c_in, int64_t c_out,
                    const Conv2dOptions& options) {
  const auto experts = static_cast<int64_t>(offsets.size()) - 1;
  const auto convolved = [=](Terms terms) {
    return [=](const Tensors& in) -> Tensors {
      const auto expert_of = [&](int64_t image) {
        int64_t e = 0;
        while (offsets[size_t(e) + 1] <= image) ++e;
        return e;
      };
      return {reference_conv(in[0], in[1], c_out, expert_of, options, terms)};
    };
  };
  return {
      .name =
          text("grouped_conv2d ", offsets.back(), "x", h, " ", c_in, "->", c_out, " of ", experts,
               offsets[1] * experts > offsets.back() ? " skewed" : "", " stride ", options.stride),
      .inputs =
          [=] {
            return Tensors{randn({offsets.back(), h, h, c_in}, 1),
                           randn({experts * c_out, 3, 3, c_in}, 2)};
          },
      .op = [=](const Tensors& in) -> Tensors {
        return {grouped_conv2d(in[0], in[1], segments_of(offsets, in[0].device()), {}, options)};
      },
      .reference = convolved(Terms::signed_values),
      .differentiable = {0, 1},
      .keep_float32 = {1},
      .bound = convolved(Terms::magnitudes),
      .f64 = kProductF64,
      .f32 = kProductF32,
      .bf16 = product_bf16(),
      .flops = 2.0 * 9 * double(offsets.back() * h * h * c_in * c_out)};
}

// Inputs: x, residual, filter bank, biases [experts, c_out].
OpCase grouped_packed_case(const std::vector<int>& offsets, int64_t h, int64_t c,
                           Activation activation) {
  const auto experts = static_cast<int64_t>(offsets.size()) - 1;
  const auto expert_of = [=](int64_t image) {
    int64_t e = 0;
    while (offsets[size_t(e) + 1] <= image) ++e;
    return e;
  };
  const auto sums = [=](const Tensors& in, Terms terms) {
    Tensor y = reference_conv(in[0], in[2], c, expert_of, kSame, terms);
    const auto term = [&](double v) { return terms == Terms::magnitudes ? std::abs(v) : v; };
    for (int64_t i = 0; i < y.size(); ++i)
      f64(y)[i] += term(f64(in[1])[i]) + term(f64(in[3])[expert_of(i / (h * h * c)) * c + i % c]);
    return y;
  };
  return {
      .name = text("grouped_conv2d_packed ", offsets.back(), "x", h, " ", c, " of ", experts,
                   activation == Activation::relu ? " relu" : ""),
      .inputs =
          [=] {
            return Tensors{randn({offsets.back(), h, h, c}, 1), randn({offsets.back(), h, h, c}, 4),
                           randn({experts * c, 3, 3, c}, 2), randn({experts, c}, 3)};
          },
      .op = [=](const Tensors& in) -> Tensors {
        const PackedConv2d packed = pack_conv2d(in[2], in[3].contiguous().reshaped({experts * c}),
                                                kSame, int(h), int(h), in[0].dtype(), int(experts));
        return {grouped_conv2d_packed(in[0], packed, segments_of(offsets, in[0].device()), {},
                                      in[1], activation)};
      },
      .reference = [=](const Tensors& in) -> Tensors {
        Tensor y = sums(in, Terms::signed_values);
        if (activation == Activation::relu)
          for (int64_t i = 0; i < y.size(); ++i) f64(y)[i] = std::max(f64(y)[i], 0.0);
        return {y};
      },
      .differentiable = {0, 1},
      .keep_float32 = {2, 3},
      .bound = [=](const Tensors& in) -> Tensors { return {sums(in, Terms::magnitudes)}; },
      .f64 = kProductF64,
      .f32 = kProductF32,
      .bf16 = product_bf16(),
      .flops = 2.0 * 9 * double(offsets.back() * h * h * c * c)};
}

}  // namespace

std::vector<OpCase> grouped_conv_cases(Scale scale) {
  if (scale == Scale::bench)
    return {grouped_case({0, 32, 64, 96, 128}, 16, 64, 64, kSame),
            grouped_case({0, 100, 110, 120, 128}, 16, 64, 64, kSame),
            grouped_packed_case({0, 32, 64, 96, 128}, 16, 64, Activation::relu)};
  return {grouped_case({0, 3, 3, 8}, 5, 4, 6, kSame),  // the second expert has no images
          grouped_case({0, 0, 5}, 6, 3, 5, {.stride = 2, .padding = 1}),
          grouped_case({0, 4}, 4, 8, 8, kSame),  // one expert
          grouped_case({0, 0, 0}, 4, 2, 3, kSame),
          grouped_packed_case({0, 2, 2, 5}, 4, 8, Activation::relu),
          grouped_packed_case({0, 3, 4}, 3, 5, Activation::none),
          grouped_packed_case({0, 0}, 3, 2, Activation::relu)};
}

}  // namespace moat::tests
