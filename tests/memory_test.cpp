#include "engine/memory.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstdint>
#include <thread>

#include "engine/tensor.h"

using namespace moat::engine;

TEST_CASE("a freed block is handed out again") {
  release_cached_memory();
  const size_t bytes = 300'000;
  void* first = nullptr;
  {
    const Storage block(bytes, {});
    first = block.data();
    CHECK(reinterpret_cast<uintptr_t>(first) % 64 == 0);
  }
  const size_t cached = memory_use().cached;
  CHECK(cached >= bytes);
  {
    const Storage again(bytes - 1000, {});  // the same size class
    CHECK(again.data() == first);
    CHECK(memory_use().cached < cached);
  }
  release_cached_memory();
  CHECK(memory_use().cached == 0);
}

TEST_CASE("live and peak bytes follow the blocks") {
  const size_t live = memory_use().live;
  reset_peak_memory();
  CHECK(memory_use().peak == live);
  {
    const Storage a(1 << 20, {});
    {
      const Storage b(1 << 20, {});
      CHECK(memory_use().live == live + (2 << 20));
    }
    CHECK(memory_use().live == live + (1 << 20));
  }
  CHECK(memory_use().live == live);
  CHECK(memory_use().peak == live + (2 << 20));
  reset_peak_memory();
  CHECK(memory_use().peak == live);
}

TEST_CASE("blocks of sizes that do not come again are given back", "[memory]") {
  release_cached_memory();
  reset_peak_memory();
  size_t most = 0;
  for (size_t mib = 128; mib > 0; --mib) {  // 128 MiB live at most, 1,536 in all size classes
    { const Storage block(mib << 20, {}); }
    most = std::max(most, memory_use().cached);
  }
  CHECK(most <= 2 * memory_use().peak);
  release_cached_memory();
}

TEST_CASE("a size class wastes at most an eighth") {
  for (size_t bytes : {1, 64, 65, 1000, 4097, 1'000'000, 123'456'7}) {
    const size_t before = memory_use().live;
    const Storage block(bytes, {});
    const size_t taken = memory_use().live - before;
    CHECK(taken >= bytes);
    CHECK(taken <= bytes + bytes / 8 + 64);
    CHECK(block.bytes() == bytes);
  }
}

TEST_CASE("fresh blocks are NaN while poisoned, and only then") {
  { const Tensor reused = Tensor::zeros({1000}); }
  {
    const PoisonScope poison;
    for (float v : Tensor::empty({1000}).to_vector<float>()) CHECK(std::isnan(v));
    CHECK(std::isnan(Tensor::empty({1}, Dtype::f64).item()));
    CHECK(std::isnan(Tensor::empty({1}, Dtype::bf16).item()));
    CHECK(Tensor::zeros({1}).item() == 0);
  }
  { const Tensor reused = Tensor::zeros({1000}); }
  CHECK(Tensor::empty({1000}).to_vector<float>()[0] == 0);
}

TEST_CASE("blocks may be freed by another thread") {
  const size_t live = memory_use().live;
  auto block = std::make_unique<Storage>(5000, Device{});
  std::thread([moved = std::move(block)]() mutable { moved.reset(); }).join();
  CHECK(memory_use().live == live);
}
