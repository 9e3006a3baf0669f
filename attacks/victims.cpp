#include "attacks/victims.h"

#include <algorithm>
#include <array>
#include <bit>
#include <numeric>

#include "attacks/model.h"
#include "attacks/threat_model.h"
#include "engine/names.h"
#include "engine/ops/shape.h"

namespace moat::attacks {

using namespace engine;

namespace {

constexpr uint64_t kLeast = 32;  // images on a GPU

}  // namespace

std::vector<int32_t> rounded_up(const std::vector<int32_t>& rows, int64_t all, Device device) {
  if (device.is_cpu() || rows.empty()) return rows;
  const auto wanted = static_cast<int64_t>(std::bit_ceil(std::max(rows.size(), kLeast)));
  int64_t others = std::min(wanted, all) - std::ssize(rows);
  std::vector<int32_t> kept;
  auto next = rows.begin();
  for (int32_t row = 0; row < all; ++row)
    if (next != rows.end() && *next == row) {
      kept.push_back(*next++);
    } else if (others > 0) {
      kept.push_back(row);
      --others;
    }
  return kept;
}

Tensor index_of(const std::vector<int32_t>& rows, Device device) {
  return Tensor::from(rows, {static_cast<int64_t>(rows.size())}, device);
}

Tensor replaced_rows(const Tensor& rows, const Tensor& instead,
                     const std::vector<int32_t>& position) {
  std::vector<int32_t> from(static_cast<size_t>(rows.dim(0)));
  std::iota(from.begin(), from.end(), 0);
  for (size_t k = 0; k < position.size(); ++k)
    from[static_cast<size_t>(position[k])] =
        static_cast<int32_t>(rows.dim(0)) + static_cast<int32_t>(k);
  return gather_rows(concat({rows, instead}, 0), index_of(from, rows.device()));
}

Tensor per_image(const Tensor& values, const Tensor& images) {
  Shape shape = Shape::of_rank(images.rank(), 1);
  shape[0] = images.dim(0);
  return values.reshaped(shape);
}

Tensor per_image(const std::vector<float>& values, const Tensor& images) {
  return per_image(Tensor::from(values, {images.dim(0)}, images.device()), images);
}

Victims Victims::rows(const std::vector<int32_t>& index) const {
  const Tensor at = index_of(index, images.device());
  const auto some = [&](const Tensor& x) { return x.defined() ? gather_rows(x, at) : Tensor{}; };
  return {some(images), some(labels),  some(ids),    some(reference), some(other_labels),
          some(weight), some(targets), some(routes), some(start)};
}

const char* name_of(Norm norm) { return norm == Norm::linf ? "linf" : "l2"; }
Norm norm_named(std::string_view name, std::string_view what) {
  return engine::find_named(what, name, std::array{Norm::linf, Norm::l2},
                            [](Norm norm) { return name_of(norm); });
}
const char* name_of(Gate gate) { return gate == Gate::open ? "through" : "blocked"; }

}  // namespace moat::attacks
