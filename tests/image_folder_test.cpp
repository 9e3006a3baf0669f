#include <catch2/catch.hpp>

#include "data/catalog.h"
#include "data/image_folder.h"
#include "data/jpeg.h"
#include "engine/hardware.h"
#include "tests/image_bytes.h"
#include "tests/temporary_folder.h"
#include "train/images.h"

namespace moat::tests {

using namespace data;
using Catch::Matchers::Contains;
namespace fs = std::filesystem;

TEST_CASE("imagefolder: classes, ids, splits and order", "[image][folder]") {
  const TemporaryFolder folder;
  const fs::path root = folder.path();
  // 12 files of class a, 13 of b, in train/: ids 0 … 11 and 12 … 24; 9 and 19 are held out.
  const auto name = [](int i) { return std::string(1, static_cast<char>('a' + i)); };
  for (int i = 0; i < 12; ++i)
    put_file(root / "train/a" / (name(i) + ".png"), png_of(ramp(4, 6, 3, i)));
  for (int i = 0; i < 13; ++i)
    put_file(root / "train/b" / (name(i) + (i % 2 ? ".JPG" : ".jpeg")),
             jpeg_of(ramp(4, 6, i % 3 ? 3 : 1, i), i % 3 ? JCS_RGB : JCS_GRAYSCALE));
  put_file(root / "train/a/.hidden.png", {});
  put_file(root / "train/a/notes.txt", {});
  put_file(root / "test/b/z.png", png_of(ramp(4, 6, 3)));

  const ImageSet train = image_folder(root, Split::train),
                 validation = image_folder(root, Split::validation),
                 test = image_folder(root, Split::test);
  validate(train), validate(validation), validate(test);
  CHECK(train.class_names == std::vector<std::string>{"a", "b"});
  CHECK(train.size() == 23);
  CHECK(train.height == 4);
  CHECK(train.width == 6);
  CHECK(std::vector(train.ids.begin(), train.ids.begin() + 5) ==
        std::vector<int32_t>{0, 12, 1, 13, 2});
  CHECK(std::vector(train.labels.begin(), train.labels.begin() + 4) ==
        std::vector<int32_t>{0, 1, 0, 1});
  CHECK(Bytes(train.image(2).begin(), train.image(2).end()) == ramp(4, 6, 3, 1).pixels);
  CHECK(validation.ids == std::vector<int32_t>{9, 19});
  CHECK(validation.labels == std::vector<int32_t>{0, 1});
  CHECK(test.labels == std::vector<int32_t>{1});

  const ImageSet some = load({.name = "imagefolder", .path = root, .limit = 5}, Split::train);
  CHECK(some.size() == 5);
  CHECK(some.pixels == first_rows(train, 5).pixels);
  CHECK(some.ids == first_rows(train, 5).ids);

  put_file(root / "val/a/v.png",
           png_of(ramp(4, 6, 3)));  // a validation folder ends the holding out
  CHECK(image_folder(root, Split::train).size() == 25);
  CHECK(image_folder(root, Split::validation).size() == 1);
  fs::create_directory(root / "validation");
  CHECK_THROWS_WITH(image_folder(root, Split::validation), Contains("both"));
}

TEST_CASE("imagefolder: folders in a class, and ImageNet's two folders", "[image][folder]") {
  const TemporaryFolder folder;
  const fs::path root = folder.path();
  for (int i = 0; i < 20; ++i)
    put_file(root / "train/a" / (i % 2 ? "images" : "more/deep") / (std::to_string(i) + ".JPEG"),
             jpeg_of(ramp(8, 8, 3, i), JCS_RGB));
  put_file(root / "train/a/images/boxes.txt", {});
  put_file(root / "train/a/.cache/0.png", {});
  put_file(root / "val/a/1.png", png_of(ramp(8, 8, 3)));
  const ImageSet train = image_folder(root, Split::train),
                 validation = image_folder(root, Split::validation),
                 test = image_folder(root, Split::test);
  // Without test/ the published validation images are the test split.
  CHECK(train.size() == 18);
  CHECK(validation.ids == std::vector<int32_t>{9, 19});
  CHECK(Bytes(test.pixels.begin(), test.pixels.end()) == ramp(8, 8, 3).pixels);
  // By name: images/1, 11, 13, …, 9, then more/deep/0, 10, ….
  CHECK(std::ranges::equal(train.image(0), decode_jpeg(jpeg_of(ramp(8, 8, 3, 1), JCS_RGB)).pixels));
  CHECK(std::ranges::equal(train.image(9), decode_jpeg(jpeg_of(ramp(8, 8, 3, 0), JCS_RGB)).pixels));
  fs::remove_all(root / "val");
  CHECK_THROWS_WITH(image_folder(root, Split::test), Contains("must hold the folder test/"));
}

TEST_CASE("imagefolder: the same bits on any number of threads", "[image][folder]") {
  const TemporaryFolder folder;
  for (int i = 0; i < 200; ++i)
    put_file(folder.path() / "test/a" / (std::to_string(i) + ".jpg"),
             jpeg_of(ramp(16, 16, 3, i), JCS_RGB));
  const int threads = engine::threads();
  engine::set_threads(1);
  const ImageSet one = image_folder(folder.path(), Split::test);
  engine::set_threads(4);
  const ImageSet four = image_folder(folder.path(), Split::test);
  engine::set_threads(threads);
  CHECK(one.pixels == four.pixels);
  CHECK(one.ids == four.ids);
}

TEST_CASE("imagefolder: one size, or resized", "[image][folder]") {
  const TemporaryFolder folder;
  put_file(folder.path() / "test/a/1.png", png_of(ramp(4, 4, 3)));
  put_file(folder.path() / "test/a/2.png", png_of(ramp(4, 5, 3)));
  CHECK_THROWS_WITH(image_folder(folder.path(), Split::test),
                    Contains("2.png") && Contains("data.resize"));
  const ImageSet set = image_folder(folder.path(), Split::test, {.resize = {3}});
  CHECK(set.size() == 2);
  CHECK(set.height == 3);
  CHECK(Bytes(set.image(1).begin(), set.image(1).end()) == resized(ramp(4, 5, 3), 3, 3).pixels);
}

TEST_CASE("imagefolder: what a configuration says of sizes", "[image][folder][crop]") {
  const TemporaryFolder folder;
  put_file(folder.path() / "test/a/1.png", png_of(ramp(6, 9, 3)));
  train::DataSettings settings;
  settings.name = "imagefolder", settings.path = folder.path();
  settings.resize = 6, settings.resize_by = "shorter-side", settings.crop = 4;
  const ImageSet set = train::load_images(settings, Split::test, 0);
  CHECK(set.height == 4);
  CHECK(set.stored_width() == 6);
  const Image kept = squared(ramp(6, 9, 3), 6, ResizeBy::shorter_side);
  CHECK(Bytes(set.image(0).begin(), set.image(0).end()) == kept.pixels);
  settings.crop = 7;
  CHECK_THROWS_WITH(train::load_images(settings, Split::test, 0), Contains("data.crop"));
}

TEST_CASE("imagefolder refuses what it cannot read, naming it", "[image][folder]") {
  const TemporaryFolder folder;
  const fs::path root = folder.path();
  const DataConfig config{.name = "imagefolder", .path = root};
  CHECK_THROWS_WITH(load(config, Split::train), Contains("must hold the folder train/"));
  fs::create_directories(root / "train");
  CHECK_THROWS_WITH(load(config, Split::train), Contains("a folder of images per class"));
  fs::create_directories(root / "train/empty one");
  CHECK_THROWS_WITH(load(config, Split::train), Contains("empty one") && Contains("holds no"));
  fs::remove(root / "train/empty one");

  for (int i = 0; i < 300; ++i)
    put_file(root / "train/a" / (std::to_string(1000 + i) + ".png"), png_of(ramp(3, 3, 3, i)));
  CHECK(load(config, Split::train).size() == 270);
  put_file(root / "train/a/1150.png", Bytes{'G', 'I', 'F', '8', '9', 'a'});
  CHECK_THROWS_WITH(load(config, Split::train), Contains("neither a JPEG nor a PNG file, but GIF"));
  // Of several damaged files the first one is named, whatever the threads do.
  for (int i : {1150, 1151, 1152, 1295})
    put_file(root / "train/a" / (std::to_string(i) + ".png"),
             Bytes(i % 2 ? size_t{4} << 20 : size_t{40}, 'x'));
  for (int repeat = 0; repeat < 10; ++repeat)
    CHECK_THROWS_WITH(load(config, Split::train), Contains("1150.png: neither"));

  for (const char* link : {"train/a/2000.png", "train/moved"}) {
    fs::create_symlink("nowhere", root / link);
    CHECK_THROWS_WITH(load(config, Split::train),
                      Contains(link) && Contains("is a link to what is not there"));
    fs::remove(root / link);
  }

  for (const char* split : {"val", "test"}) {  // was another meaning of the splits
    fs::create_symlink("nowhere", root / split);
    CHECK_THROWS_WITH(load(config, Split::train), Contains("is a link to what is not there"));
    fs::remove(root / split);
  }
  fs::create_symlink("..", root / "train/a/loop");
  CHECK_THROWS_WITH(load(config, Split::train), Contains("to a folder that it lies in"));
  fs::remove(root / "train/a/loop");

  put_file(root / "test/stranger/1.png", png_of(ramp(3, 3, 3)));
  CHECK_THROWS_WITH(load(config, Split::test), Contains("stranger") && Contains("train/ lacks"));
}

TEST_CASE("imagefolder: linked folders, a folder valid, and what is left out", "[image][folder]") {
  const TemporaryFolder folder, elsewhere;
  const fs::path root = folder.path();
  put_file(root / "train/a/1.png", png_of(ramp(4, 4, 3)));
  put_file(elsewhere.path() / "2.png", png_of(ramp(4, 4, 3, 1)));
  fs::create_symlink(elsewhere.path(), root / "train/a/more");
  put_file(root / "valid/a/3.png", png_of(ramp(4, 4, 3, 2)));
  put_file(root / "test/a/4.png", png_of(ramp(4, 4, 3, 3)));
  const ImageSet train = image_folder(root, Split::train);
  CHECK(train.size() == 2);
  CHECK(train.warning.empty());
  CHECK(std::ranges::equal(image_folder(root, Split::validation).pixels, ramp(4, 4, 3, 2).pixels));

  for (const char* name : {"5.webp", "6.BMP", "notes.txt"}) put_file(root / "train/a" / name, {});
  CHECK_THAT(image_folder(root, Split::train).warning,
             Contains("holds 2 images that are neither .jpg, .jpeg nor .png and are left out"));
  put_file(root / "train/b/7.tif", {});
  CHECK_THROWS_WITH(image_folder(root, Split::train), Contains("and 1 of other types: convert"));
}

}  // namespace moat::tests
