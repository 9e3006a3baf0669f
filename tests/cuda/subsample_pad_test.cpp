#include "kernels/vision/subsample_pad.h"

#include <cstring>

#include "tests/cuda/device_memory.h"
#include "tests/random_values.h"

namespace moat::tests {

using namespace kernels;

namespace {

struct Geometry {
  int n, height, width, channels, out_channels, stride, front;

  size_t inputs() const { return size_t(n) * size_t(height) * size_t(width) * size_t(channels); }
  size_t outputs() const {
    return size_t(n) * size_t((height - 1) / stride + 1) * size_t((width - 1) / stride + 1) *
           size_t(out_channels);
  }
  // SubsamplePad or its gradient: the same fields behind two pointers.
  template <class Args>
  Args args(const void* from, void* to, Dtype dtype) const {
    return {from, to, n, height, width, channels, out_channels, stride, front, dtype};
  }
};

// Values that are moved keep their bits. What is read and written starts `offset` values after a
// multiple of 256 bytes.
template <class Args, class T>
void check_moved(Status (*kernel)(Cuda, const Args&), Status (*on_cpu)(Cpu, const Args&),
                 const Geometry& g, size_t from_count, size_t to_count, size_t offset) {
  const std::vector<T> from = rounded<T>(normals(from_count + offset, 3));
  std::vector<T> want(to_count);
  REQUIRE(on_cpu(Cpu{}, g.args<Args>(from.data() + offset, want.data(), dtype_of<T>)) ==
          Status::ok);
  const DeviceArray<T> device_from(from), to(to_count + offset);
  REQUIRE(run<Args>(kernel, g.args<Args>(device_from.data() + offset, to.data() + offset,
                                         dtype_of<T>)) == Status::ok);
  const std::vector<T> got = to.host();
  REQUIRE(std::memcmp(got.data() + offset, want.data(), to_count * sizeof(T)) == 0);
}

template <class T>
void check(const Geometry& g, size_t offset = 0) {
  INFO("images " << g.n << "x" << g.height << "x" << g.width << "x" << g.channels << ", to "
                 << g.out_channels << " channels from " << g.front << ", stride " << g.stride
                 << ", offset " << offset);
  check_moved<SubsamplePad, T>(subsample_pad, subsample_pad, g, g.inputs(), g.outputs(), offset);
  check_moved<SubsamplePadGrad, T>(subsample_pad_grad, subsample_pad_grad, g, g.outputs(),
                                   g.inputs(), offset);
}

}  // namespace

TEMPLATE_TEST_CASE("cuda: subsample_pad and its gradient move what the CPU moves",
                   "[cuda][subsample_pad]", double, float, Bf16) {
  for (const Geometry& g : {Geometry{2, 5, 7, 3, 6, 2, 1},
                            {1, 6, 4, 16, 32, 2, 8},
                            {2, 4, 4, 8, 16, 2, 4},  // bfloat16: vectors do not fit front
                            {1, 5, 4, 8, 20, 3, 8},
                            {1, 1, 1, 1, 1, 1, 0},
                            {0, 4, 4, 8, 8, 2, 0},
                            {3, 3, 3, 8, 8, 1, 0},
                            {1, 2, 9, 24, 48, 4, 24}})
    check<TestType>(g);
  check<TestType>({1, 4, 4, 16, 32, 2, 8}, 1);
}

TEST_CASE("cuda: subsample_pad refuses bad geometry before any launch", "[cuda][subsample_pad]") {
  for (const Geometry& g : {Geometry{-1, 1, 1, 1, 1, 1, 0},
                            {1, 0, 1, 1, 1, 1, 0},
                            {1, 1, 1, 2, 2, 1, 1},
                            {1, 1, 1, 1, 1, 0, 0},
                            {1, 1, 1, 1, 1, 1, -1}}) {
    CHECK(subsample_pad(Cuda{}, g.args<SubsamplePad>(nullptr, nullptr, Dtype::f32)) ==
          Status::bad_args);
    CHECK(subsample_pad_grad(Cuda{}, g.args<SubsamplePadGrad>(nullptr, nullptr, Dtype::f32)) ==
          Status::bad_args);
  }
  CHECK(subsample_pad(Cuda{}, Geometry{1, 1, 1, 1, 1, 1, 0}.args<SubsamplePad>(
                                  nullptr, nullptr, Dtype::i64)) == Status::unsupported);
}

}  // namespace moat::tests
