#include "kernels/basic/gemm_cublaslt.h"

#include <cublasLt.h>

#include <array>
#include <bit>
#include <compare>
#include <map>
#include <memory>
#include <optional>
#include <tuple>

#include "kernels/library/cuda_libraries.h"
#include "kernels/library/libraries.h"

// cuBLASLt is column-major: it is asked for the transpose, y^T = op(b)^T · op(a)^T, whose columns
// are our rows. Its algorithm decides in which order a row's terms are added. So that a row has the
// same bits in every product, the algorithm is chosen once per weight matrix, for kRows rows and
// without splitting k, and then used for any number of rows. A product over rows (transpose_a), a
// weight gradient, may go another way for every number of them: its few values have many terms,
// which splits share, and a workspace adds up in their order.

namespace moat::kernels::cublaslt {

namespace {

constexpr size_t kWorkspace = size_t{32} << 20;  // what cuBLAS asks for on Hopper
constexpr int kRows = 4096;

// A descriptor that lives as long as this.
template <class T, cublasStatus_t (*kDestroy)(T)>
using Owned =
    std::unique_ptr<std::remove_pointer_t<T>, decltype([](T handle) { kDestroy(handle); })>;
using Product = Owned<cublasLtMatmulDesc_t, cublasLtMatmulDescDestroy>;
using Layout = Owned<cublasLtMatrixLayout_t, cublasLtMatrixLayoutDestroy>;
using Preference = Owned<cublasLtMatmulPreference_t, cublasLtMatmulPreferenceDestroy>;

// The largest power of two up to 16 that divides the addresses of all rows of a matrix. What more
// there is in the first address may differ for the same row in another product.
int alignment(const void* rows, int columns, Dtype dtype) {
  const uint64_t bits = reinterpret_cast<uintptr_t>(rows) | uint64_t{16} |
                        static_cast<uint64_t>(columns) * size_of(dtype);
  return 1 << std::countr_zero(bits);
}
struct Alignments {
  int a, b, bias, added, y;
  friend auto operator<=>(const Alignments&, const Alignments&) = default;
};
Alignments alignments(const Gemm& g) {
  return {alignment(g.a, g.transpose_a == Transpose::yes ? g.m : g.k, g.dtype),
          alignment(g.b, g.transpose_b == Transpose::yes ? g.k : g.n, g.dtype),
          alignment(g.bias, g.n, g.y_dtype), alignment(g.added, g.n, g.y_dtype),
          alignment(g.y, g.n, g.y_dtype)};
}

struct State {
  cublasLtHandle_t handle = nullptr;
  std::map<std::tuple<int, int, int, bool, bool, bool, Dtype, Dtype, Precision, Alignments>,
           cublasLtMatmulAlgo_t>
      chosen;

  State() {
    if (cublasLtCreate(&handle) != CUBLAS_STATUS_SUCCESS) handle = nullptr;
  }
  ~State() {
    if (handle) cublasLtDestroy(handle);
  }
};

cudaDataType_t data_type(Dtype dtype) {
  if (dtype == Dtype::f64) return CUDA_R_64F;
  return dtype == Dtype::f32 ? CUDA_R_32F : CUDA_R_16BF;
}

cublasComputeType_t compute_type(Dtype dtype, Precision precision) {
  if (dtype == Dtype::f64) return CUBLAS_COMPUTE_64F;
  return dtype == Dtype::f32 && precision == Precision::tf32 ? CUBLAS_COMPUTE_32F_FAST_TF32
                                                             : CUBLAS_COMPUTE_32F;
}

// The product of g for m rows, as cuBLASLt sees it: `left` is b, `right` is a.
struct Problem {
  Product product;
  Layout left, right, result;
  bool ok = true;

  Problem(const Gemm& g, int m, Precision precision) {
    const bool b_turned = g.transpose_b == Transpose::yes,
               a_turned = g.transpose_a == Transpose::yes;
    const Dtype scale = g.dtype == Dtype::f64 ? Dtype::f64 : Dtype::f32;
    cublasLtMatmulDesc_t made = nullptr;
    keep(cublasLtMatmulDescCreate(&made, compute_type(g.dtype, precision), data_type(scale)));
    product.reset(made);
    set(CUBLASLT_MATMUL_DESC_TRANSA, b_turned ? CUBLAS_OP_T : CUBLAS_OP_N);
    set(CUBLASLT_MATMUL_DESC_TRANSB, a_turned ? CUBLAS_OP_T : CUBLAS_OP_N);
    if (g.bias) {
      set(CUBLASLT_MATMUL_DESC_EPILOGUE, CUBLASLT_EPILOGUE_BIAS);
      set(CUBLASLT_MATMUL_DESC_BIAS_POINTER, g.bias);
    }
    // Row-major [rows, columns] is column-major [columns, rows].
    left = layout(g.dtype, b_turned ? g.k : g.n, b_turned ? g.n : g.k);
    right = layout(g.dtype, a_turned ? m : g.k, a_turned ? g.k : m);
    result = layout(g.y_dtype, g.n, m);
  }

 private:
  void keep(cublasStatus_t status) { ok &= status == CUBLAS_STATUS_SUCCESS; }
  template <class T>
  void set(cublasLtMatmulDescAttributes_t which, const T& value) {
    if (ok) keep(cublasLtMatmulDescSetAttribute(product.get(), which, &value, sizeof(value)));
  }
  Layout layout(Dtype dtype, int columns, int rows) {
    cublasLtMatrixLayout_t made = nullptr;
    keep(cublasLtMatrixLayoutCreate(&made, data_type(dtype), static_cast<uint64_t>(columns),
                                    static_cast<uint64_t>(rows), columns));
    return Layout(made);
  }
};

std::optional<cublasLtMatmulAlgo_t> asked(State& state, const Problem& p, const Gemm& g) {
  cublasLtMatmulPreference_t made = nullptr;
  if (cublasLtMatmulPreferenceCreate(&made) != CUBLAS_STATUS_SUCCESS) return std::nullopt;
  const Preference preference(made);
  bool ok = true;
  const auto set = [&](cublasLtMatmulPreferenceAttributes_t which, auto value) {
    ok &= cublasLtMatmulPreferenceSetAttribute(made, which, &value, sizeof(value)) ==
          CUBLAS_STATUS_SUCCESS;
  };
  set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, uint64_t{kWorkspace});
  set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
      uint32_t{g.transpose_a == Transpose::yes ? CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE
                                               : CUBLASLT_REDUCTION_SCHEME_NONE});
  const Alignments known = alignments(g);
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, static_cast<uint32_t>(known.b));
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, static_cast<uint32_t>(known.a));
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, static_cast<uint32_t>(known.added));
  set(CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, static_cast<uint32_t>(known.y));
  cublasLtMatmulHeuristicResult_t best{};
  int count = 0;
  if (!ok ||
      cublasLtMatmulAlgoGetHeuristic(state.handle, p.product.get(), p.left.get(), p.right.get(),
                                     p.result.get(), p.result.get(), made, 1, &best,
                                     &count) != CUBLAS_STATUS_SUCCESS ||
      count == 0 || best.state != CUBLAS_STATUS_SUCCESS)
    return std::nullopt;
  return best.algo;
}

bool can_run(State& state, const Problem& p, const cublasLtMatmulAlgo_t& algorithm) {
  cublasLtMatmulHeuristicResult_t result{};
  return cublasLtMatmulAlgoCheck(state.handle, p.product.get(), p.left.get(), p.right.get(),
                                 p.result.get(), p.result.get(), &algorithm,
                                 &result) == CUBLAS_STATUS_SUCCESS &&
         result.workspaceSize <= kWorkspace;
}

std::optional<cublasLtMatmulAlgo_t> algorithm_for(State& state, const Problem& p, const Gemm& g,
                                                  Precision precision) {
  const int m = g.transpose_a == Transpose::yes ? g.m : kRows;
  const auto key =
      std::tuple(m, g.n, g.k, g.transpose_a == Transpose::yes, g.transpose_b == Transpose::yes,
                 g.bias != nullptr, g.dtype, g.y_dtype, precision, alignments(g));
  auto found = state.chosen.find(key);
  if (found == state.chosen.end()) {
    const Problem canonical(g, m, precision);
    const auto algorithm = canonical.ok ? asked(state, canonical, g) : std::nullopt;
    if (algorithm) found = state.chosen.emplace(key, *algorithm).first;
  }
  if (found != state.chosen.end() && can_run(state, p, found->second)) return found->second;
  return asked(state, p, g);
}

}  // namespace

size_t workspace(Cuda, const Gemm&) { return kWorkspace; }

Status run(Cuda on, const Gemm& g) {
  auto& state = cuda_library<State>(*on.context, &CudaLibraries::cublaslt);
  if (!state.handle) return Status::library_failed;
  const Precision precision = on.context->precision();
  const Problem p(g, g.m, precision);
  if (!p.ok) return Status::library_failed;
  const auto algorithm = algorithm_for(state, p, g, precision);
  if (!algorithm) return Status::unsupported;
  const std::array<double, 2> factors64{0, 1};
  const std::array<float, 2> factors32{0, 1};
  const auto factor = [&](size_t i) {
    return g.dtype == Dtype::f64 ? static_cast<const void*>(&factors64[i]) : &factors32[i];
  };
  const cublasStatus_t status = cublasLtMatmul(
      state.handle, p.product.get(), factor(1), g.b, p.left.get(), g.a, p.right.get(),
      factor(g.added ? 1 : 0), g.added ? g.added : g.y, p.result.get(), g.y, p.result.get(),
      &*algorithm, on.workspace, kWorkspace, on.stream);
  return status == CUBLAS_STATUS_SUCCESS ? Status::ok : Status::library_failed;
}

}  // namespace moat::kernels::cublaslt

namespace moat::kernels {

std::string cublaslt_version() {
  const size_t version = cublasLtGetVersion();  // 130000 for 13.0.0
  return std::to_string(version / 10000) + "." + std::to_string(version / 100 % 100) + "." +
         std::to_string(version % 100);
}

}  // namespace moat::kernels
