#include <algorithm>
#include <cmath>
#include <random>

#include "kernels/experts/activation_functions.h"
#include "kernels/experts/grouped_gemm/sm90.h"
#include "tests/cuda/device_memory.h"

namespace moat::tests {

using namespace kernels;

namespace {

// True on Hopper, where sm_90a code runs, and in the interpreter.
bool is_hopper() {
  int major = 0;
  REQUIRE(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0) == cudaSuccess);
  return major == 9;
}

enum class Numbers { normal, integer };
enum class Order { sorted, gathered };
enum class Extras { none, bias_and_pre };

std::vector<Bf16> numbers(size_t count, Numbers kind, unsigned seed) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal;
  std::uniform_int_distribution<int> integer(-2, 2);
  std::vector<Bf16> values;
  for (size_t i = 0; i < count; ++i)
    values.emplace_back(kind == Numbers::normal ? normal(engine)
                                                : static_cast<float>(integer(engine)));
  return values;
}

struct Shape {
  std::vector<int> counts;  // rows of each expert
  int n, k;
  int unused = 0;  // rows behind the last expert's
  Transpose transpose_w = Transpose::yes;
  Order order = Order::sorted;
  ExpertActivation activation = ExpertActivation::none;
  Numbers kind = Numbers::normal;
  Extras extras = Extras::bias_and_pre;
  int poisoned = -1;  // an expert whose w is NaN, as are its rows of x in order
};

// A product over experts with everything it needs.
struct Problem {
  explicit Problem(const Shape& s) : shape(s), experts(static_cast<int>(s.counts.size())) {
    offsets.push_back(0);
    for (int count : s.counts) offsets.push_back(offsets.back() + count);
    used = offsets.back();
    rows = used + s.unused;
    x_rows = s.order == Order::gathered ? used / 2 + 3 : used;
    x = numbers(size_t(x_rows) * size_t(s.k), s.kind, 1);
    w = numbers(size_t(experts) * size_t(s.n) * size_t(s.k), s.kind, 2);
    for (const Bf16 b : numbers(size_t(experts) * size_t(s.n), s.kind, 3))
      bias.push_back(s.extras == Extras::none ? 0 : static_cast<float>(b));
    if (s.poisoned >= 0) {
      const Bf16 nan(std::numeric_limits<float>::quiet_NaN());
      const auto e = size_t(s.poisoned);
      std::fill_n(w.begin() + s.poisoned * s.n * s.k, s.n * s.k, nan);
      if (s.order == Order::sorted)
        std::fill_n(x.begin() + offsets[e] * s.k, s.counts[e] * s.k, nan);
    }
    std::mt19937 engine(4);
    for (int r = 0; r < rows; ++r)
      row_token.push_back(r < used ? std::uniform_int_distribution<int>(0, x_rows - 1)(engine)
                                   : 1 << 30);
    width = activated_width(s.activation, s.n);
  }
  int token(int r) const { return shape.order == Order::gathered ? row_token[size_t(r)] : r; }
  double x_at(int token, int j) const {
    return static_cast<float>(x[size_t(token) * size_t(shape.k) + size_t(j)]);
  }
  double w_at(int e, int column, int j) const {
    const bool transposed = shape.transpose_w == Transpose::yes;
    const size_t line = size_t(transposed ? column : j), at = size_t(transposed ? j : column);
    return static_cast<float>(w[size_t(e) * size_t(shape.n) * size_t(shape.k) +
                                line * size_t(transposed ? shape.k : shape.n) + at]);
  }

  Shape shape;
  int experts, used, rows, x_rows, width;
  std::vector<int32_t> offsets, row_token;
  std::vector<Bf16> x, w;
  std::vector<float> bias;
};

struct Results {
  std::vector<Bf16> y, pre;
};

// Of a large tile there is nothing but results.
bool keeps_pre(const Problem& p, const GroupedTileShape& tile) {
  return p.shape.extras == Extras::bias_and_pre && !is_large(tile);
}

Results product(const Problem& p, const GroupedTileShape& tile) {
  const DeviceArray<Bf16> x(p.x), w(p.w), y(size_t(p.rows) * size_t(p.width)),
      pre(size_t(p.rows) * size_t(p.shape.n));
  const DeviceArray<float> bias(p.bias);
  const DeviceArray<int32_t> offsets(p.offsets), row_token(p.row_token);
  const bool gathered = p.shape.order == Order::gathered, plain = p.shape.extras == Extras::none;
  REQUIRE(sm90::run(Cuda{},
                    {.x = x.data(),
                     .row_token = gathered ? row_token.data() : nullptr,
                     .w = w.data(),
                     .bias = plain ? nullptr : bias.data(),
                     .offsets = offsets.data(),
                     .y = y.data(),
                     .rows = p.rows,
                     .x_rows = p.x_rows,
                     .experts = p.experts,
                     .n = p.shape.n,
                     .k = p.shape.k,
                     .transpose_w = p.shape.transpose_w,
                     .dtype = Dtype::bf16,
                     .activation = p.shape.activation,
                     .pre = keeps_pre(p, tile) ? pre.data() : nullptr},
                    tile) == Status::ok);
  REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
  return {y.host(), pre.host()};
}

struct Bounded {
  double value, error;  // |computed - value| <= error
};

Bounded pre_activation(const Problem& p, int r, int e, int column) {
  const double bias = p.bias[size_t(e) * size_t(p.shape.n) + size_t(column)];
  double sum = bias, magnitude = std::abs(bias);
  for (int j = 0; j < p.shape.k; ++j) {
    const double term = p.x_at(p.token(r), j) * p.w_at(e, column, j);
    sum += term;
    magnitude += std::abs(term);
  }
  return {sum, 8 * roundoff<float> * magnitude};
}

// Slopes of the activations stay below 1.2.
Bounded activated(const Problem& p, int r, int e, int column) {
  const Bounded pre = pre_activation(p, r, e, column);
  if (p.shape.activation == ExpertActivation::swiglu) {
    const Bounded value = pre_activation(p, r, e, p.width + column);
    const double gate = Silu<double>::value(pre.value);
    return {gate * value.value,
            1.2 * pre.error * (std::abs(value.value) + value.error) + std::abs(gate) * value.error};
  }
  Bounded y = pre;
  with_function<double>(p.shape.activation,
                        [&]<class Function>() { y.value = Function::value(pre.value); });
  return {y.value, 1.2 * pre.error + 16 * roundoff<float> * std::abs(pre.value)};
}

// Integers: exact sums, rounded once.
bool is_right(Bf16 computed, const Bounded& reference, Numbers kind) {
  if (kind == Numbers::integer)
    return computed.bits == Bf16(static_cast<float>(reference.value)).bits;
  return std::abs(static_cast<float>(computed) - reference.value) <=
         1.01 * (roundoff<Bf16> * std::abs(reference.value) + reference.error);
}

void check_product(const Shape& shape, const GroupedTileShape& tile) {
  const Problem p(shape);
  INFO("tile " << tile.rows << " x " << tile.columns << ", n " << shape.n << ", k " << shape.k
               << ", rows " << p.rows << ", activation " << int(shape.activation) << ", transposed "
               << int(shape.transpose_w) << ", gathered " << int(shape.order));
  const auto [y, pre] = product(p, tile);
  size_t at_y = 0, at_pre = 0;
  for (int e = 0; e < p.experts; ++e)
    for (int r = p.offsets[size_t(e)]; r < p.offsets[size_t(e) + 1]; ++r) {
      int wrong_y = 0, wrong_pre = 0;
      for (int c = 0; c < p.width; ++c)
        wrong_y += !is_right(y[at_y++], activated(p, r, e, c), shape.kind);
      for (int c = 0; c < shape.n; ++c)
        wrong_pre += !is_right(pre[at_pre++], pre_activation(p, r, e, c), shape.kind);
      if (!keeps_pre(p, tile)) wrong_pre = 0;
      if (e == shape.poisoned) continue;
      INFO("expert " << e << ", row " << r);
      REQUIRE(wrong_y == 0);
      REQUIRE(wrong_pre == 0);
    }
  const auto is_zero = [](Bf16 v) { return v.bits == 0; };
  REQUIRE(std::all_of(y.begin() + int64_t(at_y), y.end(), is_zero));
  if (keeps_pre(p, tile)) REQUIRE(std::all_of(pre.begin() + int64_t(at_pre), pre.end(), is_zero));
}

// Rows of an expert: none, one, less than a panel, whole panels, more than a tile.
const std::vector<int> kRagged = {0, 1, 64, 0, 200, 37, 0};

}  // namespace

TEST_CASE("cuda: Hopper products of sorted rows", "[cuda][grouped_gemm_sm90]") {
  if (!is_hopper()) return;
  for (const GroupedTileShape& tile : kGroupedTileShapes) {
    check_product(
        {.counts = kRagged, .n = tile.columns + 8, .k = 136, .unused = 9, .kind = Numbers::integer},
        tile);
    check_product({.counts = {130}, .n = 8, .k = 8}, tile);
  }
}

TEST_CASE("cuda: Hopper products with w as it lies", "[cuda][grouped_gemm_sm90]") {
  if (!is_hopper()) return;
  for (const GroupedTileShape& tile : kGroupedTileShapes)
    check_product({.counts = {65, 0, 3},
                   .n = 200,
                   .k = 72,
                   .unused = 1,
                   .transpose_w = Transpose::no,
                   .kind = Numbers::integer},
                  tile);
}

TEST_CASE("cuda: Hopper products of gathered rows", "[cuda][grouped_gemm_sm90]") {
  if (!is_hopper()) return;
  for (const GroupedTileShape& tile : kGroupedTileShapes)
    check_product({.counts = kRagged,
                   .n = 136,
                   .k = 200,
                   .unused = 5,
                   .order = Order::gathered,
                   .kind = Numbers::integer},
                  tile);
}

TEST_CASE("cuda: Hopper products with activations", "[cuda][grouped_gemm_sm90]") {
  if (!is_hopper()) return;
  for (const auto activation : {ExpertActivation::relu, ExpertActivation::gelu,
                                ExpertActivation::gelu_tanh, ExpertActivation::swiglu})
    for (const auto transpose_w : {Transpose::no, Transpose::yes})
      for (const size_t tile : {0, 3})
        check_product({.counts = {0, 70, 5},
                       .n = 272,
                       .k = 40,
                       .unused = 3,
                       .transpose_w = transpose_w,
                       .activation = activation},
                      kGroupedTileShapes[tile]);
}

TEST_CASE("cuda: Hopper products of more experts and tiles than rings are long",
          "[cuda][grouped_gemm_sm90]") {
  if (!is_hopper()) return;
  std::vector<int> counts(40, 1);
  counts[0] = counts[7] = counts[30] = counts[32] = counts[39] = 0;
  counts[33] = 2;
  for (const size_t tile : {0, 3})
    check_product({.counts = counts,
                   .n = 8,
                   .k = 8,
                   .unused = 1,
                   .kind = Numbers::integer,
                   .extras = Extras::none},
                  kGroupedTileShapes[tile]);
}

TEST_CASE("cuda: NaN stays with its expert in a Hopper product", "[cuda][grouped_gemm_sm90]") {
  if (!is_hopper()) return;
  for (const auto transpose_w : {Transpose::no, Transpose::yes})
    for (const auto order : {Order::sorted, Order::gathered})
      for (const int poisoned : {0, 1})
        check_product({.counts = {2, 3},
                       .n = 72,
                       .k = 40,
                       .transpose_w = transpose_w,
                       .order = order,
                       .kind = Numbers::integer,
                       .extras = Extras::none,
                       .poisoned = poisoned},
                      kGroupedTileShapes[3]);
}

TEST_CASE("cuda: a row of a Hopper product has the same bits among other rows",
          "[cuda][grouped_gemm_sm90]") {
  if (!is_hopper()) return;
  Shape shape{.counts = {90, 40}, .n = 64, .k = 72};
  Problem among(shape);
  shape.counts = {1, 1};
  Problem alone(shape);
  const int rows[] = {77, 95};  // one of each expert
  for (size_t e = 0; e < 2; ++e)
    std::copy_n(among.x.begin() + rows[e] * shape.k, shape.k, alone.x.begin() + int(e) * shape.k);
  alone.w = among.w;
  alone.bias = among.bias;
  const auto tile = kGroupedTileShapes[3];
  const Results many = product(among, tile), again = product(among, tile),
                few = product(alone, tile);
  for (size_t i = 0; i < many.y.size(); ++i) REQUIRE(many.y[i].bits == again.y[i].bits);
  for (size_t e = 0; e < 2; ++e)
    for (size_t c = 0; c < 64; ++c)
      REQUIRE(few.y[e * 64 + c].bits == many.y[size_t(rows[e]) * 64 + c].bits);
}

TEST_CASE("cuda: Hopper products refuse what TMA cannot address", "[cuda][grouped_gemm_sm90]") {
  const GroupedGemm legal{.rows = 3,
                          .x_rows = 3,
                          .experts = 1,
                          .n = 16,
                          .k = 8,
                          .transpose_w = Transpose::yes,
                          .dtype = Dtype::bf16};
  REQUIRE(sm90::can_run(legal));
  GroupedGemm a = legal;
  a.k = 12;
  REQUIRE(!sm90::can_run(a));
  REQUIRE(sm90::run(Cuda{}, a) == Status::unsupported);
  a = legal;
  a.dtype = Dtype::f32;
  REQUIRE(!sm90::can_run(a));
  a = legal;
  a.x = reinterpret_cast<const void*>(8);
  REQUIRE(!sm90::can_run(a));
  a = legal;
  a.n = 24;
  REQUIRE(sm90::can_run(a));
  a.activation = ExpertActivation::swiglu;
  REQUIRE(!sm90::can_run(a));
  for (const auto activation : {ExpertActivation::swiglu, ExpertActivation::none}) {
    a = legal;
    a.activation = activation;
    a.pre = reinterpret_cast<void*>(16);
    REQUIRE(!sm90::can_run(a, {128, 192, TileSchedule::ping_pong}));
    REQUIRE(!sm90::can_run(a, {192, 128, TileSchedule::ping_pong}));
  }
}

namespace {

// d_w[e, i, j] = sum over the expert's rows of d_y[r, i] x[token(r), j]; rows of d_y behind the
// last expert's, and rows of x that no row has, are NaN.
void check_weight_grad(const Shape& shape, const WeightGradPlan& plan) {
  Problem p(shape);
  INFO("weight gradient, tile " << plan.tile.rows << " x " << plan.tile.columns << ", splits "
                                << plan.splits << ", n " << shape.n << ", k " << shape.k);
  std::vector<Bf16> d_y = numbers(size_t(p.rows) * size_t(shape.n), shape.kind, 5);
  const Bf16 nan(std::numeric_limits<float>::quiet_NaN());
  std::fill(d_y.begin() + int64_t{p.used} * shape.n, d_y.end(), nan);
  p.x.insert(p.x.end(), size_t(shape.k) * 70, nan);
  const DeviceArray<Bf16> x(p.x), device_d_y(d_y);
  const DeviceArray<int32_t> offsets(p.offsets), row_token(p.row_token);
  const DeviceArray<float> d_w(size_t(p.experts) * size_t(shape.n) * size_t(shape.k));
  const GroupedGemmWeightGrad a{
      .x = x.data(),
      .row_token = shape.order == Order::gathered ? row_token.data() : nullptr,
      .d_y = device_d_y.data(),
      .offsets = offsets.data(),
      .d_w = d_w.data(),
      .d_bias = nullptr,
      .rows = p.rows,
      .x_rows = p.x_rows + 70,
      .experts = p.experts,
      .n = shape.n,
      .k = shape.k,
      .dtype = Dtype::bf16};
  const size_t bytes = sm90::workspace(a, plan);
  const DeviceArray<char> workspace(bytes);
  if (bytes > 0) REQUIRE(sm90::run(Cuda{}, a, plan) == Status::small_workspace);
  REQUIRE(sm90::run(Cuda{.workspace = workspace.data(), .workspace_bytes = bytes}, a, plan) ==
          Status::ok);
  REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
  const std::vector<float> sums = d_w.host();
  size_t at = 0;
  for (int e = 0; e < p.experts; ++e)
    for (int i = 0; i < shape.n; ++i) {
      int wrong = 0;
      for (int j = 0; j < shape.k; ++j, ++at) {
        double sum = 0, magnitude = 0;
        for (int r = p.offsets[size_t(e)]; r < p.offsets[size_t(e) + 1]; ++r) {
          const double d = static_cast<float>(d_y[size_t(r) * size_t(shape.n) + size_t(i)]);
          sum += d * p.x_at(p.token(r), j);
          magnitude += std::abs(d * p.x_at(p.token(r), j));
        }
        const double error = shape.kind == Numbers::integer ? 0 : 8 * roundoff<float> * magnitude;
        wrong += !(std::abs(sums[at] - sum) <= error);
      }
      INFO("expert " << e << ", row " << i);
      REQUIRE(wrong == 0);
    }
}

}  // namespace

TEST_CASE("cuda: Hopper weight gradients", "[cuda][grouped_gemm_sm90]") {
  if (!is_hopper()) return;
  for (const GroupedTileShape& tile : kWeightGradTileShapes)
    for (const auto order : {Order::sorted, Order::gathered}) {
      check_weight_grad({.counts = {0, 70, 128, 0, 3},
                         .n = 136,
                         .k = 40,
                         .unused = 9,
                         .order = order,
                         .kind = Numbers::integer},
                        {tile, 1});
      check_weight_grad({.counts = {200, 0, 65}, .n = 24, .k = 264, .order = order}, {tile, 3});
    }
}

}  // namespace moat::tests
