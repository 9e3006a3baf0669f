#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/pixels.h"
#include "engine/tensor.h"

namespace moat::data {

enum class Split { train, validation, test };
const char* name_of(Split split);
Split parse_split(std::string_view name);  // also "val"; throws UsageError

// Labelled images of one size, as bytes. A pixel means value / max_value, in [0, 1]. Copies share
// the pixels.
struct ImageSet {
  Pixels pixels = {};                // [n, stored_height(), stored_width(), channels]
  std::vector<int32_t> labels = {};  // [n], below class_names.size()
  std::vector<int32_t> ids = {};     // [n], index in the published data set: keys the random draws
  int height = 0, width = 0, channels = 0;  // of what a model sees
  // Rows and columns that are stored besides: a model sees the middle (engine::centred), in
  // training maybe another part.
  int margin_height = 0, margin_width = 0;
  int max_value = 255;
  std::vector<std::string> class_names = {};
  std::string name = {};
  Split split = Split::train;
  std::string warning = {};  // a line on files that are left out; empty: none

  int64_t size() const { return static_cast<int64_t>(labels.size()); }
  int64_t classes() const { return static_cast<int64_t>(class_names.size()); }
  int stored_height() const { return height + margin_height; }
  int stored_width() const { return width + margin_width; }
  int64_t image_bytes() const { return int64_t{stored_height()} * stored_width() * channels; }
  std::span<const uint8_t> image(int64_t row) const {
    return {pixels.data() + row * image_bytes(), static_cast<size_t>(image_bytes())};
  }
};

// Throws when the set is empty, has no class, or its members contradict each other. Reads the
// pixels only where a byte can be too large.
void validate(const ImageSet& set);

// The set with what surrounds the middle side x side of each image as its margin; 0: as it is.
// Throws UsageError where images are smaller.
ImageSet cropped(ImageSet set, int side);

// The rows named, in the order named.
ImageSet select(const ImageSet& set, std::span<const int32_t> rows);

// Their stored pixels [n, stored_height(), stored_width(), channels], labels [n] and ids [n].
void copy_rows(const ImageSet& set, std::span<const int32_t> rows, uint8_t* pixels, int32_t* labels,
               int32_t* ids);

// The first `count` rows, all when there are fewer; shares the pixels.
ImageSet first_rows(const ImageSet& set, int64_t count);

// Where a published data set has no validation part, every tenth training row is one: the rule
// depends on the row's index alone, so that no seed can move a sample between the parts.
constexpr bool is_held_out(int64_t index) { return index % 10 == 9; }

struct Batch {
  engine::Tensor images;  // float32 [n, height, width, channels] in [0, 1]; of bytes_of() uint8
                          // with the margin
  engine::Tensor labels;  // int32 [n]
  engine::Tensor ids;     // int32 [n]
  // Of images that are mixed in pairs; undefined for others.
  engine::Tensor other_labels = {};  // int32 [n]: of the image with the smaller share
  engine::Tensor weight = {};        // float32 [n]: share of `labels`, from 1/2 to 1

  int64_t size() const { return labels.size(); }
  bool is_mixed() const { return weight.defined(); }
  Batch to(engine::Device device) const {
    return each([&](const engine::Tensor& t) { return t.to(device); });
  }
  Batch clone() const {
    return each([](const engine::Tensor& t) { return t.clone(); });
  }

 private:
  template <class F>
  Batch each(F&& f) const {
    const auto of = [&](const engine::Tensor& t) { return t.defined() ? f(t) : engine::Tensor{}; };
    return {of(images), of(labels), of(ids), of(other_labels), of(weight)};
  }
};
Batch batch_of(const ImageSet& set, std::span<const int32_t> rows);
Batch bytes_of(const ImageSet& set, std::span<const int32_t> rows);
Batch batch_of(const ImageSet& set);  // all rows

std::vector<int64_t> class_counts(const ImageSet& set);

struct ChannelStatistics {
  // Per channel, of all stored pixels, in [0, 1]; population deviation.
  std::vector<double> mean, deviation;
};
ChannelStatistics channel_statistics(const ImageSet& set);

// SHA-256 of the pixels followed by the labels and, where there is a margin, its height and width
// as little-endian int32, in hexadecimal.
std::string content_hash(const ImageSet& set);

}  // namespace moat::data
