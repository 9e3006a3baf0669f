#include "kernels/basic/random.h"

#include <cstring>

#include "tests/cuda/device_memory.h"

namespace moat::tests {

using namespace kernels;

namespace {

struct Case {
  std::vector<int32_t> samples;
  int64_t pixels;
  int channels;
  uint64_t seed = 0x0123456789abcdef;
  uint32_t iteration = 3, purpose = 2, stream = 1;
};

template <class T>
void require_same_bits(const Case& c, Distribution distribution) {
  INFO("[" << c.samples.size() << ", " << c.pixels << ", " << c.channels << "]");
  const size_t count = c.samples.size() * size_t(c.pixels) * size_t(c.channels);
  const DeviceArray<int32_t> samples(c.samples);
  const DeviceArray<T> y(count);
  std::vector<T> want(count);
  Random a{.samples = samples.data(),
           .y = y.data(),
           .rows = int(c.samples.size()),
           .pixels = c.pixels,
           .channels = c.channels,
           .seed = c.seed,
           .iteration = c.iteration,
           .purpose = c.purpose,
           .stream = c.stream,
           .distribution = distribution,
           .p = -0.3,
           .q = 1.7,
           .dtype = dtype_of<T>};
  REQUIRE(run<Random>(random, a) == Status::ok);
  a.samples = c.samples.data();
  a.y = want.data();
  REQUIRE(random(Cpu{}, a) == Status::ok);
  const std::vector<T> got = y.host();
  for (size_t i = 0; i < count; ++i) {
    INFO("element " << i << ": " << double(compute_t<T>(got[i])) << ", on the CPU "
                    << double(compute_t<T>(want[i])));
    REQUIRE(std::memcmp(&got[i], &want[i], sizeof(T)) == 0);
  }
}

}  // namespace

TEMPLATE_TEST_CASE("cuda: random draws are the CPU's bits", "[cuda][random]", double, float, Bf16) {
  for (const Distribution distribution : {Distribution::uniform, Distribution::normal})
    for (const Case& c : {Case{{7, 0, 7}, 5, 3}, Case{{-1, 2147483647}, 1, 7}, Case{{4}, 1, 1},
                          Case{{1, 2}, 1031, 1}, Case{{9}, 2, 2}, Case{{5, 6}, 3, 2},
                          Case{{}, 4, 3}, Case{{1}, 0, 3}, Case{{1}, 3, 0}})
      require_same_bits<TestType>(c, distribution);
}

TEST_CASE("cuda: every part of the counter and the key counts", "[cuda][random]") {
  Case c{{3}, 6, 1, ~uint64_t{0}, ~uint32_t{0}, 255, (1u << 24) - 1};
  require_same_bits<double>(c, Distribution::uniform);
  c.seed = uint64_t{1} << 32;
  c.iteration = 0;
  require_same_bits<double>(c, Distribution::uniform);
  c.purpose = 0;
  require_same_bits<double>(c, Distribution::uniform);
  c.stream = 0;
  require_same_bits<double>(c, Distribution::uniform);
}

TEST_CASE("cuda: random refuses bad arguments before any launch", "[cuda][random]") {
  const auto status_of = [](auto change) {
    Random a{.rows = 1, .pixels = 1, .channels = 1, .dtype = Dtype::f32};
    change(a);
    return random(Cuda{}, a);
  };
  CHECK(status_of([](Random& a) { a.rows = -1; }) == Status::bad_args);
  CHECK(status_of([](Random& a) { a.pixels = -1; }) == Status::bad_args);
  CHECK(status_of([](Random& a) { a.channels = -1; }) == Status::bad_args);
  CHECK(status_of([](Random& a) { a.pixels = (int64_t{1} << 34) + 1; }) == Status::bad_args);
  CHECK(status_of([](Random& a) { a.purpose = 256; }) == Status::bad_args);
  CHECK(status_of([](Random& a) { a.stream = 1u << 24; }) == Status::bad_args);
  CHECK(status_of([](Random& a) { a.dtype = Dtype::i32; }) == Status::unsupported);
}

}  // namespace moat::tests
