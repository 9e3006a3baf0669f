#include "kernels/experts/grouped_gemm.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <type_traits>

#include "kernels/ceil_div.h"
#include "kernels/experts/activation_functions.h"
#include "kernels/index_range.h"
#include "kernels/library/product.h"
#include "kernels/parallel.h"
#include "kernels/segments.h"
#include "kernels/workspace_pieces.h"

namespace moat::kernels {

namespace {

template <class Grouped>
bool has_valid_extents(const Grouped& a) {
  return a.rows >= 0 && a.x_rows >= 0 && a.n >= 0 && a.k >= 0;
}
template <class Grouped>
bool is_valid(const Grouped& a) {
  if (!has_valid_extents(a) || !are_segments(a.offsets, a.experts) || a.offsets[a.experts] > a.rows)
    return false;
  const int used = a.offsets[a.experts];
  return a.row_token ? indices_in_range(a.row_token, used, a.x_rows) : used <= a.x_rows;
}

template <class T, class Grouped>
const T* x_row(const Grouped& a, int64_t row) {
  return static_cast<const T*>(a.x) + (a.row_token ? a.row_token[row] : row) * int64_t{a.k};
}

// Copies rows of x, as they are or gathered, in the compute type.
template <class T, class Grouped>
void copy_rows(const Grouped& a, int64_t first, int count, compute_t<T>* to) {
  for (int i = 0; i < count; ++i) {
    const T* from = x_row<T>(a, first + i);
    std::transform(from, from + a.k, to + int64_t{i} * a.k,
                   [](T value) { return static_cast<compute_t<T>>(value); });
  }
}

// ---- y: a task takes up to kTaskRows rows of an expert through some columns of w[e]. Every
// product has kTileRows rows, with zeros behind the last, so that a row has the same bits in each.

constexpr int kTileRows = 48, kTaskRows = 16 * kTileRows, kTaskColumns = 384;

template <class T>
class Forward {
 public:
  using C = compute_t<T>;
  static constexpr bool kWidens = !std::is_same_v<T, C>;

  explicit Forward(const GroupedGemm& a)
      : a_(a),
        parts_(a.activation == ExpertActivation::swiglu ? 2 : 1),
        width_(activated_width(a.activation, a.n)),
        columns_(kTaskColumns / parts_),
        column_tasks_(ceil_div(width_, columns_)) {}

  int64_t tasks() const {
    int64_t count = 0;
    for (int e = 0; e < a_.experts; ++e) count += row_tasks(e);
    return count * column_tasks_;
  }
  size_t scratch_bytes() const { return w_bytes() + sums_bytes() + rows_bytes(); }

  void run(int64_t task, WorkspacePieces scratch) {
    const OneThreadScope one_thread;
    int64_t left = task / column_tasks_;
    int e = 0;
    while (left >= row_tasks(e)) left -= row_tasks(e++);
    const int from = a_.offsets[e] + static_cast<int>(left) * kTaskRows,
              to = std::min(a_.offsets[e + 1], from + kTaskRows),
              column = static_cast<int>(task % column_tasks_) * columns_;
    const Block block{e, column, std::min(columns_, width_ - column)};
    C* wide = reinterpret_cast<C*>(scratch.take(w_bytes()));
    C* sums = reinterpret_cast<C*>(scratch.take(sums_bytes()));
    C* rows = reinterpret_cast<C*>(scratch.take(rows_bytes()));
    std::array<Operand<C>, 2> w;
    for (int part = 0; part < parts_; ++part)
      w[static_cast<size_t>(part)] =
          columns_of_w(block, part, wide + int64_t{part} * block.count * a_.k);
    const int64_t pitch = int64_t{parts_} * block.count;
    for (int r = from; r < to; r += kTileRows) {
      const int count = std::min(kTileRows, to - r);
      const Operand<C> x{rows_of_x(r, count, rows), a_.k};
      for (int part = 0; part < parts_; ++part)
        products_(kTileRows, block.count, a_.k, x, w[static_cast<size_t>(part)], false,
                  sums + int64_t{part} * block.count, pitch);
      for (int i = 0; i < count; ++i) finish(block, r + i, sums + i * pitch);
    }
  }
  void check() const { products_.check(); }

 private:
  struct Block {
    int expert, column, count;  // columns of y
  };

  int64_t row_tasks(int e) const { return ceil_div(a_.offsets[e + 1] - a_.offsets[e], kTaskRows); }
  size_t w_bytes() const {
    return kWidens ? in_lines(sizeof(C) * kTaskColumns * static_cast<size_t>(a_.k)) : 0;
  }
  static size_t sums_bytes() { return in_lines(sizeof(C) * kTaskColumns * kTileRows); }
  size_t rows_bytes() const { return in_lines(sizeof(C) * kTileRows * static_cast<size_t>(a_.k)); }

  // The columns of w[e] that give those of a block; `wide` holds them where they must be widened.
  Operand<C> columns_of_w(const Block& block, int part, C* wide) const {
    const T* w = static_cast<const T*>(a_.w) + int64_t{block.expert} * a_.n * a_.k;
    const int64_t column = part * width_ + block.column;
    const bool transposed = a_.transpose_w == Transpose::yes;
    const T* from = w + (transposed ? column * a_.k : column);
    const int64_t leading = transposed ? a_.k : a_.n;
    if constexpr (kWidens) {
      const int64_t rows = transposed ? block.count : a_.k,
                    columns = transposed ? a_.k : block.count;
      for (int64_t i = 0; i < rows; ++i)
        for (int64_t j = 0; j < columns; ++j)
          wide[i * columns + j] = static_cast<C>(from[i * leading + j]);
      return {wide, columns, a_.transpose_w};
    } else {
      return {from, leading, a_.transpose_w};
    }
  }

  // kTileRows rows of x side by side.
  const C* rows_of_x(int64_t first, int count, C* rows) const {
    if constexpr (!kWidens)
      if (!a_.row_token && count == kTileRows) return x_row<T>(a_, first);
    copy_rows<T>(a_, first, count, rows);
    std::fill(rows + int64_t{count} * a_.k, rows + int64_t{kTileRows} * a_.k, C(0));
    return rows;
  }

  // Bias, what the backward pass needs, activation.
  void finish(const Block& block, int64_t row, C* sums) const {
    C* values = sums + block.count;  // of swiglu
    for (int part = 0; part < parts_; ++part) {
      C* z = part == 0 ? sums : values;
      const int64_t column = part * width_ + block.column;
      if (a_.bias) {
        const C* bias = static_cast<const C*>(a_.bias) + int64_t{block.expert} * a_.n + column;
        for (int j = 0; j < block.count; ++j) z[j] += bias[j];
      }
      if (a_.pre) store(z, block.count, static_cast<T*>(a_.pre) + row * a_.n + column);
    }
    if (parts_ == 2)
      for (int j = 0; j < block.count; ++j) sums[j] = Silu<C>::value(sums[j]) * values[j];
    else if (a_.activation != ExpertActivation::none)
      with_function<C>(a_.activation, [&]<class Function>() {
        for (int j = 0; j < block.count; ++j) sums[j] = Function::value(sums[j]);
      });
    store(sums, block.count, static_cast<T*>(a_.y) + row * width_ + block.column);
  }
  static void store(const C* from, int count, T* to) {
    for (int j = 0; j < count; ++j) to[j] = T(from[j]);
  }

  const GroupedGemm& a_;
  int parts_, width_, columns_;
  int64_t column_tasks_;
  Products products_;
};

// ---- d_w: an expert at a time, its rows kTerms at a time, each product on all threads.

constexpr int kTerms = 1024;

template <class T>
class WeightGrad {
 public:
  using C = compute_t<T>;
  static constexpr bool kWidens = !std::is_same_v<T, C>;

  explicit WeightGrad(const GroupedGemmWeightGrad& a) : a_(a) {}

  // Whether x is gathered does not count: a workspace depends on extents alone.
  size_t x_bytes() const { return in_lines(sizeof(C) * most_terms() * static_cast<size_t>(a_.k)); }
  size_t d_y_bytes() const {
    return kWidens ? in_lines(sizeof(C) * most_terms() * static_cast<size_t>(a_.n)) : 0;
  }

  void run(WorkspacePieces scratch) {
    C* x = reinterpret_cast<C*>(scratch.take(x_bytes()));
    C* d_y = reinterpret_cast<C*>(scratch.take(d_y_bytes()));
    for (int e = 0; e < a_.experts; ++e) {
      C* d_w = static_cast<C*>(a_.d_w) + int64_t{e} * a_.n * a_.k;
      const int begin = a_.offsets[e], end = a_.offsets[e + 1];
      if (begin == end) std::fill_n(d_w, int64_t{a_.n} * a_.k, C(0));
      for (int r = begin; r < end; r += kTerms) {
        const int terms = std::min(kTerms, end - r);
        products_(a_.n, a_.k, terms, {d_y_rows(r, terms, d_y), a_.n, Transpose::yes},
                  {x_rows(r, terms, x), a_.k}, r > begin, d_w, a_.k);
      }
    }
    products_.check();
  }

 private:
  size_t most_terms() const { return static_cast<size_t>(std::min(kTerms, a_.rows)); }

  const C* x_rows(int64_t first, int terms, C* rows) const {
    if constexpr (!kWidens)
      if (!a_.row_token) return x_row<T>(a_, first);
    parallel_for(terms, 64, [&](int64_t from, int64_t to) {
      copy_rows<T>(a_, first + from, static_cast<int>(to - from), rows + from * a_.k);
    });
    return rows;
  }
  const C* d_y_rows(int64_t first, int terms, C* rows) const {
    const T* d_y = static_cast<const T*>(a_.d_y) + first * a_.n;
    if constexpr (!kWidens) return d_y;
    parallel_for(int64_t{terms} * a_.n, 16384, [&](int64_t from, int64_t to) {
      for (int64_t i = from; i < to; ++i) rows[i] = static_cast<C>(d_y[i]);
    });
    return rows;
  }

  const GroupedGemmWeightGrad& a_;
  Products products_;
};

// d_bias[e, j] = sum of d_y[r, j], rows in order.
template <class T>
void sum_columns(const GroupedGemmWeightGrad& a) {
  using C = compute_t<T>;
  constexpr int kTile = 64;  // columns whose sums are on the stack at once
  const auto tiles = static_cast<int>(ceil_div(a.n, kTile));
  parallel_for(int64_t{a.experts} * tiles, 1, [&](int64_t from, int64_t to) {
    for (int64_t task = from; task < to; ++task) {
      const int64_t e = task / tiles, first = task % tiles * kTile;
      const auto columns = static_cast<size_t>(std::min<int64_t>(kTile, a.n - first));
      std::array<C, kTile> sums{};
      for (int64_t r = a.offsets[e]; r < a.offsets[e + 1]; ++r) {
        const T* row = static_cast<const T*>(a.d_y) + r * a.n + first;
        for (size_t j = 0; j < columns; ++j) sums[j] += static_cast<C>(row[j]);
      }
      std::copy_n(sums.begin(), columns, static_cast<C*>(a.d_bias) + e * a.n + first);
    }
  });
}

// Rows from `used` on, of `width` values.
void clear(void* y, int64_t used, int64_t rows, int64_t width, Dtype dtype) {
  if (rows > used && width > 0)
    std::memset(at(y, used * width, dtype), 0,
                static_cast<size_t>((rows - used) * width) * size_of(dtype));
}

}  // namespace

size_t grouped_gemm_workspace(Cpu, const GroupedGemm& a) {
  size_t bytes = 0;
  if (has_valid_extents(a))
    with_float(a.dtype, [&]<class T>() {
      bytes = Forward<T>(a).scratch_bytes() * static_cast<size_t>(omp_get_max_threads());
      return Status::ok;
    });
  return bytes;
}

Status grouped_gemm(Cpu on, const GroupedGemm& a) {
  if (!is_valid(a) || (a.activation == ExpertActivation::swiglu && a.n % 2 != 0))
    return Status::bad_args;
  if (on.workspace_bytes < grouped_gemm_workspace(on, a)) return Status::small_workspace;
  return with_float(a.dtype, [&]<class T>() {
    return guarded([&] {
      const int used = a.offsets[a.experts];
      clear(a.y, used, a.rows, activated_width(a.activation, a.n), a.dtype);
      if (a.pre) clear(a.pre, used, a.rows, a.n, a.dtype);
      Forward<T> product(a);
      const size_t bytes = product.scratch_bytes();
      parallel_tasks(product.tasks(), [&](int64_t task, int thread) {
        char* scratch = static_cast<char*>(on.workspace) + static_cast<size_t>(thread) * bytes;
        product.run(task, WorkspacePieces({on.context, scratch, bytes}));
      });
      product.check();
      return Status::ok;
    });
  });
}

size_t grouped_gemm_weight_grad_workspace(Cpu, const GroupedGemmWeightGrad& a) {
  size_t bytes = 0;
  if (has_valid_extents(a))
    with_float(a.dtype, [&]<class T>() {
      const WeightGrad<T> product(a);
      bytes = product.x_bytes() + product.d_y_bytes();
      return Status::ok;
    });
  return bytes;
}

Status grouped_gemm_weight_grad(Cpu on, const GroupedGemmWeightGrad& a) {
  if (!is_valid(a)) return Status::bad_args;
  if (on.workspace_bytes < grouped_gemm_weight_grad_workspace(on, a))
    return Status::small_workspace;
  return with_float(a.dtype, [&]<class T>() {
    return guarded([&] {
      if (a.d_bias) sum_columns<T>(a);
      WeightGrad<T>(a).run(WorkspacePieces(on));
      return Status::ok;
    });
  });
}

}  // namespace moat::kernels
