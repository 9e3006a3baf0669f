#include "kernels/experts/moe_layer.h"

#include <catch2/catch.hpp>

#include "tests/moe_layer_case.h"
#include "tests/same_bits.h"

namespace moat::tests {

using namespace kernels;

namespace {

template <class T>
using HostLayer = Layer<T, HostArray>;

Status run(const MoeLayer& args, size_t missing = 0) {
  Context context;
  return run_pass<HostArray, Cpu, MoeLayer>({&context}, moe_layer, moe_layer_workspace, args,
                                            missing);
}
Status run(const MoeLayerGrad& args, size_t missing = 0) {
  Context context;
  return run_pass<HostArray, Cpu, MoeLayerGrad>({&context}, moe_layer_grad,
                                                moe_layer_grad_workspace, args, missing);
}

using tests::same_bits;  // which the overload would hide
template <class T>
bool same_bits(const HostArray<T>& a, const HostArray<T>& b) {
  return same_bits(a.host(), b.host());
}
template <class T>
bool is_untouched(const HostArray<T>& a) {
  return same_bits(a, HostArray<T>(a.host().size()));
}

// d_y of a problem.
template <class T>
HostArray<T> drawn(const LayerProblem& p) {
  return HostArray<T>(HostLayer<T>::converted(normals(count_of(p.tokens, p.out_width), 7)));
}

}  // namespace

TEMPLATE_TEST_CASE("moe_layer: equals plain loops", "[moe_layer]", double, float) {
  const double roundoff = sizeof(TestType) == 8 ? 0x1p-53 : 0x1p-24;
  for (const LayerProblem& p : layer_problems()) {
    const LayerReference reference = layer_reference(rounded(p));
    const HostLayer<TestType> layer(rounded(p));
    REQUIRE(run(layer.forward_args()) == Status::ok);
    for (size_t i = 0; i < reference.y.size(); ++i) {
      INFO("element " << i << " of " << p.tokens << " tokens, " << p.experts << " experts");
      // Two products, an activation, the gate's weight and the sum over choices round.
      REQUIRE(std::abs(layer.y.data()[i] - reference.y[i]) <= 16 * roundoff * reference.bound[i]);
    }
    for (size_t i = 0; i < reference.experts.size(); ++i) {
      CHECK(layer.experts.data()[i] == reference.experts[i]);
      CHECK((layer.slot_of.data()[i] < 0) == reference.dropped[i]);
    }
  }
}

namespace {

// The slope of <d_y, y> along one number of the problem.
double slope(LayerProblem p, Values LayerProblem::*tensor, size_t i, const Values& d_y) {
  constexpr double kStep = 1e-5;
  const auto loss = [&](double step) {
    LayerProblem moved = p;
    (moved.*tensor)[i] += step;
    const Values y = layer_reference(moved).y;
    return std::inner_product(y.begin(), y.end(), d_y.begin(), 0.0);
  };
  return (loss(kStep) - loss(-kStep)) / (2 * kStep);
}

void check_slopes(const LayerProblem& p, Values LayerProblem::*tensor, const Values& d_y,
                  const HostArray<double>& array) {
  const Values gradient = array.host();
  REQUIRE(gradient.size() == (p.*tensor).size());
  for (size_t i = 0; i < gradient.size(); ++i) {
    INFO("element " << i << ": " << gradient[i]);
    REQUIRE(gradient[i] == Approx(slope(p, tensor, i, d_y)).margin(2e-8).epsilon(1e-7));
  }
}

}  // namespace

TEST_CASE("moe_layer: gradients are slopes of the plain loops", "[moe_layer]") {
  for (const LayerProblem& p : layer_problems()) {
    const HostArray<double> d_y = drawn<double>(p);
    const HostLayer<double> layer(p);
    REQUIRE(run(layer.forward_args()) == Status::ok);
    REQUIRE(run(layer.backward_args(d_y)) == Status::ok);
    check_slopes(p, &LayerProblem::x, d_y.host(), layer.d_x);
    check_slopes(p, &LayerProblem::logits, d_y.host(), layer.d_logits);
    check_slopes(p, &LayerProblem::w_in, d_y.host(), layer.d_w_in);
    check_slopes(p, &LayerProblem::b_in, d_y.host(), layer.d_b_in);
    check_slopes(p, &LayerProblem::w_out, d_y.host(), layer.d_w_out);
    check_slopes(p, &LayerProblem::b_out, d_y.host(), layer.d_b_out);
  }
}

TEST_CASE("moe_layer: an input-only backward gives the same input gradients", "[moe_layer]") {
  for (const LayerProblem& p : layer_problems()) {
    const HostArray<float> d_y = drawn<float>(p);
    const HostLayer<float> full(p), inputs(p);
    REQUIRE(run(full.forward_args()) == Status::ok);
    REQUIRE(run(full.backward_args(d_y)) == Status::ok);
    REQUIRE(run(inputs.forward_args()) == Status::ok);
    REQUIRE(run(inputs.input_args(d_y)) == Status::ok);
    CHECK(same_bits(full.d_x, inputs.d_x));
    CHECK(same_bits(full.d_logits, inputs.d_logits));
  }
}

TEST_CASE("moe_layer: each gradient alone is the one of all", "[moe_layer]") {
  const LayerProblem p = layer_problems().front();
  const HostArray<float> d_y = drawn<float>(p);
  const HostLayer<float> full(p), parts(p);
  REQUIRE(run(full.forward_args()) == Status::ok);
  REQUIRE(run(full.backward_args(d_y)) == Status::ok);
  REQUIRE(run(parts.forward_args()) == Status::ok);
  const auto wants = [&](auto&& ask) {
    MoeLayerGrad args = parts.backward_args(d_y);
    void* const all[] = {args.d_x, args.d_logits, args.d_w_in, args.d_w_out};
    args.d_x = args.d_logits = args.d_w_in = args.d_b_in = args.d_w_out = args.d_b_out = nullptr;
    ask(args, all);
    REQUIRE(run(args) == Status::ok);
  };
  wants([](MoeLayerGrad& a, auto& all) {
    a.d_x = all[0];
    a.rows = a.logits = a.x = nullptr;
  });
  wants([](MoeLayerGrad& a, auto& all) {
    a.d_logits = all[1];
    a.pre = a.w_in = a.w_out = a.x = nullptr;
  });
  wants([](MoeLayerGrad& a, auto& all) {
    a.d_w_in = all[2];
    a.rows = a.logits = a.w_in = nullptr;
  });
  wants([](MoeLayerGrad& a, auto& all) {
    a.d_w_out = all[3];
    a.rows = a.logits = a.w_in = a.w_out = a.x = nullptr;
  });
  wants([](MoeLayerGrad&, auto&) {});
  CHECK(same_bits(full.d_x, parts.d_x));
  CHECK(same_bits(full.d_logits, parts.d_logits));
  CHECK(same_bits(full.d_w_in, parts.d_w_in));
  CHECK(same_bits(full.d_w_out, parts.d_w_out));
  CHECK(is_untouched(parts.d_b_in));
}

TEST_CASE("moe_layer: what no backward pass will read need not be kept", "[moe_layer]") {
  const LayerProblem p = layer_problems().front();
  const HostLayer<float> keeps(p), forgets(p);
  REQUIRE(run(keeps.forward_args()) == Status::ok);
  MoeLayer args = forgets.forward_args();
  args.pre = args.rows = nullptr;
  REQUIRE(run(args) == Status::ok);
  CHECK(same_bits(keeps.y, forgets.y));
}

TEST_CASE("moe_layer: what cannot work is refused before anything is written", "[moe_layer]") {
  const LayerProblem p = layer_problems().front();
  const auto status = [&](auto&& change, size_t missing = 0) {
    const HostLayer<float> layer(p);
    MoeLayer args = layer.forward_args();
    change(args);
    const Status said = run(args, missing);
    CHECK(is_untouched(layer.y));
    CHECK(is_untouched(layer.weights));
    CHECK(is_untouched(layer.offsets));
    return said;
  };
  CHECK(status([](MoeLayer& a) { a.k = 5; }) == Status::bad_args);
  CHECK(status([](MoeLayer& a) { a.k = 0; }) == Status::bad_args);
  CHECK(status([](MoeLayer& a) { a.tokens = -1; }) == Status::bad_args);
  CHECK(status([](MoeLayer& a) { a.tokens = INT32_MAX; }) == Status::bad_args);
  CHECK(status([](MoeLayer& a) { a.width = -1; }) == Status::bad_args);
  CHECK(status([](MoeLayer& a) { a.capacity = -1; }) == Status::bad_args);
  CHECK(status([](MoeLayer& a) { a.gate_dtype = Dtype::f64; }) == Status::bad_args);
  CHECK(status([](MoeLayer& a) { a.dtype = Dtype::i32; }) == Status::bad_args);
  CHECK(status([](MoeLayer& a) {
          a.inner = 5;
          a.activation = ExpertActivation::swiglu;
        }) == Status::bad_args);
  CHECK(status([](MoeLayer&) {}, 1) == Status::small_workspace);

  const HostLayer<float> layer(p);
  const HostArray<float> d_y = drawn<float>(p);
  REQUIRE(run(layer.forward_args()) == Status::ok);
  CHECK(run(layer.backward_args(d_y), 1) == Status::small_workspace);
  MoeLayerGrad args = layer.backward_args(d_y);
  args.d_w_in = nullptr;
  CHECK(run(args) == Status::bad_args);
  CHECK(is_untouched(layer.d_x));
  CHECK(is_untouched(layer.d_b_in));
}

}  // namespace moat::tests
