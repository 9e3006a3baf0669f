#include "kernels/grouped_gemm.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <type_traits>

#include "kernels/activation_functions.h"
#include "kernels/index_range.h"
#include "kernels/packed_product.h"
#include "kernels/parallel.h"
#include "kernels/pieces.h"
#include "kernels/segments.h"

namespace moat::kernels {

namespace {

template <class Grouped>
bool is_valid(const Grouped& a) {
  if (a.rows < 0 || a.x_rows < 0 || a.n < 0 || a.k < 0 || !are_segments(a.offsets, a.experts) ||
      a.offsets[a.experts] > a.rows)
    return false;
  const int used = a.offsets[a.experts];
  return a.row_token ? indices_in_range(a.row_token, used, a.x_rows) : used <= a.x_rows;
}

template <class T, class Grouped>
const T* x_row(const Grouped& a, int64_t row) {
  return static_cast<const T*>(a.x) + (a.row_token ? a.row_token[row] : row) * int64_t{a.k};
}

int pieces(int count, int size) { return count / size + (count % size != 0); }

// Block sizes: a panel of b and the rows that meet it stay in the first-level cache, all panels of
// a task and a block of its sums in the second.
constexpr int kRowBlock = 48, kDepth = 256;

// ---- y: a task packs some columns of w[e] and takes up to kTaskRows rows of e through them.

constexpr int kTaskColumns = 256, kTaskRows = 1024;

template <class T>
class Forward {
 public:
  using C = compute_t<T>;

  explicit Forward(const GroupedGemm& a)
      : a_(a),
        parts_(a.activation == ExpertActivation::swiglu ? 2 : 1),
        width_(activated_width(a.activation, a.n)),
        columns_(kTaskColumns / parts_),
        column_tasks_(pieces(width_, columns_)) {}

  int64_t tasks() const {
    int64_t count = 0;
    for (int e = 0; e < a_.experts; ++e) count += row_tasks(e);
    return count * column_tasks_;
  }
  size_t scratch_bytes() const { return w_bytes() + sums_bytes() + rows_bytes(); }

  void run(int64_t task, Pieces scratch) const {
    int64_t left = task / column_tasks_;
    int e = 0;
    while (left >= row_tasks(e)) left -= row_tasks(e++);
    const int from = a_.offsets[e] + static_cast<int>(left) * kTaskRows,
              to = std::min(a_.offsets[e + 1], from + kTaskRows),
              column = static_cast<int>(task % column_tasks_) * columns_;
    Block block{e, column, std::min(columns_, width_ - column)};
    block.panels = pieces(block.count, kProductColumns<C>);
    block.pitch = int64_t{parts_} * block.panels * kProductColumns<C>;
    C* w = reinterpret_cast<C*>(scratch.take(w_bytes()));
    C* sums = reinterpret_cast<C*>(scratch.take(sums_bytes()));
    C* rows = reinterpret_cast<C*>(scratch.take(rows_bytes()));
    pack(block, w);
    for (int r = from; r < to; r += kRowBlock) {
      const int count = std::min(kRowBlock, to - r);
      multiply(block, r, count, w, sums, rows);
      for (int i = 0; i < count; ++i) finish(block, r + i, sums + i * block.pitch);
    }
  }

 private:
  struct Block {
    int expert, column, count;  // columns of y
    int panels = 0;             // of each part
    int64_t pitch = 0;          // of sums
  };

  int row_tasks(int e) const { return pieces(a_.offsets[e + 1] - a_.offsets[e], kTaskRows); }
  int64_t most_pitch() const { return kTaskColumns + 2 * kProductColumns<C>; }
  size_t w_bytes() const { return in_lines(sizeof(C) * static_cast<size_t>(most_pitch() * a_.k)); }
  size_t sums_bytes() const {
    return in_lines(sizeof(C) * static_cast<size_t>(most_pitch() * kRowBlock));
  }
  size_t rows_bytes() const {  // of x in the compute type
    return std::is_same_v<T, C> ? 0 : in_lines(sizeof(C) * kRowBlock * static_cast<size_t>(a_.k));
  }

  // w as panels [depth, kProductColumns], kDepth terms at a time; zeros beside the last column.
  void pack(const Block& block, C* to) const {
    const T* w = static_cast<const T*>(a_.w) + int64_t{block.expert} * a_.n * a_.k;
    const bool transposed = a_.transpose_w == Transpose::yes;
    const int64_t step = transposed ? 1 : a_.n, column_step = transposed ? a_.k : 1;
    constexpr int kColumns = kProductColumns<C>;
    for (int p = 0; p < a_.k; p += kDepth) {
      const int depth = std::min(kDepth, a_.k - p);
      for (int part = 0; part < parts_; ++part)
        for (int j = 0; j < block.panels * kColumns; j += kColumns, to += depth * kColumns) {
          const T* from = w + p * step + (part * width_ + block.column + j) * column_step;
          const int count = std::min(kColumns, block.count - j);
          if (transposed)
            for (int c = 0; c < kColumns; ++c)
              for (int q = 0; q < depth; ++q)
                to[q * kColumns + c] = c < count ? static_cast<C>(from[c * column_step + q]) : C(0);
          else
            for (int q = 0; q < depth; ++q)
              for (int c = 0; c < kColumns; ++c)
                to[q * kColumns + c] = c < count ? static_cast<C>(from[q * step + c]) : C(0);
        }
    }
  }

  void multiply(const Block& block, int row, int count, const C* w, C* sums, C* rows) const {
    std::array<const C*, kRowBlock> x;
    for (int i = 0; i < count; ++i) {
      const T* from = x_row<T>(a_, row + i);
      if constexpr (std::is_same_v<T, C>) {
        x[static_cast<size_t>(i)] = from;
      } else {
        C* wide = rows + int64_t{i} * a_.k;
        for (int p = 0; p < a_.k; ++p) wide[p] = static_cast<C>(from[p]);
        x[static_cast<size_t>(i)] = wide;
      }
    }
    std::fill_n(sums, kRowBlock * block.pitch, C(0));
    for (int p = 0; p < a_.k; p += kDepth) {
      const int depth = std::min(kDepth, a_.k - p);
      multiply_block<1>(
          count, [&](int i) { return x[static_cast<size_t>(i)] + p; }, w + p * block.pitch,
          parts_ * block.panels, depth, sums, block.pitch);
    }
  }

  // Bias, what the backward pass needs, activation.
  void finish(const Block& block, int64_t row, C* sums) const {
    C* values = sums + block.panels * kProductColumns<C>;  // of swiglu
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
  int parts_, width_, columns_, column_tasks_;
};

// ---- d_w: a task takes the rows of an expert, kTerms at a time, through a block of d_w[e].

constexpr int kGradRows = 96, kGradColumns = 384, kTerms = 128;

template <class T>
class WeightGrad {
 public:
  using C = compute_t<T>;

  explicit WeightGrad(const GroupedGemmWeightGrad& a)
      : a_(a), row_tasks_(pieces(a.n, kGradRows)), column_tasks_(pieces(a.k, kGradColumns)) {}

  int64_t tasks() const { return int64_t{a_.experts} * row_tasks_ * column_tasks_; }
  size_t scratch_bytes() const {
    return sizeof(C) * (kGradRows * kMostColumns + kTerms * kMostColumns + kGradRows * kTerms);
  }

  void run(int64_t task, Pieces scratch) const {
    const int column = static_cast<int>(task % column_tasks_) * kGradColumns,
              row = static_cast<int>(task / column_tasks_ % row_tasks_) * kGradRows,
              e = static_cast<int>(task / column_tasks_ / row_tasks_);
    const int rows = std::min(kGradRows, a_.n - row),
              columns = std::min(kGradColumns, a_.k - column);
    const int panels = pieces(columns, kProductColumns<C>);
    const int64_t pitch = int64_t{panels} * kProductColumns<C>;
    C* sums = reinterpret_cast<C*>(scratch.take(sizeof(C) * kGradRows * kMostColumns));
    C* x = reinterpret_cast<C*>(scratch.take(sizeof(C) * kTerms * kMostColumns));
    C* d_y = reinterpret_cast<C*>(scratch.take(sizeof(C) * kGradRows * kTerms));
    std::fill_n(sums, kGradRows * pitch, C(0));
    for (int r = a_.offsets[e]; r < a_.offsets[e + 1]; r += kTerms) {
      const int depth = std::min(kTerms, a_.offsets[e + 1] - r);
      pack_rows(r, depth, row, rows, d_y);
      pack_columns(r, depth, column, columns, x);
      multiply_block<kProductRows>(
          rows, [&](int i) { return d_y + i / kProductRows * kGroup + i % kProductRows; }, x,
          panels, depth, sums, pitch);
    }
    for (int i = 0; i < rows; ++i)
      std::copy_n(sums + i * pitch, columns,
                  static_cast<C*>(a_.d_w) + (int64_t{e} * a_.n + row + i) * a_.k + column);
  }

 private:
  static constexpr int kMostColumns = kGradColumns + kProductColumns<C>;

  static constexpr int kGroup = kTerms * kProductRows;

  // Columns of d_y, the rows of d_w, in groups [depth, kProductRows].
  void pack_rows(int r, int depth, int row, int rows, C* to) const {
    for (int p = 0; p < depth; ++p) {
      const T* from = static_cast<const T*>(a_.d_y) + int64_t{r + p} * a_.n + row;
      C* group = to + p * kProductRows;
      int i = 0;
      for (; i + kProductRows <= rows; i += kProductRows, group += kGroup)
        if constexpr (std::is_same_v<T, C>)
          std::memcpy(group, from + i, kProductRows * sizeof(C));
        else
          for (int c = 0; c < kProductRows; ++c) group[c] = static_cast<C>(from[i + c]);
      for (int c = 0; i + c < rows; ++c) group[c] = static_cast<C>(from[i + c]);
    }
  }
  // Columns of x in panels [depth, kProductColumns]; zeros beside the last one.
  void pack_columns(int r, int depth, int column, int columns, C* to) const {
    constexpr int kColumns = kProductColumns<C>;
    for (int p = 0; p < depth; ++p) {
      const T* from = x_row<T>(a_, r + p) + column;
      C* panel = to + p * kColumns;
      int j = 0;
      for (; j + kColumns <= columns; j += kColumns, panel += depth * kColumns)
        for (int c = 0; c < kColumns; ++c) panel[c] = static_cast<C>(from[j + c]);
      if (j < columns)
        for (int c = 0; c < kColumns; ++c)
          panel[c] = j + c < columns ? static_cast<C>(from[j + c]) : C(0);
    }
  }

  const GroupedGemmWeightGrad& a_;
  int row_tasks_, column_tasks_;
};

// d_bias[e, j] = sum of d_y[r, j], rows in order.
template <class T>
void sum_columns(const GroupedGemmWeightGrad& a) {
  using C = compute_t<T>;
  constexpr int kTile = 64;  // columns whose sums are on the stack at once
  const int tiles = pieces(a.n, kTile);
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

// Scratch memory for every thread.
template <class Product>
size_t workspace(const Product& product) {
  return product.scratch_bytes() * static_cast<size_t>(omp_get_max_threads());
}

template <class Product>
Status run(Cpu on, const Product& product) {
  const size_t bytes = product.scratch_bytes();
  parallel_tasks(product.tasks(), [&](int64_t task, int thread) {
    char* scratch = static_cast<char*>(on.workspace) + static_cast<size_t>(thread) * bytes;
    product.run(task, Pieces({on.context, scratch, bytes}));
  });
  return Status::ok;
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
  if (is_valid(a))
    with_float(a.dtype, [&]<class T>() {
      bytes = workspace(Forward<T>(a));
      return Status::ok;
    });
  return bytes;
}

Status grouped_gemm(Cpu on, const GroupedGemm& a) {
  if (!is_valid(a) || (a.activation == ExpertActivation::swiglu && a.n % 2 != 0))
    return Status::bad_args;
  return with_float(a.dtype, [&]<class T>() {
    const Forward<T> product(a);
    if (on.workspace_bytes < workspace(product)) return Status::small_workspace;
    const int used = a.offsets[a.experts];
    clear(a.y, used, a.rows, activated_width(a.activation, a.n), a.dtype);
    if (a.pre) clear(a.pre, used, a.rows, a.n, a.dtype);
    return run(on, product);
  });
}

size_t grouped_gemm_weight_grad_workspace(Cpu, const GroupedGemmWeightGrad& a) {
  size_t bytes = 0;
  if (is_valid(a))
    with_float(a.dtype, [&]<class T>() {
      bytes = workspace(WeightGrad<T>(a));
      return Status::ok;
    });
  return bytes;
}

Status grouped_gemm_weight_grad(Cpu on, const GroupedGemmWeightGrad& a) {
  if (!is_valid(a)) return Status::bad_args;
  return with_float(a.dtype, [&]<class T>() {
    const WeightGrad<T> product(a);
    if (on.workspace_bytes < workspace(product)) return Status::small_workspace;
    if (a.d_bias) sum_columns<T>(a);
    return run(on, product);
  });
}

}  // namespace moat::kernels
