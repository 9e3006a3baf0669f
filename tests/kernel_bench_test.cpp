#include "bench/kernel_bench.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <set>

#include "bench/conv_bench.h"
#include "bench/layer_bench.h"
#include "engine/memory.h"

namespace moat::bench {

TEST_CASE("bench: quartiles are interpolated") {
  CHECK(quartiles({7}).median == 7);
  const Quartiles q = quartiles({4, 1, 3, 2, 5});
  CHECK(q.low == 2);
  CHECK(q.median == 3);
  CHECK(q.high == 4);
  CHECK(quartiles({1, 2}).median == 1.5);
}

TEST_CASE("bench: calls are repeated until their times agree or the budget is spent") {
  const Budget budget{.seconds = 1, .least = 3, .most = 20};
  CHECK_FALSE(is_enough({5, 5}, budget, 10));        // never fewer than least
  CHECK(is_enough({5, 5, 5}, budget, 15));           // spent
  CHECK_FALSE(is_enough({.1, .1, .1}, budget, .3));  // too few to agree
  const std::vector<double> steady(9, .04), wild{.01, .09, .01, .09, .01, .09, .01, .09, .01};
  CHECK(is_enough(steady, budget, .36));
  CHECK_FALSE(is_enough(wild, budget, .41));
  CHECK_FALSE(is_enough(std::vector<double>(9, .01), budget, .09));  // a third is not spent
  CHECK(is_enough(std::vector<double>(20, .001), budget, .02));      // most
}

TEST_CASE("bench: shapes shrink by powers of two and say so") {
  for (const LayerShape& published : layer_shapes()) {
    const LayerShape shape = within(published, kCpuLimits);
    INFO(shape.name);
    CHECK(shape.tokens * shape.tokens_divisor ==
          published.tokens / shape.tokens_divisor * shape.tokens_divisor);
    CHECK(shape.width * shape.widths_divisor == published.width);
    CHECK(shape.hidden * shape.widths_divisor == published.hidden);
    if (shape.name == "moe-layer") {
      CHECK(shape.scale() == "full");
      continue;
    }
    CHECK(shape.weights() <= kCpuLimits.weights);
    CHECK(shape.forward_flops() <= kCpuLimits.flops);
    CHECK(shape.tokens > 0);
    CHECK((shape.scale() == "full") == (shape.tokens_divisor == 1 && shape.widths_divisor == 1));
  }
  const LayerShape mixtral = within(layer_shapes()[1], kCpuLimits);
  CHECK(mixtral.scale() == engine::text("1/", mixtral.tokens_divisor, " tokens, 1/",
                                        mixtral.widths_divisor, " widths"));
}

TEST_CASE("bench: every row has a name of its own") {
  std::set<std::string> names;
  size_t rows = 0;
  for (const LayerPlan& plan : layer_plans({.limits = kCpuLimits}))
    for (const Work work : plan.works) {
      names.insert(row_name(plan, work));
      ++rows;
    }
  CHECK(rows > 300);
  CHECK(names.size() == rows);
  const std::vector<LayerPlan> one =
      layer_plans({.only = std::regex("layer_forward vit-s-8 zipf")});
  REQUIRE(one.size() == 1);
  CHECK(one[0].works == std::vector{Work::forward});
  CHECK(row_name(one[0], Work::forward) == "layer_forward vit-s-8 zipf float32");
}

// Inputs of the ops' rows take seconds and gigabytes.
TEST_CASE("bench: rows are known without what they are measured on") {
  engine::release_cached_memory();
  engine::reset_peak_memory();
  const size_t before = engine::memory_use().live;
  const std::vector<std::string> all = cpu_row_names(cpu_options());
  CHECK(engine::memory_use().peak - before < 8 << 20);
  CHECK(std::set(all.begin(), all.end()).size() == all.size());
  CHECK(std::ranges::count_if(all, [](const auto& n) { return n.starts_with("op "); }) > 80);
  KernelBenchOptions two = cpu_options();
  two.only = std::regex("op (soft|log_soft)max");
  CHECK(cpu_row_names(two).size() == 2);
}

TEST_CASE("bench: a row is judged by the higher of its two roofs") {
  KernelMeasurement m{.name = "x", .facts = {{"kernel", "x"}}, .bytes = 1e9, .flops = 1e9};
  m.seconds = {0.5, 0.5, 0.5};
  const auto copy = json_of(m, {.bytes_per_second = 4e9, .flops_per_second = 1e12});
  CHECK(copy["roof"] == "copy");
  CHECK(copy["part_of_roof"].get<double>() == Approx(0.5));
  CHECK(copy["gbps"].get<double>() == Approx(2));
  CHECK(copy["microseconds"]["median"].get<double>() == Approx(5e5));
  const auto products = json_of(m, {.bytes_per_second = 1e12, .flops_per_second = 4e9});
  CHECK(products["roof"] == "products");
  CHECK(products["tflops"].get<double>() == Approx(0.002));
  const auto unmeasured = json_of(m, {.bytes_per_second = 4e9, .flops_per_second = std::nan("")});
  CHECK(unmeasured["roof"] == "copy");
  m.bytes = 0;
  m.flops = 0;
  CHECK(json_of(m, {4e9, 4e9})["part_of_roof"].is_null());
  m.seconds = {};
  m.failure = "why";
  CHECK(json_of(m, {4e9, 4e9})["failure"] == "why");
}

// Tiny copies of all shapes: what the benchmark calls, on the CPU.
TEST_CASE("bench: every row runs") {
  const KernelBenchOptions options{.budget = {.seconds = 0, .least = 1},
                                   .limits = {.weights = 1e5, .flops = 1e6, .row_elements = 1e4}};
  CpuWorkbench bench;
  const NormalValues normals = normal_values();
  for (LayerPlan plan : layer_plans(options)) {
    if (plan.shape.name == "moe-layer" || plan.shape.parts == Parts::gate) plan.shape.tokens = 64;
    LayerData<kernels::Cpu> data(bench, bench.target(), plan.shape, plan.dtype, normals);
    data.route(plan.load);
    for (const Work work : plan.works) {
      INFO(row_name(plan, work));
      const Row row = data.row(work);
      CHECK(row.bytes > 0);
      CHECK(bench.seconds(row.run, options.budget).size() == 1);
    }
  }
}

TEST_CASE("bench: every convolution's row has a name and runs") {
  const KernelBenchOptions options{.budget = {.seconds = 0, .least = 1}, .limits = {.flops = 1e6}};
  std::set<std::string> names;
  CpuWorkbench bench;
  const auto rows =
      measure_convs(bench, bench.target(), options, [](const std::string&, int64_t, int64_t) {});
  for (const KernelMeasurement& row : rows) {
    INFO(row.name << ": " << row.failure);
    CHECK(row.seconds.size() == 1);
    CHECK(row.bytes > 0);
    names.insert(row.name);
  }
  CHECK(rows.size() == 11 * 8 + 11 * 4);
  CHECK(names.size() == rows.size());
  const ConvShape whole = conv_shapes()[1], few = within(whole, 1e9);
  CHECK(whole.flops() == 2.0 * 512 * 32 * 32 * 64 * 9 * 64);
  CHECK(few.flops() <= 1e9);
  CHECK(few.images * few.divisor == whole.images);
  CHECK(few.scale() == engine::text("1/", few.divisor, " images"));
}

TEST_CASE("bench: time that is up leaves rows without seconds") {
  KernelBenchOptions options{.only = std::regex(" rows-qwen3 "),
                             .budget = {.seconds = 0, .least = 1},
                             .limits = {.row_elements = 1e4}};
  CpuWorkbench bench;
  const auto no_one = [](const std::string&, int64_t, int64_t) {};
  for (const KernelMeasurement& row : measure_layers(bench, bench.target(), options, no_one))
    CHECK(row.failure.empty());
  options.until = KernelBenchOptions::Clock::time_point::min();
  for (const KernelMeasurement& row : measure_layers(bench, bench.target(), options, no_one)) {
    CHECK(row.failure == "no time left");
    CHECK(row.seconds.empty());
  }
  int asked = 0;  // stopped after two rows
  options.until = KernelBenchOptions::Clock::time_point::max();
  options.stop_requested = [&] { return ++asked > 2; };
  const auto stopped = measure_layers(bench, bench.target(), options, no_one);
  for (size_t i = 0; i < stopped.size(); ++i) {
    CHECK(stopped[i].failure.empty());
    CHECK(stopped[i].seconds.size() == (i < 2 ? 1 : 0));
  }
}

// The load's most likely expert gets its share: 1 / H(8) of first choices under Zipf's law.
TEST_CASE("bench: logits carry the load") {
  LayerShape shape = layer_shapes()[0];
  shape.tokens = 20000;
  for (const auto& [load, share] : {std::pair{Load::balanced, 0.125}, {Load::zipf, 1 / 2.717857}}) {
    const std::vector<float> logits = logits_of(shape, load);
    int first = 0;
    for (int64_t t = 0; t < shape.tokens; ++t) {
      const auto row = logits.begin() + t * shape.experts;
      first += std::max_element(row, row + shape.experts) == row;
    }
    CHECK(first / double(shape.tokens) == Approx(share).margin(0.015));
  }
}

}  // namespace moat::bench
