// In the place of cuBLASLt: the CPU's product, the bias and what is added, in the order of the
// stream.

#include "kernels/basic/gemm.h"

#include "kernels/basic/gemm_cublaslt.h"
#include "kernels/library/context.h"
#include "tests/simt/library/host_values.h"

namespace moat::kernels::cublaslt {

namespace {

constexpr size_t kWorkspace = 512;

template <class C>
void product(const Gemm& g) {
  Gemm host = g;
  host.dtype = host.y_dtype = std::is_same_v<C, double> ? Dtype::f64 : Dtype::f32;
  const auto a = tests::fetched<C>(g.a, int64_t{g.m} * g.k, g.dtype),
             b = tests::fetched<C>(g.b, int64_t{g.k} * g.n, g.dtype),
             bias = tests::fetched<C>(g.bias, g.n, g.y_dtype),
             added = tests::fetched<C>(g.added, int64_t{g.m} * g.n, g.y_dtype);
  std::vector<C> y(static_cast<size_t>(g.m) * static_cast<size_t>(g.n));
  host.a = a.data();
  host.b = b.data();
  host.bias = host.added = nullptr;
  host.y = y.data();
  Context context;
  std::vector<char> workspace(gemm_workspace(Cpu{&context}, host) + 64);
  tests::require_ok(gemm(tests::on_cpu(context, workspace), host));
  for (size_t i = 0; i < y.size(); ++i)
    y[i] += (bias.empty() ? 0 : bias[i % bias.size()]) + (added.empty() ? 0 : added[i]);
  tests::deliver(y, g.y, g.y_dtype);
}

}  // namespace

size_t workspace(Cuda, const Gemm&) { return kWorkspace; }

Status run(Cuda on, const Gemm& g) {
  const auto work = [g, workspace = on.workspace] {
    tests::scribble(workspace, kWorkspace);
    g.dtype == Dtype::f64 ? product<double>(g) : product<float>(g);
  };
  return simt::run_on_stream(on.stream, work) == cudaSuccess ? Status::ok : Status::library_failed;
}

}  // namespace moat::kernels::cublaslt
