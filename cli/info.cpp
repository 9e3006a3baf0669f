#include <nlohmann/json.hpp>

#include "cli/ceilings.h"
#include "cli/commands.h"
#include "cli/number_format.h"
#include "engine/build_info.h"
#include "engine/error.h"
#include "engine/hardware.h"
#include "kernels/library/context.h"
#include "kernels/library/libraries.h"

namespace moat::cli {

namespace {

void info(const Globals& globals) {
  const engine::BuildInfo& build = engine::build_info();
  const Ceilings ceilings = measure_ceilings();
  const bool bf16 = kernels::supports(kernels::Cpu{}, kernels::Dtype::bf16);
  const std::string cpu = engine::cpu_model();
  const int64_t memory = engine::memory_bytes();
  const nlohmann::ordered_json document = {
      {"version", build.version},
      {"revision", build.revision},
      {"build", build.type},
      {"compiler", build.compiler},
      {"instructions", build.instructions},
      {"onednn", {{"version", kernels::onednn_version()}, {"isa", kernels::onednn_isa()}}},
      {"cpu", cpu},
      {"cores", engine::cores()},
      {"threads", engine::threads()},
      {"memory_bytes", memory},
      {"bf16", bf16},
      {"cuda", engine::kCudaBuilt},
      {"float32_gflops", ceilings.float32_gflops},
      {"copy_gbps", ceilings.copy_gbps},
  };
  const std::string people =
      engine::text("moat      ", build.version, " (", build.revision, "), ", build.type, ", ",
                   build.compiler, ", ", build.instructions, "\n", "oneDNN    ",
                   kernels::onednn_version(), ", ", kernels::onednn_isa(), "\n", "CPU       ", cpu,
                   ", ", engine::cores(), " cores, ", engine::threads(), " threads\n", "memory    ",
                   fixed(static_cast<double>(memory) / (1 << 30), 1), " GiB\n", "float32   ",
                   fixed(ceilings.float32_gflops, 0), " GFLOP/s (multiply-add in registers)\n",
                   "copy      ", fixed(ceilings.copy_gbps, 1), " GB/s (read + written)\n",
                   "bf16      ", bf16 ? "yes" : "no: needs a CPU with AVX-512", "\n", "CUDA      ",
                   engine::kCudaBuilt ? "built in" : "built without CUDA", "\n");
  print(globals, document, people);
}

}  // namespace

void add_info(CLI::App& app, Globals& globals) {
  add_command(app, globals,
              {"info", "this build, its libraries, this machine and its measured ceilings",
               "moat info --json"},
              [&globals] { info(globals); });
}

}  // namespace moat::cli
