#include "engine/hardware.h"

#include <catch2/catch.hpp>

#include "engine/build_info.h"
#include "engine/error.h"
#include "kernels/library/context.h"
#include "kernels/library/libraries.h"

namespace moat::engine {

using Catch::Matchers::Contains;

TEST_CASE("a device is named in full", "[hardware]") {
  CHECK(parse_device("cpu") == Device{});
  for (const char* bad : {"", "gpu", "CPU", "cuda:", "cuda:-1", "cuda:1x", "cuda:999", " cpu"}) {
    INFO(bad);
    CHECK_THROWS_AS(parse_device(bad), UsageError);
  }
  if (!kCudaBuilt) {
    CHECK(parse_device("auto") == Device{});
    CHECK_THROWS_WITH(parse_device("cuda"), Contains("built without CUDA"));
    CHECK_THROWS_WITH(parse_device("cuda:3"), Contains("built without CUDA"));
  }
}

TEST_CASE("a precision the CPU lacks is refused", "[hardware]") {
  CHECK_NOTHROW(use_precision(Precision::fp32, {}));
  CHECK_THROWS_WITH(use_precision(Precision::tf32, {}), Contains("tf32 needs an NVIDIA GPU"));
  if (kernels::supports(kernels::Cpu{}, Dtype::bf16))
    CHECK_NOTHROW(use_precision(Precision::bf16, {}));
  else
    CHECK_THROWS_WITH(use_precision(Precision::bf16, {}), Contains("AVX-512"));
  for (Precision precision : {Precision::fp32, Precision::tf32, Precision::bf16})
    CHECK(parse_precision(name_of(precision)) == precision);
  CHECK_THROWS_AS(parse_precision("fp16"), UsageError);
  CHECK(activation_dtype(Precision::bf16) == Dtype::bf16);
  CHECK(activation_dtype(Precision::tf32) == Dtype::f32);
}

TEST_CASE("threads are set within four per core, and given back", "[hardware]") {
  const int by_default = set_threads(0);
  CHECK(set_threads(1) == 1);
  CHECK(threads() == 1);
  CHECK_THROWS_AS(set_threads(-1), UsageError);
  CHECK_THROWS_WITH(set_threads(4 * cores() + 1), Contains("threads must be from 1 to"));
  CHECK(threads() == 1);
  CHECK(set_threads(0) == by_default);
}

TEST_CASE("the machine and the build have names", "[hardware]") {
  CHECK(memory_bytes() > 0);
  CHECK_FALSE(cpu_model().empty());
  CHECK_THAT(build_info().version, Contains("."));
  CHECK_FALSE(build_info().revision.empty());
  CHECK_THAT(kernels::onednn_version(), Contains("."));
  CHECK_THAT(kernels::onednn_isa(), !Contains("other"));
}

}  // namespace moat::engine
