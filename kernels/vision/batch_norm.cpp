#include "kernels/vision/batch_norm.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "kernels/parallel.h"

namespace moat::kernels {

namespace {

constexpr int64_t kGrain = 16384;         // elements a thread takes at least
constexpr int64_t kBlockElements = 8192;  // summed in one go: fits the first-level cache
constexpr int64_t kMinBlockRows = 64;
constexpr int64_t kTile = 512;  // columns whose sums are on the stack at once
constexpr int64_t kMinLine = 32;

// Rows are walked in lines of `width` elements: one row, or several where a row is too short for
// vector instructions. Per-channel numbers are repeated to the length of a line.
struct Lines {
  int64_t rows, channels, width;

  Lines(int64_t num_rows, int64_t num_channels)
      : rows(num_rows),
        channels(num_channels),
        width(channels * std::max<int64_t>(1, (kMinLine + channels - 1) / channels)) {}

  int64_t block_rows() const { return std::max(kMinBlockRows, kBlockElements / channels); }
  int64_t blocks() const { return (rows + block_rows() - 1) / block_rows(); }
  int64_t rows_of(int64_t block) const {
    return std::min(block_rows(), rows - block * block_rows());
  }
  int64_t grain() const { return std::max<int64_t>(1, kGrain / channels); }

  // f(offset of the line's first element in the matrix, elements) for rows [from, to), within the
  // columns [column, column + columns) of a line.
  template <class F>
  void walk(int64_t from, int64_t to, int64_t column, int64_t columns, F f) const {
    for (int64_t at = from * channels; at < to * channels; at += width)
      f(at + column, std::min(columns, to * channels - at - column));
  }

  // f(column, columns) for the tiles of a line.
  template <class F>
  void tiles(F f) const {
    for (int64_t column = 0; column < width; column += kTile)
      f(column, std::min(kTile, width - column));
  }
};

// Scratch memory: two sums per block and channel, and up to four per-channel numbers by line.
struct Scratch {
  double* sums;     // [blocks, 2, channels]
  double* totals;   // [2, channels]
  double* by_line;  // [4, width], of the compute type

  static size_t bytes(const Lines& l) {
    return static_cast<size_t>((l.blocks() + 1) * 2 * l.channels + 4 * l.width) * sizeof(double);
  }
  Scratch(void* workspace, const Lines& l)
      : sums(static_cast<double*>(workspace)),
        totals(sums + l.blocks() * 2 * l.channels),
        by_line(totals + 2 * l.channels) {}
  template <class C>
  C* line(int which, const Lines& l) const {
    return reinterpret_cast<C*>(by_line) + which * l.width;
  }
};

template <class C>
double at_or(const void* values, int64_t channel, double otherwise) {
  return values ? static_cast<double>(static_cast<const C*>(values)[channel]) : otherwise;
}

// out[j] = f(channel of column j)
template <class C, class F>
void repeat(C* out, const Lines& l, F f) {
  for (int64_t j = 0; j < l.channels; ++j) out[j] = static_cast<C>(f(j));
  for (int64_t j = l.channels; j < l.width; ++j) out[j] = out[j - l.channels];
}

// Adds the columns of a tile that belong to one channel.
template <class C>
void fold_tile(const std::array<C, kTile>& tile, int64_t columns, int64_t channels, double* out) {
  for (int64_t j = 0; j < std::min(columns, channels); ++j) out[j] = 0;
  for (int64_t j = 0; j < columns; ++j) out[j % channels] += tile[static_cast<size_t>(j)];
}

// Mean and sum of squared differences from it, of one block of rows and one tile of channels.
template <class T>
void block_moments(const T* x, const Lines& l, int64_t from, int64_t to, int64_t column,
                   int64_t columns, double* mean, double* m2) {
  using C = compute_t<T>;
  const int64_t channels = std::min(columns, l.channels);
  const double rows = static_cast<double>(to - from);
  std::array<C, kTile> sum{}, square{}, center;
  l.walk(from, to, column, columns, [&](int64_t at, int64_t count) {
    for (int64_t j = 0; j < count; ++j) sum[size_t(j)] += static_cast<C>(x[at + j]);
  });
  fold_tile(sum, columns, l.channels, mean);
  for (int64_t j = 0; j < columns; ++j)
    center[size_t(j)] = static_cast<C>(mean[j % l.channels] / rows);
  sum.fill(0);
  l.walk(from, to, column, columns, [&](int64_t at, int64_t count) {
    for (int64_t j = 0; j < count; ++j) {
      const C d = static_cast<C>(x[at + j]) - center[size_t(j)];
      sum[size_t(j)] += d;
      square[size_t(j)] += d * d;
    }
  });
  // The rounding of `center` is undone by the sum of the differences from it.
  fold_tile(sum, columns, l.channels, mean);
  fold_tile(square, columns, l.channels, m2);
  for (int64_t j = 0; j < channels; ++j) {
    m2[j] -= mean[j] * mean[j] / rows;
    mean[j] = static_cast<double>(center[size_t(j)]) + mean[j] / rows;
  }
}

// totals = mean and sum of squared differences over all rows (Chan et al. 1979).
template <class T>
void moments(const T* x, const Lines& l, const Scratch& s) {
  parallel_for(l.blocks(), 1, [&](int64_t from, int64_t to) {
    for (int64_t block = from; block < to; ++block) {
      const int64_t first = block * l.block_rows();
      double* out = s.sums + block * 2 * l.channels;
      l.tiles([&](int64_t column, int64_t columns) {
        block_moments(x, l, first, first + l.rows_of(block), column, columns, out + column,
                      out + l.channels + column);
      });
    }
  });
  double *mean = s.totals, *m2 = s.totals + l.channels;
  std::fill(mean, mean + 2 * l.channels, 0);
  for (int64_t block = 0; block < l.blocks(); ++block) {
    const double share = static_cast<double>(l.rows_of(block)) / static_cast<double>(l.rows);
    const double* of_block = s.sums + block * 2 * l.channels;
    for (int64_t j = 0; j < l.channels; ++j) mean[j] += share * of_block[j];
  }
  for (int64_t block = 0; block < l.blocks(); ++block) {
    const auto rows = static_cast<double>(l.rows_of(block));
    const double* of_block = s.sums + block * 2 * l.channels;
    for (int64_t j = 0; j < l.channels; ++j) {
      const double d = of_block[j] - mean[j];
      m2[j] += of_block[l.channels + j] + rows * d * d;
    }
  }
}

// f.operator()<a, b>() with two run-time facts as compile-time ones.
template <class F>
void with_facts(bool a, bool b, F f) {
  if (a)
    b ? f.template operator()<true, true>() : f.template operator()<true, false>();
  else
    b ? f.template operator()<false, true>() : f.template operator()<false, false>();
}

// y = activation((x - center) · factor + shift + residual) with per-line numbers.
template <class T>
void normalise(const Lines& l, const void* x_in, const void* residual_in, void* y_out,
               NormActivation activation, const compute_t<T>* center, const compute_t<T>* factor,
               const compute_t<T>* shift) {
  using C = compute_t<T>;
  const auto* x = static_cast<const T*>(x_in);
  const auto* residual = static_cast<const T*>(residual_in);
  auto* y = static_cast<T*>(y_out);
  with_facts(activation == NormActivation::relu, residual, [&]<bool kRelu, bool kResidual>() {
    parallel_for(l.rows, l.grain(), [&](int64_t from, int64_t to) {
      l.walk(from, to, 0, l.width, [&](int64_t at, int64_t count) {
        for (int64_t j = 0; j < count; ++j) {
          C v = (static_cast<C>(x[at + j]) - center[j]) * factor[j] + shift[j];
          if constexpr (kResidual) v += static_cast<C>(residual[at + j]);
          if constexpr (kRelu) v = v <= 0 ? C(0) : v;
          y[at + j] = static_cast<T>(v);
        }
      });
    });
  });
}

// totals = sum of d and sum of d (x - mean).
template <class T>
void gradient_sums(const Lines& l, const Scratch& s, const BatchNormGrad& a,
                   const compute_t<T>* center) {
  using C = compute_t<T>;
  const auto *d = static_cast<const T*>(a.d), *x = static_cast<const T*>(a.x);
  parallel_for(l.blocks(), 1, [&](int64_t from, int64_t to) {
    for (int64_t block = from; block < to; ++block) {
      const int64_t first = block * l.block_rows(), last = first + l.rows_of(block);
      double* out = s.sums + block * 2 * l.channels;
      l.tiles([&](int64_t column, int64_t columns) {
        std::array<C, kTile> sum{}, product{};
        l.walk(first, last, column, columns, [&](int64_t at, int64_t count) {
          for (int64_t j = 0; j < count; ++j) {
            const C v = static_cast<C>(d[at + j]);
            sum[size_t(j)] += v;
            product[size_t(j)] += v * (static_cast<C>(x[at + j]) - center[column + j]);
          }
        });
        fold_tile(sum, columns, l.channels, out + column);
        fold_tile(product, columns, l.channels, out + l.channels + column);
      });
    }
  });
  std::fill(s.totals, s.totals + 2 * l.channels, 0);
  for (int64_t block = 0; block < l.blocks(); ++block)
    for (int64_t j = 0; j < 2 * l.channels; ++j) s.totals[j] += s.sums[block * 2 * l.channels + j];
}

// d_x = factor · (d - shift - (x - center) · slope); the last two terms only for statistics of the
// batch.
template <class T>
void input_gradient(const Lines& l, const BatchNormGrad& a, const compute_t<T>* center,
                    const compute_t<T>* factor, const compute_t<T>* shift,
                    const compute_t<T>* slope) {
  using C = compute_t<T>;
  const auto *d = static_cast<const T*>(a.d), *x = static_cast<const T*>(a.x);
  auto* d_x = static_cast<T*>(a.d_x);
  const bool batch = a.statistics == NormStatistics::batch;
  parallel_for(l.rows, l.grain(), [&](int64_t from, int64_t to) {
    l.walk(from, to, 0, l.width, [&](int64_t at, int64_t count) {
      if (batch)
        for (int64_t j = 0; j < count; ++j)
          d_x[at + j] =
              static_cast<T>(factor[j] * (static_cast<C>(d[at + j]) - shift[j] -
                                          (static_cast<C>(x[at + j]) - center[j]) * slope[j]));
      else
        for (int64_t j = 0; j < count; ++j)
          d_x[at + j] = static_cast<T>(factor[j] * static_cast<C>(d[at + j]));
    });
  });
}

double inverse_deviation(double var, double epsilon) { return 1 / std::sqrt(var + epsilon); }

}  // namespace

size_t batch_norm_train_workspace(Cpu, const BatchNormTrain& a) {
  return a.channels > 0 && a.rows > 0 ? Scratch::bytes(Lines(a.rows, a.channels)) : 0;
}

Status batch_norm_train(Cpu on, const BatchNormTrain& a) {
  if (a.rows < 2 || a.channels < 1) return Status::bad_args;
  if (on.workspace_bytes < batch_norm_train_workspace(on, a)) return Status::small_workspace;
  return with_float(a.dtype, [&]<class T>() {
    using C = compute_t<T>;
    const Lines l(a.rows, a.channels);
    const Scratch s(on.workspace, l);
    moments(static_cast<const T*>(a.x), l, s);
    auto *mean = static_cast<C*>(a.mean), *inv_std = static_cast<C*>(a.inv_std);
    auto *running_mean = static_cast<C*>(a.running_mean),
         *running_var = static_cast<C*>(a.running_var);
    const double keep = 1 - a.momentum;
    for (int64_t j = 0; j < a.channels; ++j) {
      const double m2 = s.totals[l.channels + j];
      mean[j] = static_cast<C>(s.totals[j]);
      inv_std[j] = static_cast<C>(inverse_deviation(m2 / static_cast<double>(a.rows), a.epsilon));
      if (running_mean)
        running_mean[j] = static_cast<C>(keep * running_mean[j] + a.momentum * s.totals[j]);
      if (running_var)
        running_var[j] = static_cast<C>(keep * running_var[j] +
                                        a.momentum * m2 / static_cast<double>(a.rows - 1));
    }
    C *center = s.line<C>(0, l), *factor = s.line<C>(1, l), *shift = s.line<C>(2, l);
    repeat(center, l, [&](int64_t j) { return mean[j]; });
    repeat(factor, l, [&](int64_t j) { return at_or<C>(a.gamma, j, 1) * inv_std[j]; });
    repeat(shift, l, [&](int64_t j) { return at_or<C>(a.beta, j, 0); });
    normalise<T>(l, a.x, a.residual, a.y, a.activation, center, factor, shift);
    return Status::ok;
  });
}

size_t batch_norm_eval_workspace(Cpu, const BatchNormEval& a) {
  return a.channels > 0 ? Scratch::bytes(Lines(0, a.channels)) : 0;
}

Status batch_norm_eval(Cpu on, const BatchNormEval& a) {
  if (a.rows < 0 || a.channels < 1) return Status::bad_args;
  if (on.workspace_bytes < batch_norm_eval_workspace(on, a)) return Status::small_workspace;
  return with_float(a.dtype, [&]<class T>() {
    using C = compute_t<T>;
    const Lines l(a.rows, a.channels);
    const Scratch s(on.workspace, Lines(0, a.channels));
    auto* inv_std = static_cast<C*>(a.inv_std);
    for (int64_t j = 0; j < a.channels; ++j)
      inv_std[j] = static_cast<C>(inverse_deviation(at_or<C>(a.var, j, 1), a.epsilon));
    C *center = s.line<C>(0, l), *factor = s.line<C>(1, l), *shift = s.line<C>(2, l);
    repeat(center, l, [&](int64_t j) { return at_or<C>(a.mean, j, 0); });
    repeat(factor, l, [&](int64_t j) { return at_or<C>(a.gamma, j, 1) * inv_std[j]; });
    repeat(shift, l, [&](int64_t j) { return at_or<C>(a.beta, j, 0); });
    normalise<T>(l, a.x, a.residual, a.y, a.activation, center, factor, shift);
    return Status::ok;
  });
}

size_t batch_norm_grad_workspace(Cpu, const BatchNormGrad& a) {
  return a.channels > 0 && a.rows >= 0 ? Scratch::bytes(Lines(a.rows, a.channels)) : 0;
}

Status batch_norm_grad(Cpu on, const BatchNormGrad& a) {
  const bool batch = a.statistics == NormStatistics::batch;
  if (a.rows < 0 || a.channels < 1) return Status::bad_args;
  const bool sums = a.d_gamma || a.d_beta || (batch && a.d_x);
  if ((batch || a.d_gamma || a.d_beta) && !a.x && a.rows > 0) return Status::bad_args;
  if (on.workspace_bytes < batch_norm_grad_workspace(on, a)) return Status::small_workspace;
  return with_float(a.dtype, [&]<class T>() {
    using C = compute_t<T>;
    const Lines l(a.rows, a.channels);
    const Scratch s(on.workspace, l);
    const auto *mean = static_cast<const C*>(a.mean), *inv_std = static_cast<const C*>(a.inv_std);
    C *center = s.line<C>(0, l), *factor = s.line<C>(1, l), *shift = s.line<C>(2, l),
      *slope = s.line<C>(3, l);
    if (a.x) repeat(center, l, [&](int64_t j) { return mean[j]; });
    repeat(factor, l, [&](int64_t j) { return at_or<C>(a.gamma, j, 1) * inv_std[j]; });
    if (sums) {
      gradient_sums<T>(l, s, a, center);
      const double *d = s.totals, *d_x = s.totals + l.channels;
      for (int64_t j = 0; j < l.channels; ++j) {
        if (a.d_beta) static_cast<C*>(a.d_beta)[j] = static_cast<C>(d[j]);
        if (a.d_gamma) static_cast<C*>(a.d_gamma)[j] = static_cast<C>(d_x[j] * inv_std[j]);
      }
      const auto rows = static_cast<double>(a.rows);
      repeat(shift, l, [&](int64_t j) { return d[j] / rows; });
      repeat(slope, l, [&](int64_t j) {
        return d_x[j] * static_cast<double>(inv_std[j]) * inv_std[j] / rows;
      });
    }
    if (a.d_x) input_gradient<T>(l, a, center, factor, shift, slope);
    return Status::ok;
  });
}

Status batch_norm_fold(Cpu, const BatchNormFold& a) {
  if (a.channels < 0 || a.filter_size < 0) return Status::bad_args;
  if (a.dtype == Dtype::bf16) return Status::unsupported;
  return with_float(a.dtype, [&]<class T>() {
    using C = compute_t<T>;
    const auto* filter = static_cast<const T*>(a.filter);
    auto *folded = static_cast<T*>(a.folded), *bias = static_cast<T*>(a.bias);
    for (int64_t j = 0; j < a.channels; ++j) {
      const double factor =
          at_or<C>(a.gamma, j, 1) * inverse_deviation(at_or<C>(a.var, j, 1), a.epsilon);
      bias[j] =
          static_cast<T>(static_cast<C>(at_or<C>(a.beta, j, 0) - at_or<C>(a.mean, j, 0) * factor));
      for (int64_t i = j * a.filter_size; i < (j + 1) * a.filter_size; ++i)
        folded[i] = static_cast<T>(static_cast<C>(static_cast<C>(filter[i]) * factor));
    }
    return Status::ok;
  });
}

}  // namespace moat::kernels
