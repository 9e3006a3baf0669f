#include "kernels/attention/attention.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <type_traits>

#include "kernels/basic/exponential.h"
#include "kernels/library/product.h"
#include "kernels/parallel.h"
#include "kernels/workspace_pieces.h"

namespace moat::kernels {

namespace {

// An image's head is one thread's task: products of kRows queries with all keys by oneDNN, so that
// the scores of a task are [kRows, tokens]. Every product's extents follow from the tokens and the
// head's width alone, and with them its bits.
constexpr int kRows = 64;

template <class Args>
bool is_valid(const Args& a) {
  return a.batch >= 0 && a.tokens >= 0 && a.heads >= 1 && a.head_width >= 1 &&
         a.head_width <= kMostHeadWidth;
}

// Scratch memory: kRows rows of scores, and a value for each of a head's rows and columns.
template <class C, class Args>
size_t scores_bytes(const Args& a) {
  return in_lines(sizeof(C) * static_cast<size_t>(kRows * int64_t{a.tokens}));
}
template <class C, class Args>
size_t rows_bytes(const Args& a) {
  return in_lines(sizeof(C) * static_cast<size_t>(int64_t{a.tokens} * a.head_width));
}

enum class Part { q, k, v };

// Where the rows of a head lie: [tokens, head_width] with `leading` values from row to row.
template <class T>
struct Head {
  T* rows;
  int64_t leading;
};
template <class T, class Args, class Any>
Head<T> head_of_qkv(const Args& a, Any* qkv, int64_t image, int64_t head, Part part) {
  const int64_t leading = int64_t{3} * a.heads * a.head_width;
  return {static_cast<T*>(qkv) + image * a.tokens * leading +
              (int64_t(part) * a.heads + head) * a.head_width,
          leading};
}
template <class T, class Args, class Any>
Head<T> head_of_y(const Args& a, Any* y, int64_t image, int64_t head) {
  const int64_t leading = int64_t{a.heads} * a.head_width;
  return {static_cast<T*>(y) + image * a.tokens * leading + head * a.head_width, leading};
}

// The rows of a head in the compute type: themselves, or widened side by side into `wide`.
template <class T>
Operand<compute_t<T>> operand(const Head<const T>& head, int tokens, int width,
                              compute_t<T>* wide) {
  if constexpr (std::is_same_v<T, compute_t<T>>) {
    return {head.rows, head.leading};
  } else {
    for (int64_t i = 0; i < tokens; ++i)
      std::copy_n(head.rows + i * head.leading, width, wide + i * width);
    return {wide, width};
  }
}
template <class C>
Operand<C> from_row(const Operand<C>& x, int64_t row) {
  return {x.data + row * x.leading, x.leading};
}
template <class C>
Operand<C> transposed(const Operand<C>& x) {
  return {x.data, x.leading, Transpose::yes};
}

// op over n values: 16 interleaved results, combined pairwise.
template <class C, class Value, class Op>
C interleaved(int n, C start, Value&& value, Op&& op) {
  constexpr int kLanes = 16;
  std::array<C, kLanes> lanes;
  lanes.fill(start);
  int i = 0;
  for (; i + kLanes <= n; i += kLanes)
    for (int lane = 0; lane < kLanes; ++lane)
      lanes[static_cast<size_t>(lane)] = op(lanes[static_cast<size_t>(lane)], value(i + lane));
  for (size_t lane = 0; i < n; ++i, ++lane) lanes[lane] = op(lanes[lane], value(i));
  for (size_t half = kLanes / 2; half > 0; half /= 2)
    for (size_t lane = 0; lane < half; ++lane) lanes[lane] = op(lanes[lane], lanes[lane + half]);
  return lanes[0];
}

// The largest score, and the sum of exp(scale (score - max)).
template <class C>
struct RowSum {
  C max, sum;
};
// Leaves the exponentials in place of the scores.
template <class C>
RowSum<C> exponentials(C* scores, int n, C scale) {
  const C max = interleaved(
      n, -std::numeric_limits<C>::infinity(), [&](int i) { return scores[i]; },
      [](C a, C b) { return a < b ? b : a; });
  for (int i = 0; i < n; ++i) scores[i] = exp_not_positive((scores[i] - max) * scale);
  return {max, interleaved(
                   n, C(0), [&](int i) { return scores[i]; }, [](C a, C b) { return a + b; })};
}

template <class T>
class Forward {
 public:
  using C = compute_t<T>;
  static constexpr bool kWidens = !std::is_same_v<T, C>;

  explicit Forward(const Attention& a)
      : a_(a), scale_(static_cast<C>(1 / std::sqrt(double(a.head_width)))) {}

  size_t scratch_bytes() const {
    return scores_bytes<C>(a_) + (kWidens ? 3 * rows_bytes<C>(a_) + y_bytes() : 0);
  }

  void run(int64_t task, WorkspacePieces scratch) {
    const OneThreadScope one_thread;
    const int64_t image = task / a_.heads, head = task % a_.heads;
    const int width = a_.head_width;
    C* scores = reinterpret_cast<C*>(scratch.take(scores_bytes<C>(a_)));
    std::array<Operand<C>, 3> qkv;
    for (Part part : {Part::q, Part::k, Part::v})
      qkv[size_t(part)] =
          operand<T>(head_of_qkv<const T>(a_, a_.qkv, image, head, part), a_.tokens, width,
                     kWidens ? reinterpret_cast<C*>(scratch.take(rows_bytes<C>(a_))) : nullptr);
    const auto& [q, k, v] = qkv;
    const Head<T> y = head_of_y<T>(a_, a_.y, image, head);
    C* wide_y = kWidens ? reinterpret_cast<C*>(scratch.take(y_bytes())) : nullptr;
    C* log_sum_exp = static_cast<C*>(a_.log_sum_exp) + task * a_.tokens;
    for (int row = 0; row < a_.tokens; row += kRows) {
      const int count = std::min(kRows, a_.tokens - row);
      products_(count, a_.tokens, width, from_row(q, row), transposed(k), false, scores, a_.tokens);
      std::array<C, kRows> sums;
      for (int i = 0; i < count; ++i) {
        const auto [max, sum] = exponentials(scores + int64_t{i} * a_.tokens, a_.tokens, scale_);
        sums[size_t(i)] = sum;
        log_sum_exp[row + i] = max * scale_ + std::log(sum);
      }
      T* to = y.rows + row * y.leading;
      C* product = wide_y;
      int64_t leading = width;
      if constexpr (!kWidens) product = to, leading = y.leading;
      products_(count, width, a_.tokens, {scores, a_.tokens}, v, false, product, leading);
      for (int i = 0; i < count; ++i)
        for (int j = 0; j < width; ++j)
          to[i * y.leading + j] = T(product[i * leading + j] / sums[size_t(i)]);
    }
  }
  void check() const { products_.check(); }

 private:
  size_t y_bytes() const {
    return in_lines(sizeof(C) * static_cast<size_t>(kRows * a_.head_width));
  }

  const Attention& a_;
  C scale_;
  Products products_;
};

template <class T>
class Backward {
 public:
  using C = compute_t<T>;
  static constexpr bool kWidens = !std::is_same_v<T, C>;

  explicit Backward(const AttentionGrad& a)
      : a_(a), scale_(static_cast<C>(1 / std::sqrt(double(a.head_width)))) {}

  size_t scratch_bytes() const {
    return 2 * scores_bytes<C>(a_) + (kWidens ? 7 * rows_bytes<C>(a_) : 0);
  }

  void run(int64_t task, WorkspacePieces scratch) {
    const OneThreadScope one_thread;
    const int64_t image = task / a_.heads, head = task % a_.heads;
    const int width = a_.head_width;
    const auto take_rows = [&] {
      return kWidens ? reinterpret_cast<C*>(scratch.take(rows_bytes<C>(a_))) : nullptr;
    };
    C* p = reinterpret_cast<C*>(scratch.take(scores_bytes<C>(a_)));
    C* d_s = reinterpret_cast<C*>(scratch.take(scores_bytes<C>(a_)));
    std::array<Operand<C>, 3> qkv;
    std::array<Head<C>, 3> d_qkv;  // summed in the compute type
    for (Part part : {Part::q, Part::k, Part::v}) {
      qkv[size_t(part)] = operand<T>(head_of_qkv<const T>(a_, a_.qkv, image, head, part), a_.tokens,
                                     width, take_rows());
      if constexpr (kWidens)
        d_qkv[size_t(part)] = {take_rows(), width};
      else
        d_qkv[size_t(part)] = head_of_qkv<C>(a_, a_.d_qkv, image, head, part);
    }
    const auto& [q, k, v] = qkv;
    const auto& [d_q, d_k, d_v] = d_qkv;
    const Operand<C> d_y =
        operand<T>(head_of_y<const T>(a_, a_.d_y, image, head), a_.tokens, width, take_rows());
    const Head<const T> y = head_of_y<const T>(a_, a_.y, image, head);
    const C* log_sum_exp = static_cast<const C*>(a_.log_sum_exp) + task * a_.tokens;
    const int64_t tokens = a_.tokens;
    for (int row = 0; row < a_.tokens; row += kRows) {
      const int count = std::min(kRows, a_.tokens - row);
      const Operand<C> q_rows = from_row(q, row), d_y_rows = from_row(d_y, row);
      products_(count, a_.tokens, width, q_rows, transposed(k), false, p, tokens);
      products_(count, a_.tokens, width, d_y_rows, transposed(v), false, d_s, tokens);
      for (int i = 0; i < count; ++i) {
        const T* y_row = y.rows + (row + i) * y.leading;
        const C* d_y_row = d_y_rows.data + i * d_y_rows.leading;
        const C d = interleaved(
            width, C(0), [&](int j) { return C(y_row[j]) * d_y_row[j]; },
            [](C a, C b) { return a + b; });
        const C lse = log_sum_exp[row + i];
        C *p_row = p + i * tokens, *d_s_row = d_s + i * tokens;
        for (int j = 0; j < a_.tokens; ++j) {
          // Rounding may leave a score above its log-sum-exp.
          const C distance = p_row[j] * scale_ - lse;
          p_row[j] = exp_not_positive(distance > 0 ? C(0) : distance);
          d_s_row[j] = p_row[j] * (d_s_row[j] - d) * scale_;
        }
      }
      const Operand<C> p_rows{p, tokens}, d_s_rows{d_s, tokens};
      products_(count, width, a_.tokens, d_s_rows, k, false, d_q.rows + row * d_q.leading,
                d_q.leading);
      products_(a_.tokens, width, count, transposed(d_s_rows), q_rows, row > 0, d_k.rows,
                d_k.leading);
      products_(a_.tokens, width, count, transposed(p_rows), d_y_rows, row > 0, d_v.rows,
                d_v.leading);
    }
    if constexpr (kWidens)
      for (Part part : {Part::q, Part::k, Part::v}) {
        const Head<T> to = head_of_qkv<T>(a_, a_.d_qkv, image, head, part);
        const C* from = d_qkv[size_t(part)].rows;
        for (int64_t i = 0; i < tokens; ++i)
          for (int j = 0; j < width; ++j) to.rows[i * to.leading + j] = T(from[i * width + j]);
      }
  }
  void check() const { products_.check(); }

 private:
  const AttentionGrad& a_;
  C scale_;
  Products products_;
};

template <template <class> class Pass, class Args>
size_t workspace(const Args& a) {
  size_t bytes = 0;
  if (is_valid(a))
    with_float(a.dtype, [&]<class T>() {
      bytes = Pass<T>(a).scratch_bytes() * static_cast<size_t>(omp_get_max_threads());
      return Status::ok;
    });
  return bytes;
}

template <template <class> class Pass, class Args>
Status run(Cpu on, const Args& a) {
  if (!is_valid(a)) return Status::bad_args;
  if (on.workspace_bytes < workspace<Pass>(a)) return Status::small_workspace;
  if (a.tokens == 0) return Status::ok;
  return with_float(a.dtype, [&]<class T>() {
    return guarded([&] {
      Pass<T> pass(a);
      const size_t bytes = pass.scratch_bytes();
      parallel_tasks(int64_t{a.batch} * a.heads, [&](int64_t task, int thread) {
        char* scratch = static_cast<char*>(on.workspace) + static_cast<size_t>(thread) * bytes;
        pass.run(task, WorkspacePieces({on.context, scratch, bytes}));
      });
      pass.check();
      return Status::ok;
    });
  });
}

}  // namespace

size_t attention_workspace(Cpu, const Attention& a) { return workspace<Forward>(a); }
Status attention(Cpu on, const Attention& a) { return run<Forward>(on, a); }
size_t attention_grad_workspace(Cpu, const AttentionGrad& a) { return workspace<Backward>(a); }
Status attention_grad(Cpu on, const AttentionGrad& a) { return run<Backward>(on, a); }

}  // namespace moat::kernels
