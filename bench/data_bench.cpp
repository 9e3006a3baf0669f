#include "bench/data_bench.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <functional>
#include <span>

#include <jpeglib.h>

#include "data/converted.h"
#include "data/image.h"
#include "data/image_files.h"
#include "engine/error.h"
#include "engine/hardware.h"
#include "engine/io/file.h"
#include "engine/random.h"

namespace moat::bench {

namespace {

namespace fs = std::filesystem;
using Bytes = std::vector<uint8_t>;

constexpr int kSide = 64, kChannels = 3, kQuality = 90;
constexpr size_t kPixels = size_t{kSide} * kSide * kChannels;
constexpr int64_t kBatch = 256;

// Of this thread, so that other programs take no part of it.
double cpu_seconds() {
  timespec now{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

double seconds_of(const std::function<void()>& work) {
  const double start = cpu_seconds();
  work();
  return cpu_seconds() - start;
}

// Waves in three directions and noise, so that a JPEG of it has work to do.
Bytes texture(int64_t image) {
  const engine::RandomKey key{.seed = static_cast<uint64_t>(image)};
  const auto drawn = [&](uint32_t i) { return engine::random_bits(key, i) / 4294967296.0; };
  std::array<std::array<double, 4>, 3> waves;
  for (uint32_t w = 0; w < 3; ++w)
    for (uint32_t i = 0; i < 4; ++i) waves[w][i] = drawn(4 * w + i);
  Bytes pixels;
  for (int y = 0; y < kSide; ++y)
    for (int x = 0; x < kSide; ++x)
      for (int c = 0; c < kChannels; ++c) {
        double v = 128 + 16 * (drawn(100 + static_cast<uint32_t>(pixels.size())) - 0.5);
        for (const auto& [across, down, phase, colour] : waves)
          v += 30 * std::cos((across - 0.5) * x + (down - 0.5) * y + 6 * phase + c * colour);
        pixels.push_back(static_cast<uint8_t>(std::lround(std::clamp(v, 0.0, 255.0))));
      }
  return pixels;
}

Bytes encoded(const Bytes& pixels) {
  jpeg_compress_struct info{};
  jpeg_error_mgr errors;
  info.err = jpeg_std_error(&errors);
  jpeg_create_compress(&info);
  unsigned char* buffer = nullptr;
  unsigned long size = 0;
  jpeg_mem_dest(&info, &buffer, &size);
  info.image_width = info.image_height = kSide;
  info.input_components = kChannels;
  info.in_color_space = JCS_RGB;
  jpeg_set_defaults(&info);
  jpeg_set_quality(&info, kQuality, TRUE);
  jpeg_start_compress(&info, TRUE);
  while (info.next_scanline < info.image_height) {
    JSAMPROW row =
        const_cast<uint8_t*>(pixels.data()) + size_t{info.next_scanline} * kSide * kChannels;
    jpeg_write_scanlines(&info, &row, 1);
  }
  jpeg_finish_compress(&info);
  jpeg_destroy_compress(&info);
  Bytes out(buffer, buffer + size);
  std::free(buffer);
  return out;
}

// The yardstick: one decoder for all images, nothing checked.
class BareDecoder {
 public:
  BareDecoder() {
    info_.err = jpeg_std_error(&errors_);
    jpeg_create_decompress(&info_);
  }
  BareDecoder(const BareDecoder&) = delete;
  BareDecoder& operator=(const BareDecoder&) = delete;
  ~BareDecoder() { jpeg_destroy_decompress(&info_); }

  void decode(std::span<const uint8_t> bytes, uint8_t* pixels) {
    jpeg_mem_src(&info_, bytes.data(), static_cast<unsigned long>(bytes.size()));
    jpeg_read_header(&info_, TRUE);
    info_.out_color_space = JCS_RGB;
    jpeg_start_decompress(&info_);
    while (info_.output_scanline < info_.output_height) {
      JSAMPROW row = pixels + size_t{info_.output_scanline} * kSide * kChannels;
      jpeg_read_scanlines(&info_, &row, 1);
    }
    jpeg_finish_decompress(&info_);
  }

 private:
  jpeg_decompress_struct info_{};
  jpeg_error_mgr errors_{};
};

Bytes bytes_of_file(const fs::path& path) {
  std::FILE* file = std::fopen(path.c_str(), "rb");
  engine::require(file != nullptr, "the benchmark's files must stay while it runs");
  std::fseek(file, 0, SEEK_END);
  Bytes bytes(static_cast<size_t>(std::ftell(file)));
  std::rewind(file);
  const size_t got = std::fread(bytes.data(), 1, bytes.size(), file);
  std::fclose(file);
  engine::require(got == bytes.size(), "the benchmark's files must stay while it runs");
  return bytes;
}

// What one round of both sides does, on n images into `to`.
struct Subject {
  std::string name, yardstick_name;
  std::function<void()> prepare, ours, yardstick;
};

void write_copies(const data::ImageSet& set, const fs::path& file) {
  std::vector<data::Source> splits;
  for (const data::Split split : {data::Split::train, data::Split::validation, data::Split::test}) {
    splits.push_back({split == data::Split::train ? set : data::first_rows(set, 1)});
    splits.back().set.split = split;
  }
  data::write_converted(file, splits, [](int64_t, int64_t) {});
}

}  // namespace

std::vector<DataRow> measure_data(const DataBenchOptions& options) {
  const int64_t n = options.images;
  std::vector<Bytes> jpegs;
  std::vector<data::ImageFile> files;
  data::ImageSet set{.height = kSide,
                     .width = kSide,
                     .channels = kChannels,
                     .class_names = {"texture"},
                     .name = "textures"};
  Bytes pixels;
  for (int64_t i = 0; i < n; ++i) {
    const Bytes image = texture(i);
    pixels.insert(pixels.end(), image.begin(), image.end());
    jpegs.push_back(encoded(image));
    const auto id = static_cast<int32_t>(i);
    files.push_back({options.folder / (std::to_string(i) + ".jpg"), 0, id});
    engine::write_file(files.back().path, [&](std::ostream& out) {
      out.write(reinterpret_cast<const char*>(jpegs.back().data()),
                static_cast<std::streamsize>(jpegs.back().size()));
    });
    set.labels.push_back(0);
    set.ids.push_back(id);
  }
  set.pixels = std::move(pixels);
  const fs::path converted = options.folder / "textures.moatset";
  write_copies(set, converted);

  Bytes to(static_cast<size_t>(n) * kPixels);
  const engine::Tensor batch =
      engine::Tensor::empty({kBatch, kSide, kSide, kChannels}, engine::Dtype::u8);
  std::vector<int32_t> labels(kBatch), ids(kBatch);
  const auto row = [&](size_t i) { return to.data() + i * kPixels; };
  const std::vector<int32_t> order =
      engine::random_permutation(n, {.purpose = engine::Purpose::shuffle});
  const data::Source source = data::read_images({.name = set.name}, files, {});
  BareDecoder bare;
  data::ImageSet mapped;
  const auto batches = [&](const std::function<void(std::span<const int32_t>)>& copy) {
    for (int64_t from = 0; from < n; from += kBatch)
      copy(std::span(order).subspan(static_cast<size_t>(from),
                                    static_cast<size_t>(std::min(kBatch, n - from))));
  };
  const auto copy_mapped = [&] {
    batches([&](std::span<const int32_t> rows) {
      data::copy_rows(mapped, rows, batch.data_as<uint8_t>(), labels.data(), ids.data());
    });
  };
  const auto copy_memory = [&] {
    batches([&](std::span<const int32_t> rows) {
      for (size_t i = 0; i < rows.size(); ++i)
        std::memcpy(batch.data_as<uint8_t>() + i * kPixels, set.image(rows[i]).data(), kPixels);
    });
  };
  const auto map = [&] { mapped = data::read_converted(converted, data::Split::train); };
  const std::vector<Subject> subjects = {
      {"decode", "libjpeg-turbo", [] {},
       [&] {
         for (size_t i = 0; i < jpegs.size(); ++i)
           data::decode_image(jpegs[i], [&](int, int) { return row(i); });
       },
       [&] {
         for (size_t i = 0; i < jpegs.size(); ++i) bare.decode(jpegs[i], row(i));
       }},
      {"files", "fread and libjpeg-turbo", [] {}, [&] { source.read(0, n, to.data()); },
       [&] {
         for (size_t i = 0; i < files.size(); ++i)
           bare.decode(bytes_of_file(files[i].path), row(i));
       }},
      {"converted, first pass", "memcpy", map, copy_mapped, copy_memory},
      {"converted, again", "memcpy", [] {}, copy_mapped, copy_memory},
  };
  const auto require_same_pixels = [&](const Subject& s) {
    const auto given = [&](const std::function<void()>& side) {
      std::fill(to.begin(), to.end(), uint8_t{0});
      std::memset(batch.data(), 0, batch.nbytes());
      side();
      Bytes all = to;
      all.insert(all.end(), batch.data_as<uint8_t>(), batch.data_as<uint8_t>() + batch.nbytes());
      return all;
    };
    const Bytes expected = given(s.yardstick);
    s.prepare();
    engine::require(given(s.ours) == expected, "both sides must give the same pixels: " + s.name);
  };
  std::vector<DataRow> rows;
  for (const Subject& s : subjects)
    rows.push_back({s.name, s.yardstick_name, n, n * static_cast<int64_t>(kPixels), {}, {}});
  const int threads = engine::threads();
  engine::set_threads(1);
  for (int round = 0; round < options.rounds; ++round)
    for (size_t i = 0; i < subjects.size(); ++i) {
      if (round == 0) require_same_pixels(subjects[i]);
      // Who comes second finds the caches warm.
      if (round % 2 == 1) rows[i].yardstick.push_back(seconds_of(subjects[i].yardstick));
      subjects[i].prepare();
      rows[i].ours.push_back(seconds_of(subjects[i].ours));
      if (round % 2 == 0) rows[i].yardstick.push_back(seconds_of(subjects[i].yardstick));
    }
  engine::set_threads(threads);
  return rows;
}

}  // namespace moat::bench
