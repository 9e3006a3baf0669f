#include "kernels/experts/grouped_gemm/sm90.h"

#include "kernels/experts/grouped_gemm/epilogue_sm90.cuh"
#include "kernels/experts/grouped_gemm/mainloop_sm90.cuh"
#include "kernels/experts/grouped_gemm/operands_sm90.h"
#include "kernels/experts/grouped_gemm/weight_grad_sm90.cuh"

namespace moat::kernels::sm90 {

namespace {

// Rows are read once per tile column and w once per tile row, both mostly from the L2 cache: a step
// of a 128 x 256 tile loads 48 KiB for 1024 clocks of tensor cores. Per result 2 bytes are stored.
template <class T, ptx::Major kMajor>
__global__ void __launch_bounds__(kThreads, 1)
    grouped_product_kernel(const __grid_constant__ Product p) {
  const T t{shared_memory<unsigned char>()};
  if (threadIdx.x == 0) {
    t.begin(p.a.row_token ? 1 + kLateArrivals : 1);
    ptx::fence_mbarrier_init();
  }
  __syncthreads();

  if (group() == 0) {
    ptx::setmaxnreg_dec<T::kLoadRegisters>();
    if (p.a.row_token)
      load_by_token<T, kMajor>(p, t);
    else if (thread_of_group() < kWarp)
      load_in_order<T, kMajor>(p, t);
    return;
  }

  ptx::setmaxnreg_inc<T::kMultiplyRegisters>();
  const int turn = group() - 1, first_row = T::kPingPong ? 0 : turn * T::kGroupRows;
  const unsigned steps = static_cast<unsigned>((p.a.k + kDepth - 1) / kDepth);
  PanelWriter panels(t.panels(turn), 1 + turn);
  TileWriter<T> writer(p, panels);
  for (unsigned number = T::kPingPong ? static_cast<unsigned>(turn) : 0;; number += T::kTurns) {
    const GroupedTile tile = told_tile(t, number);
    if (tile.expert < 0) break;
    const int row = tile.row + first_row, rows = min(tile.rows - first_row, T::kGroupRows);
    if (tile.expert == p.a.experts) {
      writer.write_zeros(tile, row, rows);
      continue;
    }
    typename T::Sums sums;
    multiply_tile<T, kMajor>(sums, t, first_row, number, steps);
    writer.write(sums, tile, row, rows);
  }
  panels.finish();
}

Status make_maps(Product& p, int tile_rows, int tile_columns) {
  const GroupedGemm& a = p.a;
  const int width = activated_width(a.activation, a.n), box = kDepth;
  const bool transposed = a.transpose_w == Transpose::yes;
  const int64_t line = transposed ? a.k : a.n, lines = transposed ? a.n : a.k;
  TiledTensor w = bf16_matrix(a.w, line, lines, line, box,
                              !transposed     ? box
                              : is_gated(p.a) ? tile_columns / 2
                                              : tile_columns);
  w.rank = 3;
  w.extents[2] = a.experts;
  w.strides[2] = int64_t{a.n} * a.k * 2;

  Status status = make_tensor_map(&p.w, w);
  const auto add = [&](TensorMap& map, const TiledTensor& t) {
    if (status == Status::ok) status = make_tensor_map(&map, t);
  };
  if (!a.row_token) add(p.x, bf16_matrix(a.x, a.k, a.x_rows, a.k, box, tile_rows));
  const auto send_to = [&](Destination& to, void* base, int64_t column, int stride) {
    to = {.map = {}, .base = static_cast<Bf16*>(base) + column, .width = width, .stride = stride};
    add(to.map, bf16_matrix(to.base, width, a.rows, stride, kPanelColumns, kPanelRows));
  };
  send_to(p.y, a.y, 0, width);
  if (a.pre) send_to(p.pre, a.pre, 0, a.n);
  if (a.pre && is_gated(a)) send_to(p.pre_values, a.pre, width, a.n);
  return status;
}

template <class T, ptx::Major kMajor>
Status run_tile(Cuda on, const GroupedGemm& a) {
  const int64_t most = most_grouped_tiles(a.rows, a.experts, a.n, T::kRows, T::kColumns);
  if (most > kMostScheduledTiles) return Status::unsupported;
  Product p{};
  p.a = a;
  const Status status = make_maps(p, T::kRows, T::kColumns);
  if (status != Status::ok) return status;
  const auto blocks = static_cast<unsigned>(std::min<int64_t>(most, multiprocessors()));
  return launch(on, {dim3(blocks), dim3(kThreads), T::kSharedBytes},
                grouped_product_kernel<T, kMajor>, p);
}

template <class T>
Status run_weight_grad(Cuda on, const GroupedGemmWeightGrad& a, int splits) {
  WeightGrad p{};
  p.a = a;
  p.splits = splits;
  p.sums = static_cast<float*>(splits == 1 ? a.d_w : on.workspace);
  Status status = make_tensor_map(&p.d_y, bf16_matrix(a.d_y, a.n, a.rows, a.n, 64, kDepth));
  if (status == Status::ok && !a.row_token)
    status = make_tensor_map(&p.x, bf16_matrix(a.x, a.k, a.x_rows, a.k, 64, kDepth));
  if (status != Status::ok) return status;
  const auto blocks =
      static_cast<unsigned>(std::min<int64_t>(weight_grad_works<T>(a, splits), multiprocessors()));
  status = launch(on, {dim3(blocks), dim3(kThreads), T::kSharedBytes}, weight_grad_kernel<T>, p);
  if (status != Status::ok || splits == 1) return status;
  return add_splits(on,
                    {p.sums, static_cast<float*>(a.d_w), int64_t{a.experts} * a.n * a.k, splits});
}

GroupedExtents extents(const GroupedGemm& a) {
  return {.rows = a.rows,
          .experts = a.experts,
          .n = a.n,
          .k = a.k,
          .multiprocessors = multiprocessors(),
          .activation = a.activation,
          .keeps_pre = a.pre != nullptr};
}
GroupedExtents extents(const GroupedGemmWeightGrad& a) {
  return {.rows = a.rows,
          .experts = a.experts,
          .n = a.n,
          .k = a.k,
          .multiprocessors = multiprocessors()};
}

}  // namespace

bool can_run(const GroupedGemm& a) {
  const int part = is_gated(a) ? 16 : 8;
  return a.dtype == Dtype::bf16 && a.rows > 0 && a.x_rows > 0 && a.experts > 0 && a.n > 0 &&
         a.k > 0 && a.k % 8 == 0 && a.n % part == 0 && is_aligned(a.x, 16) && is_aligned(a.w, 16) &&
         is_aligned(a.y, 16) && is_aligned(a.pre, 16) && is_aligned(a.bias, 8);
}

bool can_run(const GroupedGemm& a, const GroupedTileShape& tile) {
  return can_run(a) && takes(tile, extents(a));
}

Status run(Cuda on, const GroupedGemm& a, const GroupedTileShape& tile) {
  if (!can_run(a, tile)) return Status::unsupported;
  Status status = Status::unsupported;
  const auto try_tile = [&]<class T>() {
    if (tile == T::kShape)
      status = a.transpose_w == Transpose::yes ? run_tile<T, ptx::Major::k>(on, a)
                                               : run_tile<T, ptx::Major::mn>(on, a);
  };
  try_tile.operator()<Tile<128, 256, TileSchedule::cooperative>>();
  try_tile.operator()<Tile<128, 192, TileSchedule::ping_pong>>();
  try_tile.operator()<Tile<192, 128, TileSchedule::ping_pong>>();
  try_tile.operator()<Tile<128, 128, TileSchedule::ping_pong>>();
  return status;
}

Status run(Cuda on, const GroupedGemm& a) { return run(on, a, grouped_tile_shape(extents(a))); }

bool can_run(const GroupedGemmWeightGrad& a) {
  return a.dtype == Dtype::bf16 && a.rows > 0 && a.x_rows > 0 && a.experts > 0 && a.n > 0 &&
         a.k > 0 && a.k % 8 == 0 && a.n % 8 == 0 && is_aligned(a.x, 16) && is_aligned(a.d_y, 16) &&
         is_aligned(a.d_w, 16);
}

size_t workspace(const GroupedGemmWeightGrad& a, const WeightGradPlan& plan) {
  if (plan.splits == 1 || !can_run(a)) return 0;
  return sizeof(float) * static_cast<size_t>(plan.splits) * static_cast<size_t>(a.experts) *
         static_cast<size_t>(a.n) * static_cast<size_t>(a.k);
}
size_t workspace(const GroupedGemmWeightGrad& a) {
  return workspace(a, weight_grad_plan(extents(a)));
}

Status run(Cuda on, const GroupedGemmWeightGrad& a, const WeightGradPlan& plan) {
  if (!can_run(a)) return Status::unsupported;
  if (on.workspace_bytes < workspace(a, plan)) return Status::small_workspace;
  if (plan.tile == WeightGradTile<128, 256>::kShape)
    return run_weight_grad<WeightGradTile<128, 256>>(on, a, plan.splits);
  if (plan.tile == WeightGradTile<128, 128>::kShape)
    return run_weight_grad<WeightGradTile<128, 128>>(on, a, plan.splits);
  return Status::unsupported;
}
Status run(Cuda on, const GroupedGemmWeightGrad& a) {
  return run(on, a, weight_grad_plan(extents(a)));
}

}  // namespace moat::kernels::sm90
