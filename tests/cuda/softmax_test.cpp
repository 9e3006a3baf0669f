#include "kernels/loss/softmax.h"

#include <limits>

#include "tests/cuda/device_memory.h"
#include "tests/cuda/require_close.h"
#include "tests/random_values.h"

namespace moat::tests {

using namespace kernels;

namespace {

template <class T>
void check_softmax(int rows, int columns, SoftmaxForm form, const std::vector<double>& logits) {
  INFO("softmax [" << rows << ", " << columns << "]");
  const size_t count = size_t(rows) * size_t(columns);
  const std::vector<T> x = rounded<T>(logits), d_y = rounded<T>(normals(count, 2, 3));
  const DeviceArray<T> device_x(x), device_y(count), device_d_y(d_y), device_d_x(count);
  REQUIRE(run<Softmax>(softmax, {.x = device_x.data(),
                                 .y = device_y.data(),
                                 .rows = rows,
                                 .columns = columns,
                                 .form = form,
                                 .dtype = dtype_of<T>}) == Status::ok);
  std::vector<double> wide_x = widened(x), y(count);
  REQUIRE(softmax(Cpu{}, {.x = wide_x.data(),
                          .y = y.data(),
                          .rows = rows,
                          .columns = columns,
                          .form = form,
                          .dtype = Dtype::f64}) == Status::ok);
  require_close(widened(device_y.host()), y, 4 * roundoff<T> + columns * roundoff<double>);

  REQUIRE(run<SoftmaxGrad>(softmax_grad, {.y = device_y.data(),
                                          .d_y = device_d_y.data(),
                                          .d_x = device_d_x.data(),
                                          .rows = rows,
                                          .columns = columns,
                                          .form = form,
                                          .dtype = dtype_of<T>}) == Status::ok);
  const std::vector<double> wide_y = widened(device_y.host()), wide_d_y = widened(d_y);
  std::vector<double> d_x(count);
  REQUIRE(softmax_grad(Cpu{}, {.y = wide_y.data(),
                               .d_y = wide_d_y.data(),
                               .d_x = d_x.data(),
                               .rows = rows,
                               .columns = columns,
                               .form = form,
                               .dtype = Dtype::f64}) == Status::ok);
  // The sum over a row, of terms of about 3, is in float64 in another order than on the CPU.
  require_close(widened(device_d_x.host()), d_x, 8 * roundoff<T> + 4 * columns * roundoff<double>);
}

}  // namespace

TEMPLATE_TEST_CASE("cuda: softmax equals its float64 reference", "[cuda][softmax]", double, float,
                   Bf16) {
  for (const auto form : {SoftmaxForm::softmax, SoftmaxForm::log_softmax})
    for (const auto& [rows, columns] : {std::pair{3, 1}, {2, 10}, {1, 257}, {2, 700}, {0, 4}})
      check_softmax<TestType>(rows, columns, form,
                              normals(size_t(rows) * size_t(columns), unsigned(columns), 3));
}

TEST_CASE("cuda: softmax of large gaps, ties, infinities and NaN", "[cuda][softmax]") {
  const double inf = std::numeric_limits<double>::infinity(),
               nan = std::numeric_limits<double>::quiet_NaN();
  for (const auto form : {SoftmaxForm::softmax, SoftmaxForm::log_softmax})
    check_softmax<float>(6, 4, form, {1e5,  0,   -1e5, 1, 2, 2,    2,    2,    -inf, 0, 1, 2,
                                      -inf, nan, 0,    1, 0, -inf, -inf, -inf, -inf, 1, 2, inf});
}

TEST_CASE("cuda: softmax refuses negative extents before any launch", "[cuda][softmax]") {
  REQUIRE(softmax(Cuda{}, {.rows = -1, .columns = 2, .dtype = Dtype::f32}) == Status::bad_args);
  REQUIRE(softmax_grad(Cuda{}, {.rows = 1, .columns = -2, .dtype = Dtype::f32}) ==
          Status::bad_args);
}

}  // namespace moat::tests
