#include "kernels/experts/moe_layer.h"

#include "kernels/experts/moe_layer/run.h"

namespace moat::kernels {

size_t moe_layer_workspace(Cpu on, const MoeLayer& a) { return layer::workspace(on, a); }
Status moe_layer(Cpu on, const MoeLayer& a) { return layer::run(on, a); }

size_t moe_layer_grad_workspace(Cpu on, const MoeLayerGrad& a) { return layer::workspace(on, a); }
Status moe_layer_grad(Cpu on, const MoeLayerGrad& a) { return layer::run(on, a); }

}  // namespace moat::kernels
