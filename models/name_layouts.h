#pragma once

#include <string>

#include "models/settings.h"

namespace moat::models {

// How a tensor lies in the other project's file; `same` is PyTorch's order, ours in files.
enum class Layout {
  same,
  per_channel,     // [1, c, 1, 1] or [c] of a normaliser -> [c]
  image_row,       // [e, c·h·w] of a linear map of the pixels -> [e, c, h, w]
  matrix_in_out,   // [in, out] -> [out, in]
  experts_in_out,  // [e, in, out] -> [e, out, in]
  filter_hwio,     // [h, w, in, out] -> [out, in, h, w]
  heads_out,       // [in, heads, d] -> [heads·d, in]
  heads_bias,      // [heads, d] -> [heads·d]
  heads_in         // [heads, d, out] -> [out, heads·d]
};

// From the project's layout to PyTorch's; throws one line that begins with `who` for another shape.
engine::Tensor read_layout(const engine::Tensor& t, Layout layout, const ClassifierSettings& s,
                           const std::string& who);
// And back.
engine::Tensor written_layout(const engine::Tensor& t, Layout layout, const ClassifierSettings& s);

}  // namespace moat::models
