#include <nlohmann/json.hpp>

#include "cli/ceilings.h"
#include "cli/commands.h"
#include "cli/number_format.h"
#include "engine/build_info.h"
#include "engine/cuda/runtime.h"
#include "engine/error.h"
#include "engine/hardware.h"
#include "kernels/library/context.h"
#include "kernels/library/libraries.h"

namespace moat::cli {

namespace {

nlohmann::ordered_json cuda_json() {
  nlohmann::ordered_json document = {{"built", engine::kCudaBuilt}};
  if constexpr (engine::kCudaBuilt) {
    document["runtime"] = engine::cuda::runtime_version();
    document["cublaslt"] = kernels::cublaslt_version();
    document["cudnn"] = kernels::cudnn_version();
    document["gpus"] = nlohmann::ordered_json::array();
    for (int index = 0; index < engine::gpu_count(); ++index) {
      const engine::cuda::Properties p = engine::cuda::properties(index);
      document["driver"] = engine::cuda::driver_version();
      const GpuCeilings ceilings =
          measure_ceilings({engine::Device::cuda, static_cast<int8_t>(index)});
      document["gpus"].push_back({{"device", engine::text("cuda:", index)},
                                  {"name", p.name},
                                  {"memory_bytes", p.memory_bytes},
                                  {"multiprocessors", p.multiprocessors},
                                  {"architecture", engine::text("sm_", p.major, p.minor)},
                                  {"bf16_tflops", ceilings.bf16_tflops},
                                  {"copy_gbps", ceilings.copy_gbps}});
    }
    if (engine::gpu_count() == 0) document["no_usable_gpu"] = engine::why_no_gpu();
  }
  return document;
}

std::string cuda_text(const nlohmann::ordered_json& cuda) {
  if (!cuda["built"].get<bool>()) return "built without CUDA\n";
  const auto word = [](const nlohmann::ordered_json& value) { return value.get<std::string>(); };
  const std::string libraries = "          cuBLASLt " + word(cuda["cublaslt"]) + ", cuDNN " +
                                word(cuda["cudnn"]) + "\n",
                    built = "built with CUDA " + word(cuda["runtime"]);
  if (cuda["gpus"].empty())
    return built + "; no usable GPU: " + word(cuda["no_usable_gpu"]) + "\n" + libraries;
  std::string out = built + ", driver for CUDA " + word(cuda["driver"]) + "\n" + libraries;
  for (const auto& gpu : cuda["gpus"])
    out += engine::text(word(gpu["device"]), "    ", word(gpu["name"]), ", ",
                        fixed(gpu["memory_bytes"].get<double>() / (1 << 30), 1), " GiB, ",
                        gpu["multiprocessors"].get<int>(), " multiprocessors, ",
                        word(gpu["architecture"]), "\n          bf16 ",
                        fixed(gpu["bf16_tflops"].get<double>(), 0),
                        " TFLOP/s (a large product), copy ",
                        fixed(gpu["copy_gbps"].get<double>(), 0), " GB/s (read + written)\n");
  return out;
}

void info(const Globals& globals) {
  const engine::BuildInfo& build = engine::build_info();
  const Ceilings ceilings = measure_ceilings();
  const bool bf16 = kernels::supports(kernels::Cpu{}, kernels::Dtype::bf16);
  const std::string cpu = engine::cpu_model();
  const int64_t memory = engine::memory_bytes();
  const nlohmann::ordered_json cuda = cuda_json();
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
      {"cuda", cuda},
      {"float32_gflops", ceilings.float32_gflops},
      {"copy_gbps", ceilings.copy_gbps},
  };
  const std::string people = engine::text(
      "moat      ", build.version, " (", build.revision, "), ", build.type, ", ", build.compiler,
      ", ", build.instructions, "\n", "oneDNN    ", kernels::onednn_version(), ", ",
      kernels::onednn_isa(), "\n", "CPU       ", cpu, ", ", engine::cores(), " cores, ",
      engine::threads(), " threads\n", "memory    ",
      fixed(static_cast<double>(memory) / (1 << 30), 1), " GiB\n", "float32   ",
      fixed(ceilings.float32_gflops, 0), " GFLOP/s (multiply-add in registers)\n", "copy      ",
      fixed(ceilings.copy_gbps, 1), " GB/s (read + written)\n", "bf16      ",
      bf16 ? "yes" : "no: needs a CPU with AVX-512", "\n", "CUDA      ", cuda_text(cuda));
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
