#include "data/cifar.h"

#include <sstream>

#include "engine/io/file.h"

namespace moat::data {

using engine::require;
using engine::text;

namespace {
constexpr int kSide = 32, kChannels = 3, kPlane = kSide * kSide, kPixels = kChannels * kPlane;

std::vector<std::string> class_names(const CifarLayout& layout, const std::filesystem::path& file) {
  if (!std::filesystem::exists(file)) return layout.class_names;
  std::istringstream in(engine::read_file(file, 1 << 20));
  std::vector<std::string> names;
  for (std::string line; std::getline(in, line);) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (!line.empty()) names.push_back(line);
  }
  require(names.size() == layout.class_names.size(), [&] {
    return text(file.string(), ": must hold ", layout.class_names.size(), " class names, it holds ",
                names.size());
  });
  return names;
}

std::filesystem::path folder_of(const CifarLayout& layout, const std::filesystem::path& root) {
  for (const auto& folder : {root, root / layout.folder})
    if (std::filesystem::exists(folder / layout.test_files[0])) return folder;
  throw engine::Error(text(layout.name, ": \"", root.string(),
                           "\" must hold the published binary files (", layout.test_files[0],
                           ", …) or the folder ", layout.folder));
}

void append_planar(std::vector<uint8_t>& pixels, const uint8_t* planes) {
  for (int p = 0; p < kPlane; ++p)
    for (int c = 0; c < kChannels; ++c) pixels.push_back(planes[c * kPlane + p]);
}
}  // namespace

ImageSet cifar(const CifarLayout& layout, const std::filesystem::path& root, Split split) {
  const std::filesystem::path folder = folder_of(layout, root);
  ImageSet out{.height = kSide,
               .width = kSide,
               .channels = kChannels,
               .class_names = class_names(layout, folder / layout.names_file),
               .name = layout.name,
               .split = split};
  const bool test = split == Split::test;
  const int64_t records = test ? layout.test_records : layout.train_records;
  const int64_t record_bytes = layout.label_bytes + kPixels;
  std::vector<uint8_t> pixels;
  int32_t id = 0;
  for (const std::string& name : test ? layout.test_files : layout.train_files) {
    const std::filesystem::path file = folder / name;
    const std::string bytes = engine::read_file(file);
    require(static_cast<int64_t>(bytes.size()) == records * record_bytes, [&] {
      return text(file.string(), ": must have ", records * record_bytes, " bytes, it has ",
                  bytes.size(), "; unpack the published binary version again");
    });
    for (int64_t i = 0; i < records; ++i, ++id) {
      const auto* record = reinterpret_cast<const uint8_t*>(bytes.data()) + i * record_bytes;
      const int32_t label = record[layout.label_bytes - 1];
      require(label < out.classes(), [&] {
        return text(file.string(), ": label ", label, " of record ", i, " is outside the ",
                    out.classes(), " classes");
      });
      if (!test && is_held_out(id) != (split == Split::validation)) continue;
      append_planar(pixels, record + layout.label_bytes);
      out.labels.push_back(label);
      out.ids.push_back(id);
    }
  }
  out.pixels = std::move(pixels);
  return out;
}

const CifarLayout& cifar10_layout() {
  static const CifarLayout layout{
      .name = "cifar10",
      .folder = "cifar-10-batches-bin",
      .train_files = {"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin",
                      "data_batch_4.bin", "data_batch_5.bin"},
      .test_files = {"test_batch.bin"},
      .names_file = "batches.meta.txt",
      .class_names = {"airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse",
                      "ship", "truck"},
      .label_bytes = 1,
      .train_records = 10000,
      .test_records = 10000};
  return layout;
}

const CifarLayout& cifar100_layout() {
  static const CifarLayout layout{
      .name = "cifar100",
      .folder = "cifar-100-binary",
      .train_files = {"train.bin"},
      .test_files = {"test.bin"},
      .names_file = "fine_label_names.txt",
      .class_names = {"apple",    "aquarium_fish", "baby",       "bear",         "beaver",
                      "bed",      "bee",           "beetle",     "bicycle",      "bottle",
                      "bowl",     "boy",           "bridge",     "bus",          "butterfly",
                      "camel",    "can",           "castle",     "caterpillar",  "cattle",
                      "chair",    "chimpanzee",    "clock",      "cloud",        "cockroach",
                      "couch",    "crab",          "crocodile",  "cup",          "dinosaur",
                      "dolphin",  "elephant",      "flatfish",   "forest",       "fox",
                      "girl",     "hamster",       "house",      "kangaroo",     "keyboard",
                      "lamp",     "lawn_mower",    "leopard",    "lion",         "lizard",
                      "lobster",  "man",           "maple_tree", "motorcycle",   "mountain",
                      "mouse",    "mushroom",      "oak_tree",   "orange",       "orchid",
                      "otter",    "palm_tree",     "pear",       "pickup_truck", "pine_tree",
                      "plain",    "plate",         "poppy",      "porcupine",    "possum",
                      "rabbit",   "raccoon",       "ray",        "road",         "rocket",
                      "rose",     "sea",           "seal",       "shark",        "shrew",
                      "skunk",    "skyscraper",    "snail",      "snake",        "spider",
                      "squirrel", "streetcar",     "sunflower",  "sweet_pepper", "table",
                      "tank",     "telephone",     "television", "tiger",        "tractor",
                      "train",    "trout",         "tulip",      "turtle",       "wardrobe",
                      "whale",    "willow_tree",   "wolf",       "woman",        "worm"},
      .label_bytes = 2,
      .train_records = 50000,
      .test_records = 10000};
  return layout;
}

}  // namespace moat::data
