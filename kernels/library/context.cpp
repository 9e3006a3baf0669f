#include "kernels/library/context.h"

#include "kernels/library/onednn.h"

namespace moat::kernels {

namespace {

bool has(dnnl::cpu_isa isa) {
  const auto bits = static_cast<unsigned>(isa);
  return (static_cast<unsigned>(dnnl::get_effective_cpu_isa()) & bits) == bits;
}

}  // namespace

ConvAlgorithm fastest_conv_algorithm() {
  return has(dnnl::cpu_isa::avx512_core) ? ConvAlgorithm::library : ConvAlgorithm::products;
}

Context::Context(ConvAlgorithm conv) : conv_(conv), primitives_(std::make_unique<Primitives>()) {}
Context::~Context() = default;

bool supports(Cpu, Dtype dtype) {
  if (dtype == Dtype::f64) return true;
  // float32 from AVX on: oneDNN 2.6's SSE4.1 convolution adds a fused residual wrongly in the last
  // channels when their number is not a multiple of 8. bfloat16 from AVX-512 on.
  return (dtype == Dtype::f32 && has(dnnl::cpu_isa::avx)) ||
         (dtype == Dtype::bf16 && has(dnnl::cpu_isa::avx512_core));
}

}  // namespace moat::kernels
