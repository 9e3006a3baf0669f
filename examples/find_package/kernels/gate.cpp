// The kernels from C++: the two best of four experts, and how sure the choice is.
#include <cstdio>
#include <vector>

#include "kernels/gate/topk_gate.h"

int main() {
  using namespace moat::kernels;
  const std::vector<float> logits{0.1f, 2.0f, -1.0f, 1.5f};
  float weights[2], log_sum_exp, margin;
  int32_t experts[2];
  TopkGate gate{.logits = logits.data(),
                .bias = nullptr,
                .weights = weights,
                .experts = experts,
                .log_sum_exp = &log_sum_exp,
                .margin = &margin,
                .tokens = 1,
                .num_experts = 4,
                .k = 2,
                .form = GateForm::topk_softmax,
                .dtype = Dtype::f32};
  alignas(64) char workspace[4096];
  const Cpu on{.workspace = workspace, .workspace_bytes = sizeof workspace};
  if (topk_gate_workspace(on, gate) > sizeof workspace || topk_gate(on, gate) != Status::ok)
    return 1;
  std::printf("experts %d and %d, weights %.3f and %.3f, margin %.3f\n", experts[0], experts[1],
              double{weights[0]}, double{weights[1]}, double{margin});
  return experts[0] == 1 && experts[1] == 3 && margin > 1.3f && margin < 1.5f ? 0 : 1;
}
