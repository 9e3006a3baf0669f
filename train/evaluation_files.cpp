#include "train/evaluation_files.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "data/png.h"
#include "engine/io/file.h"
#include "engine/io/safetensors.h"
#include "engine/ops/shape.h"
#include "train/run_log.h"

namespace moat::train {

using namespace engine;

namespace {

constexpr int64_t kGallery = 16;  // images
constexpr int kTile = 64;         // pixels a small image is enlarged to, at most

std::string route_text(int route) { return route < 0 ? "" : std::to_string(route); }

// Draws one image of the gallery at tile (column, row), each pixel a square of `zoom`.
struct Canvas {
  int height, width, channels, zoom, columns;
  std::vector<uint8_t> pixels;

  int tile_height() const { return height * zoom + 2; }
  int tile_width() const { return width * zoom + 2; }
  int total_width() const { return columns * tile_width(); }

  void draw(int column, int row, const std::function<double(int64_t)>& value) {
    for (int y = 0; y < height * zoom; ++y)
      for (int x = 0; x < width * zoom; ++x)
        for (int c = 0; c < 3; ++c) {
          const int64_t from =
              (int64_t(y / zoom) * width + x / zoom) * channels + (channels == 3 ? c : 0);
          const int64_t to =
              ((int64_t{row} * tile_height() + y) * total_width() + column * tile_width() + x) * 3 +
              c;
          pixels[size_t(to)] =
              static_cast<uint8_t>(std::lround(std::clamp(value(from), 0.0, 1.0) * 255));
        }
  }
};

void write_gallery(const std::filesystem::path& file, const Tensor& images,
                   const Tensor& adversarial) {
  const int n = to_int(std::min<int64_t>(kGallery, images.dim(0)));
  const int h = to_int(images.dim(1)), w = to_int(images.dim(2)), c = to_int(images.dim(3));
  const int64_t size = int64_t{h} * w * c;
  Canvas canvas{h, w, c, std::max(1, kTile / std::max(h, w)), n, {}};
  canvas.pixels.assign(size_t(3 * canvas.tile_height()) * size_t(canvas.total_width()) * 3, 255);
  const float* x = images.data_as<float>();
  const float* y = adversarial.data_as<float>();
  double largest = 1e-12;
  for (int64_t i = 0; i < n * size; ++i) largest = std::max(largest, std::abs(double(y[i]) - x[i]));
  for (int i = 0; i < n; ++i) {
    const int64_t at = i * size;
    canvas.draw(i, 0, [&](int64_t p) { return x[at + p]; });
    canvas.draw(i, 1, [&](int64_t p) { return y[at + p]; });
    canvas.draw(i, 2, [&](int64_t p) { return 0.5 + 0.5 * (y[at + p] - x[at + p]) / largest; });
  }
  data::write_png(file, canvas.total_width(), 3 * canvas.tile_height(), 3, canvas.pixels);
}

}  // namespace

void write_samples(const std::filesystem::path& file, const Evaluation& e,
                   const data::ImageSet& set) {
  write_file(file, [&](std::ostream& out) {
    out << "index,label,clean_pred,adv_pred,fooled_by,iteration,margin,linf,l2,route_clean,"
           "route_adv\n";
    for (size_t i = 0; i < e.samples.size(); ++i) {
      const attacks::SampleResult& s = e.samples[i];
      const bool correct = s.is_correct(set.labels[i]);
      const std::string by = !correct          ? "clean"
                             : s.fooled_by < 0 ? ""
                                               : e.protocol.attacks[size_t(s.fooled_by)].name;
      out << set.ids[i] << ',' << set.labels[i] << ',' << s.clean_prediction << ','
          << s.adversarial_prediction << ',' << by << ',' << s.iteration << ','
          << number_text(s.margin) << ',' << number_text(s.linf) << ',' << number_text(s.l2) << ','
          << route_text(s.clean_route) << ',' << route_text(s.adversarial_route) << '\n';
    }
  });
}

void write_pictures(const std::filesystem::path& folder, const Evaluation& e,
                    const data::ImageSet& set) {
  const data::Batch clean = data::batch_of(set);
  write_safetensors(folder / "adversarial.safetensors",
                    {.tensors = {{"images", nchw_from_nhwc(clean.images)},
                                 {"adversarial", nchw_from_nhwc(e.adversarial)},
                                 {"labels", clean.labels.to(Dtype::i64)}},
                     .metadata = {}});
  if (set.channels == 1 || set.channels == 3)
    write_gallery(folder / "gallery.png", clean.images, e.adversarial);
}

}  // namespace moat::train
