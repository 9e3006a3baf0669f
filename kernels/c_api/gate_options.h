#pragma once

// What the gate and the whole layer read alike.

#include "kernels/c_api/call.h"
#include "kernels/gate/topk_gate.h"

namespace moat::kernels::c_api {

void require_choices(int k, int experts);  // 1 <= k <= experts
const void* read_gate_bias(Call& call, const char* name, const DLTensor* bias, Dtype dtype,
                           int experts, GateForm form);
GateNoise read_noise(Call& call, const moat_gate_noise& a, int tokens);
ExpertGroups read_groups(const moat_expert_groups& a, int experts, int k);

}  // namespace moat::kernels::c_api
