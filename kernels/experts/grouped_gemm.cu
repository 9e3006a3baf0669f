#include "kernels/experts/grouped_gemm.h"

#include "kernels/cuda.cuh"
#include "kernels/cuda/hopper.h"
#include "kernels/experts/grouped_gemm/sm80.h"
#include "kernels/experts/grouped_gemm/sm90.h"

namespace moat::kernels {

namespace {

template <class Grouped>
bool is_valid(const Grouped& a) {
  return a.rows >= 0 && a.x_rows >= 0 && a.experts >= 0 && a.n >= 0 && a.k >= 0 && a.offsets &&
         (a.dtype == Dtype::f64 || a.dtype == Dtype::f32 || a.dtype == Dtype::bf16);
}

template <class Grouped>
bool takes_hopper(const Grouped& a) {
  return sm90::can_run(a) && on_hopper();
}

}  // namespace

size_t grouped_gemm_workspace(Cuda, const GroupedGemm&) { return 0; }

Status grouped_gemm(Cuda on, const GroupedGemm& a) {
  if (!is_valid(a) || (a.activation == ExpertActivation::swiglu && a.n % 2 != 0))
    return Status::bad_args;
  return takes_hopper(a) ? sm90::run(on, a) : sm80::run(on, a, sm80::extent(a));
}

size_t grouped_gemm_weight_grad_workspace(Cuda, const GroupedGemmWeightGrad& a) {
  if (!is_valid(a)) return 0;
  return takes_hopper(a) ? sm90::workspace(a)
                         : sm80::workspace(a, sm80::splits(a, sm80::extent(a)));
}

Status grouped_gemm_weight_grad(Cuda on, const GroupedGemmWeightGrad& a) {
  if (!is_valid(a)) return Status::bad_args;
  if (on.workspace_bytes < grouped_gemm_weight_grad_workspace(on, a))
    return Status::small_workspace;
  if (a.d_bias)
    if (const Status status = sm80::run_bias(on, a); status != Status::ok) return status;
  if (takes_hopper(a)) return sm90::run(on, a);
  const sm80::Extent extent = sm80::extent(a);
  return sm80::run(on, a, extent, sm80::splits(a, extent));
}

}  // namespace moat::kernels
