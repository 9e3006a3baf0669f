#include "data/image_set.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "data/augment.h"
#include "engine/io/sha256.h"

namespace moat::data {

using engine::Dtype;
using engine::require;
using engine::Tensor;
using engine::text;

const char* name_of(Split split) {
  switch (split) {
    case Split::train:
      return "train";
    case Split::validation:
      return "validation";
    case Split::test:
      return "test";
  }
  return "unknown";
}

Split parse_split(std::string_view name) {
  if (name == "val") return Split::validation;
  for (Split split : {Split::train, Split::validation, Split::test})
    if (name == name_of(split)) return split;
  throw engine::UsageError(text("split: must be train, validation or test, got \"", name, "\""));
}

void validate(const ImageSet& set) {
  const auto message = [&](auto&&... parts) {
    return text(set.name, " (", name_of(set.split), "): ", parts...);
  };
  require(set.size() > 0, [&] {
    return message("the split is empty: add images to it, or take another data set or split");
  });
  require(set.classes() > 0, [&] { return message("the data set has no classes"); });
  require(set.height > 0 && set.width > 0 && set.channels > 0, [&] {
    return message("images must have a size, got ", set.height, "x", set.width, "x", set.channels);
  });
  require(set.max_value >= 1 && set.max_value <= 255,
          [&] { return message("max_value must be between 1 and 255, got ", set.max_value); });
  require(set.ids.size() == set.labels.size(), [&] {
    return message("needs one id per label, got ", set.ids.size(), " for ", set.size());
  });
  require(static_cast<int64_t>(set.pixels.size()) == set.size() * set.image_bytes(), [&] {
    return message("needs ", set.size() * set.image_bytes(), " bytes of pixels, got ",
                   set.pixels.size());
  });
  for (int64_t i = 0; i < set.size(); ++i) {
    const int32_t label = set.labels[static_cast<size_t>(i)];
    require(label >= 0 && label < set.classes(), [&] {
      return message("label ", label, " of row ", i, " is outside the ", set.classes(), " classes");
    });
  }
  if (set.max_value == 255) return;
  const auto* top = std::max_element(set.pixels.begin(), set.pixels.end());
  require(*top <= set.max_value, [&] {
    return message("a pixel is ", int{*top}, ", the largest value allowed is ", set.max_value);
  });
}

namespace {
void require_row(const ImageSet& set, int32_t row) {
  require(row >= 0 && row < set.size(),
          [&] { return text(set.name, ": row ", row, " is outside the ", set.size(), " rows"); });
}

void require_all_pixels(const ImageSet& set) {
  require(static_cast<int64_t>(set.pixels.size()) == set.size() * set.image_bytes() &&
              set.ids.size() == set.labels.size(),
          [&] { return text(set.name, ": pixels, labels and ids must have the same rows"); });
}

std::vector<int32_t> leading_rows(int64_t count) {
  std::vector<int32_t> rows(static_cast<size_t>(count));
  std::iota(rows.begin(), rows.end(), 0);
  return rows;
}
}  // namespace

void copy_rows(const ImageSet& set, std::span<const int32_t> rows, uint8_t* pixels, int32_t* labels,
               int32_t* ids) {
  require_all_pixels(set);
  for (int32_t row : rows) {
    require_row(set, row);
    // Of pointers: std::ranges::copy of a span goes byte by byte (GCC 12).
    pixels = std::copy_n(set.image(row).data(), set.image_bytes(), pixels);
    *labels++ = set.labels[static_cast<size_t>(row)];
    *ids++ = set.ids[static_cast<size_t>(row)];
  }
}

ImageSet cropped(ImageSet set, int side) {
  if (side == 0) return set;
  const int height = set.stored_height(), width = set.stored_width();
  if (side < 0 || side > height || side > width)
    throw engine::UsageError(text("data.crop: must be a side of at most the ", height, "x", width,
                                  " of the images of ", set.name, ", got ", side));
  set.height = set.width = side;
  set.margin_height = height - side, set.margin_width = width - side;
  return set;
}

ImageSet select(const ImageSet& set, std::span<const int32_t> rows) {
  ImageSet out;
  out.height = set.height, out.width = set.width, out.channels = set.channels;
  out.margin_height = set.margin_height, out.margin_width = set.margin_width;
  out.max_value = set.max_value;
  out.class_names = set.class_names;
  out.name = set.name;
  out.split = set.split;
  std::vector<uint8_t> pixels(rows.size() * static_cast<size_t>(set.image_bytes()));
  out.labels.resize(rows.size());
  out.ids.resize(rows.size());
  copy_rows(set, rows, pixels.data(), out.labels.data(), out.ids.data());
  out.pixels = std::move(pixels);
  return out;
}

ImageSet first_rows(const ImageSet& set, int64_t count) {
  require(count >= 0, [&] { return text(set.name, ": cannot take ", count, " rows"); });
  ImageSet out = set;
  if (count >= set.size()) return out;
  out.labels.resize(static_cast<size_t>(count));
  out.ids.resize(static_cast<size_t>(count));
  out.pixels = set.pixels.first(static_cast<size_t>(count * set.image_bytes()));
  return out;
}

Batch bytes_of(const ImageSet& set, std::span<const int32_t> rows) {
  const int64_t n = static_cast<int64_t>(rows.size());
  Batch out{Tensor::empty({n, set.stored_height(), set.stored_width(), set.channels}, Dtype::u8),
            Tensor::empty({n}, Dtype::i32), Tensor::empty({n}, Dtype::i32)};
  copy_rows(set, rows, out.images.data_as<uint8_t>(), out.labels.data_as<int32_t>(),
            out.ids.data_as<int32_t>());
  return out;
}

Batch batch_of(const ImageSet& set, std::span<const int32_t> rows) {
  return augmented(bytes_of(set, rows), set.max_value, {.height = set.height, .width = set.width},
                   0, 0);
}

Batch batch_of(const ImageSet& set) { return batch_of(set, leading_rows(set.size())); }

std::vector<int64_t> class_counts(const ImageSet& set) {
  std::vector<int64_t> counts(set.class_names.size());
  for (int32_t label : set.labels) ++counts.at(static_cast<size_t>(label));
  return counts;
}

ChannelStatistics channel_statistics(const ImageSet& set) {
  const size_t channels = static_cast<size_t>(set.channels);
  std::vector<int64_t> sum(channels), sum_of_squares(channels);  // exact: integers
  for (size_t i = 0; i < set.pixels.size(); i += channels)
    for (size_t c = 0; c < channels; ++c) {
      const int64_t v = set.pixels[i + c];
      sum[c] += v;
      sum_of_squares[c] += v * v;
    }
  ChannelStatistics out;
  const double count = static_cast<double>(set.pixels.size()) / set.channels;
  for (size_t c = 0; c < channels; ++c) {
    const double mean = static_cast<double>(sum[c]) / count;
    const double variance = static_cast<double>(sum_of_squares[c]) / count - mean * mean;
    out.mean.push_back(mean / set.max_value);
    out.deviation.push_back(std::sqrt(std::max(variance, 0.0)) / set.max_value);
  }
  return out;
}

std::string content_hash(const ImageSet& set) {
  engine::Sha256 hash;
  hash.update(set.pixels);
  const auto add = [&](int32_t number) {
    const uint32_t v = static_cast<uint32_t>(number);
    const std::array<uint8_t, 4> bytes = {static_cast<uint8_t>(v), static_cast<uint8_t>(v >> 8),
                                          static_cast<uint8_t>(v >> 16),
                                          static_cast<uint8_t>(v >> 24)};
    hash.update(bytes);
  };
  std::ranges::for_each(set.labels, add);
  if (set.margin_height > 0 || set.margin_width > 0) add(set.margin_height), add(set.margin_width);
  return hash.hex();
}

}  // namespace moat::data
