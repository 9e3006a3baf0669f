#include <catch2/catch.hpp>

#include "kernels/experts/grouped_gemm/heuristics.h"

namespace moat::tests {

using namespace kernels;

namespace {

constexpr int kH200 = 132;
constexpr GroupedTileShape kLarge{128, 256, TileSchedule::cooperative},
    kTall{192, 128, TileSchedule::ping_pong}, kSquare{128, 128, TileSchedule::ping_pong};

GroupedTileShape tile(int64_t rows, int64_t experts, int64_t n, int64_t k,
                      ExpertActivation activation = ExpertActivation::none) {
  return grouped_tile_shape({.rows = rows,
                             .experts = experts,
                             .n = n,
                             .k = k,
                             .multiprocessors = kH200,
                             .activation = activation});
}

}  // namespace

TEST_CASE("grouped products: the tile that fills the waves", "[grouped_gemm_heuristics]") {
  // ViT-S and ViT-B, 50,432 tokens: six and twelve whole waves of 192 x 128.
  REQUIRE(tile(50432, 8, 384, 1536) == kTall);
  REQUIRE(tile(50432, 8, 1536, 384) == kTall);
  REQUIRE(tile(50432, 8, 768, 3072) == kTall);
  // Few rows per expert: the smallest tile.
  REQUIRE(tile(32, 8, 256, 512) == kSquare);
}

TEST_CASE("grouped products: activations only where they fit", "[grouped_gemm_heuristics]") {
  GroupedExtents a{.rows = 50432, .experts = 8, .n = 384, .k = 384, .multiprocessors = kH200};
  REQUIRE(takes(kTall, a));
  a.keeps_pre = true;
  REQUIRE(!takes(kTall, a));
  for (a.keeps_pre = false;
       const auto activation : {ExpertActivation::relu, ExpertActivation::gelu,
                                ExpertActivation::gelu_tanh, ExpertActivation::swiglu}) {
    a.activation = activation;
    REQUIRE(takes(kLarge, a));
    REQUIRE(takes(kSquare, a));
    REQUIRE(!takes(kTall, a));
    REQUIRE(!takes({128, 192, TileSchedule::ping_pong}, a));
    for (a.n = 384; a.n < 30000; a.n *= 4)
      for (a.k = 64; a.k < 5000; a.k *= 8) REQUIRE(takes(grouped_tile_shape(a), a));
  }
  // Few terms: the activations of one tile while another is multiplied. Many: the largest tile.
  REQUIRE(tile(50432, 8, 1536, 384, ExpertActivation::gelu) == kSquare);
  REQUIRE(tile(50432, 8, 14336, 4096, ExpertActivation::gelu) == kLarge);
}

TEST_CASE("grouped products: every extent has a tile", "[grouped_gemm_heuristics]") {
  for (const int64_t rows : {1, 100, 1 << 20})
    for (const int64_t experts : {1, 3, 4096})
      for (const int64_t n : {8, 1000, 1 << 20})
        for (const int64_t k : {8, 100, 1 << 20}) {
          const GroupedTileShape shape = tile(rows, experts, n, k);
          REQUIRE(std::find(kGroupedTileShapes.begin(), kGroupedTileShapes.end(), shape) !=
                  kGroupedTileShapes.end());
        }
}

TEST_CASE("weight gradients: few tiles are split along the rows", "[grouped_gemm_heuristics]") {
  const auto plan = [](int64_t rows, int64_t experts, int64_t n, int64_t k) {
    return weight_grad_plan(
        {.rows = rows, .experts = experts, .n = n, .k = k, .multiprocessors = kH200});
  };
  // ViT-S, 8 experts of 1536 x 384: 192 tiles of 128 x 256 are a wave and a half.
  REQUIRE(plan(50432, 8, 1536, 384).splits > 1);
  // Mixtral: thousands of tiles.
  REQUIRE(plan(32768, 8, 14336, 4096).splits == 1);
  // Nothing to split.
  REQUIRE(plan(0, 8, 128, 128).splits == 1);
  REQUIRE(plan(8 * 256, 8, 128, 128).splits == 1);
  for (const int64_t rows : {1, 5000, 1 << 20}) {
    const WeightGradPlan p = plan(rows, 16, 512, 512);
    REQUIRE((p.splits >= 1 && p.splits <= kMostSplits));
  }
}

}  // namespace moat::tests
