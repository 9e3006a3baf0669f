#include "kernels/basic/gemm.h"

#include <algorithm>
#include <cstring>

#include "kernels/basic/sum_dtype.h"
#include "kernels/library/product.h"

namespace moat::kernels {

namespace {

// oneDNN sums a row in an order that depends on the number of rows, columns and threads of the
// call. So every call is one thread's product of kTileRows rows by at most kTileColumns columns:
// the bits depend on the column tile alone. A last tile with fewer rows is padded with zeros.
constexpr int kTileRows = 64, kTileColumns = 256;

struct Tiling {
  int rows, columns;  // counts of tiles
  int whole_rows;     // row tiles that need no padding
};

Tiling tiling(const Gemm& a) {
  const int rows = (a.m + kTileRows - 1) / kTileRows;
  return {rows, (a.n + kTileColumns - 1) / kTileColumns,
          a.transpose_a == Transpose::yes ? rows : a.m / kTileRows};
}

bool pads(const Gemm& a) { return a.transpose_a == Transpose::no && a.m % kTileRows != 0; }

size_t padded_a_bytes(const Gemm& a) {
  return in_lines(static_cast<size_t>(kTileRows) * a.k * size_of(a.dtype));
}
size_t padded_y_bytes(const Gemm& a) {
  return in_lines(static_cast<size_t>(kTileRows) * a.n * size_of(a.y_dtype));
}

// The last rows of a row-major matrix, padded with zeros to a tile.
void pad_rows(const void* from, int rows, int64_t row_bytes, void* to) {
  const auto filled = static_cast<size_t>(rows * row_bytes),
             all = static_cast<size_t>(kTileRows * row_bytes);
  std::memcpy(to, from, filled);
  std::memset(static_cast<char*>(to) + filled, 0, all - filled);
}

// What row i of y begins with, from column `from` on: the bias and, to a row that is no padding,
// what is added.
template <class C>
void begin_row(const Gemm& g, int64_t i, int from, int columns, C* y) {
  const auto* bias = static_cast<const C*>(g.bias);
  const C* added = g.added && i < g.m ? static_cast<const C*>(g.added) + i * g.n : nullptr;
  for (int j = from; j < from + columns; ++j) *y++ = (bias ? bias[j] : 0) + (added ? added[j] : 0);
}

Status gemm_f32(Cpu on, const Gemm& g) {
  const auto *a = static_cast<const float*>(g.a), *b = static_cast<const float*>(g.b);
  auto* y = static_cast<float*>(g.y);
  const Tiling tiles = tiling(g);
  const int left = g.m - tiles.whole_rows * kTileRows;
  auto* padded_a = static_cast<float*>(on.workspace);
  auto* padded_y = reinterpret_cast<float*>(static_cast<char*>(on.workspace) + padded_a_bytes(g));
  if (pads(g))
    pad_rows(a + int64_t{tiles.whole_rows} * kTileRows * g.k, left, g.k * int64_t{sizeof(float)},
             padded_a);
  const bool begins = g.bias || g.added;

  const int64_t a_leading = g.transpose_a == Transpose::yes ? g.m : g.k,
                b_leading = g.transpose_b == Transpose::yes ? g.k : g.n;
  const int64_t flops = int64_t{2} * kTileRows * std::min(g.n, kTileColumns) * g.k;
  const int64_t grain = std::max<int64_t>(1, 1'000'000 / flops);
  Products products;
  parallel_for(int64_t{tiles.rows} * tiles.columns, grain, [&](int64_t from, int64_t to) {
    const OneThreadScope one_thread;
    for (int64_t tile = from; tile < to; ++tile) {
      const int row = static_cast<int>(tile / tiles.columns) * kTileRows,
                column = static_cast<int>(tile % tiles.columns) * kTileColumns;
      const int columns = std::min(kTileColumns, g.n - column);
      const bool padded = tile / tiles.columns >= tiles.whole_rows;
      const int rows = padded ? kTileRows : std::min(kTileRows, g.m - row);
      const float* a_tile =
          padded ? padded_a
                 : a + (g.transpose_a == Transpose::yes ? int64_t{row} : int64_t{row} * g.k);
      const float* b_tile = b + (g.transpose_b == Transpose::yes ? int64_t{column} * g.k : column);
      float* y_tile = (padded ? padded_y : y + int64_t{row} * g.n) + column;
      for (int i = 0; begins && i < rows; ++i)
        begin_row(g, row + i, column, columns, y_tile + int64_t{i} * g.n);
      products(rows, columns, g.k, {a_tile, a_leading, g.transpose_a},
               {b_tile, b_leading, g.transpose_b}, begins, y_tile, g.n);
    }
  });
  if (pads(g)) std::copy_n(padded_y, int64_t{left} * g.n, y + (int64_t{g.m} - left) * g.n);
  products.check();
  return Status::ok;
}

dnnl::memory::desc matrix(int rows, int columns, Transpose transpose, Dtype dtype, int leading) {
  const dnnl::memory::dims strides =
      transpose == Transpose::yes ? dnnl::memory::dims{1, leading} : dnnl::memory::dims{leading, 1};
  return {{rows, columns}, onednn_type(dtype), strides};
}

// The product of `rows` rows of op(a) with all of op(b).
Planned& bf16_plan(Cpu on, const Gemm& g, int rows) {
  auto& primitives = on.context->primitives();
  const PlanKey key{static_cast<int>(PlanKind::gemm),
                    rows,
                    g.n,
                    g.k,
                    int(g.transpose_a),
                    int(g.transpose_b),
                    int(g.y_dtype),
                    g.bias != nullptr,
                    g.added != nullptr};
  return primitives.plan<Planned>(key, [&] {
    const auto a =
        matrix(rows, g.k, g.transpose_a, Dtype::bf16, g.transpose_a == Transpose::yes ? g.m : g.k);
    const auto b =
        matrix(g.k, g.n, g.transpose_b, Dtype::bf16, g.transpose_b == Transpose::yes ? g.k : g.n);
    const auto y = matrix(rows, g.n, Transpose::no, g.y_dtype, g.n);
    const auto bias = matrix(1, g.n, Transpose::no, Dtype::f32, g.n);
    dnnl::primitive_attr attributes = with_user_scratch();
    dnnl::post_ops behind;
    if (g.added) behind.append_sum();  // to what y holds
    attributes.set_post_ops(behind);
    const dnnl::matmul::primitive_desc made =
        g.bias ? dnnl::matmul::primitive_desc({a, b, bias, y}, attributes, primitives.engine)
               : dnnl::matmul::primitive_desc({a, b, y}, attributes, primitives.engine);
    std::vector<Planned::Argument> arguments{
        {DNNL_ARG_SRC, a}, {DNNL_ARG_WEIGHTS, b}, {DNNL_ARG_DST, y}};
    if (g.bias) arguments.push_back({DNNL_ARG_BIAS, bias});
    return std::make_unique<Planned>(primitives.engine, dnnl::matmul(made), arguments,
                                     made.scratchpad_desc());
  });
}

// bfloat16: row tiles over all columns with the library's threads; a transposed product is one
// call.
Status gemm_bf16(Cpu on, const Gemm& g) {
  const int rows = g.transpose_a == Transpose::yes ? g.m : kTileRows;
  Planned& plan = bf16_plan(on, g, rows);
  const auto& stream = on.context->primitives().stream;
  auto* padded_a = static_cast<Bf16*>(on.workspace);
  char* padded_y = static_cast<char*>(on.workspace) + padded_a_bytes(g);
  char* scratch = padded_y + padded_y_bytes(g);
  const auto* a = static_cast<const Bf16*>(g.a);
  auto* y = static_cast<char*>(g.y);
  const auto* added = static_cast<const char*>(g.added);
  const int64_t y_row = int64_t{g.n} * static_cast<int64_t>(size_of(g.y_dtype));
  int row = 0;
  for (; row + rows <= g.m; row += rows) {
    if (added) std::memcpy(y + row * y_row, added + row * y_row, static_cast<size_t>(rows * y_row));
    plan.run(stream, {a + int64_t{row} * g.k, g.b, y + row * y_row, g.bias}, scratch);
  }
  if (row == g.m) return Status::ok;
  pad_rows(a + int64_t{row} * g.k, g.m - row, g.k * int64_t{sizeof(Bf16)}, padded_a);
  if (added) pad_rows(added + row * y_row, g.m - row, y_row, padded_y);
  plan.run(stream, {padded_a, g.b, padded_y, g.bias}, scratch);
  std::memcpy(y + row * y_row, padded_y, static_cast<size_t>((g.m - row) * y_row));
  return Status::ok;
}

// The definition; also what an empty reduction gives.
template <class T, class Y>
void row_of(const Gemm& g, int64_t i) {
  const int64_t a_row = g.transpose_a == Transpose::yes ? 1 : g.k,
                a_column = g.transpose_a == Transpose::yes ? g.m : 1;
  const auto* a = static_cast<const T*>(g.a) + i * a_row;
  const auto* b = static_cast<const T*>(g.b);
  const auto* bias = static_cast<const compute_t<Y>*>(g.bias);
  const Y* added = g.added ? static_cast<const Y*>(g.added) + i * g.n : nullptr;
  Y* y = static_cast<Y*>(g.y) + i * g.n;
  for (int j = 0; j < g.n; ++j) y[j] = Y((bias ? bias[j] : 0) + (added ? added[j] : Y(0)));
  if (g.transpose_b == Transpose::yes)
    for (int j = 0; j < g.n; ++j) {
      compute_t<T> sum = 0;
      for (int p = 0; p < g.k; ++p) sum += a[p * a_column] * b[int64_t{j} * g.k + p];
      y[j] = Y(y[j] + sum);
    }
  else
    for (int p = 0; p < g.k; ++p)
      for (int j = 0; j < g.n; ++j) y[j] = Y(y[j] + a[p * a_column] * b[int64_t{p} * g.n + j]);
}

template <class T, class Y>
Status gemm_direct(const Gemm& g) {
  parallel_for(g.m, 1, [&](int64_t from, int64_t to) {
    for (int64_t i = from; i < to; ++i) row_of<T, Y>(g, i);
  });
  return Status::ok;
}

// Products of no terms: the library takes none.
Status no_terms(const Gemm& g) {
  return with_float(g.y_dtype, [&]<class Y>() { return gemm_direct<Y, Y>(g); });
}

}  // namespace

size_t gemm_workspace(Cpu on, const Gemm& g) {
  if (g.dtype == Dtype::f64 || g.m <= 0 || g.n <= 0 || g.k <= 0 || !supports(on, g.dtype)) return 0;
  const size_t padded = pads(g) ? padded_a_bytes(g) + padded_y_bytes(g) : 0;
  if (g.dtype != Dtype::bf16 || !on.context) return padded;
  size_t scratch = 0;
  guarded([&] {
    const int rows = g.transpose_a == Transpose::yes ? g.m : kTileRows;
    scratch = bf16_plan(on, g, rows).scratch_bytes();
    return Status::ok;
  });
  return padded_a_bytes(g) + padded_y_bytes(g) + scratch;
}

Status gemm(Cpu on, const Gemm& g) {
  if (g.m < 0 || g.n < 0 || g.k < 0 || !is_sum_dtype(g.dtype, g.y_dtype)) return Status::bad_args;
  if (!supports(on, g.dtype)) return Status::unsupported;
  if (g.m == 0 || g.n == 0) return Status::ok;
  if (g.k == 0) return no_terms(g);
  if (g.dtype == Dtype::f64) return gemm_direct<double, double>(g);
  if (on.workspace_bytes < gemm_workspace(on, g)) return Status::small_workspace;
  if (g.dtype == Dtype::f32) return guarded([&] { return gemm_f32(on, g); });
  return on.context ? guarded([&] { return gemm_bf16(on, g); }) : Status::bad_args;
}

}  // namespace moat::kernels
