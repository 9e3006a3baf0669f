#include "models/name_layouts.h"

#include "engine/ops/shape.h"

namespace moat::models {

using namespace engine;

Tensor read_layout(const Tensor& t, Layout layout, const ClassifierSettings& s,
                   const std::string& who) {
  const auto of_rank = [&](int rank) {
    require(t.rank() == rank,
            [&] { return text(who, " must have ", rank, " axes, got ", t.shape().str()); });
  };
  switch (layout) {
    case Layout::same:
      return t;
    case Layout::per_channel:
      return reshape(t, {t.size()});
    case Layout::image_row: {
      of_rank(2);
      const int64_t pixels = int64_t{s.height} * s.width;
      require(t.dim(1) % pixels == 0, [&] {
        return text(who, " must be [experts, channels · ", s.height, " · ", s.width, "], got ",
                    t.shape().str(), "; give --image HEIGHT,WIDTH");
      });
      return reshape(t, {t.dim(0), t.dim(1) / pixels, s.height, s.width});
    }
    case Layout::matrix_in_out:
      of_rank(2);
      return permute(t, {1, 0});
    case Layout::experts_in_out:
      of_rank(3);
      return permute(t, {0, 2, 1});
    case Layout::filter_hwio:
      of_rank(4);
      return permute(t, {3, 2, 0, 1});
    case Layout::heads_out:
      of_rank(3);
      return permute(reshape(t, {t.dim(0), t.dim(1) * t.dim(2)}), {1, 0});
    case Layout::heads_bias:
      of_rank(2);
      return reshape(t, {t.size()});
    case Layout::heads_in:
      of_rank(3);
      return permute(reshape(t, {t.dim(0) * t.dim(1), t.dim(2)}), {1, 0});
  }
  throw Error("unknown layout");
}

Tensor written_layout(const Tensor& t, Layout layout, const ClassifierSettings& s) {
  const int64_t heads = s.transformer.heads;
  switch (layout) {
    case Layout::same:
    case Layout::per_channel:
      return t;
    case Layout::image_row:
      return reshape(t, {t.dim(0), -1});
    case Layout::matrix_in_out:
      return permute(t, {1, 0});
    case Layout::experts_in_out:
      return permute(t, {0, 2, 1});
    case Layout::filter_hwio:
      return permute(t, {2, 3, 1, 0});
    case Layout::heads_out:
      return reshape(permute(t, {1, 0}), {t.dim(1), heads, t.dim(0) / heads});
    case Layout::heads_bias:
      return reshape(t, {heads, t.dim(0) / heads});
    case Layout::heads_in:
      return reshape(permute(t, {1, 0}), {heads, t.dim(1) / heads, t.dim(0)});
  }
  throw Error("unknown layout");
}

}  // namespace moat::models
