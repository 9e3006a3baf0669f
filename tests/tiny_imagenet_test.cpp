#include <catch2/catch.hpp>

#include "data/catalog.h"
#include "data/tiny_imagenet.h"
#include "tests/image_bytes.h"
#include "tests/temporary_folder.h"
#include "tests/text_file.h"

namespace moat::tests {

using namespace data;
using Catch::Matchers::Contains;
namespace fs = std::filesystem;

namespace {
constexpr TinyImagenetLayout kLayout{.classes = 2, .train_per_class = 20, .val = 3};

// The published layout in miniature. Images are of one colour each, which says where they belong.
struct TinyFiles {
  TemporaryFolder folder;
  fs::path root = folder.path() / "tiny-imagenet-200";

  TinyFiles() {
    write_text(root / "wnids.txt", "n02000000\nn01000000\n");  // not sorted, as published
    write_text(root / "words.txt", "n01000000\tgoldfish, Carassius auratus\nn00000001\tentity\n");
    for (int k = 0; k < 20; ++k) {
      put_image("train/n01000000/images/n01000000_" + std::to_string(k) + ".JPEG", k);
      put_image("train/n02000000/images/n02000000_" + std::to_string(k) + ".JPEG", 100 + k);
    }
    write_text(root / "train/n01000000/n01000000_boxes.txt", "n01000000_0.JPEG\t0\t10\t63\t58\n");
    for (int k = 0; k < 3; ++k) put_image("val/images/val_" + std::to_string(k) + ".JPEG", 200 + k);
    annotate({"val_2.JPEG\tn02000000\t0\t0\t9\t9", "val_0.JPEG\tn01000000\t0\t0\t9\t9",
              "val_1.JPEG\tn02000000\t0\t0\t9\t9"});
    put_image("test/images/test_0.JPEG", 0);
  }
  void put_image(const std::string& name, int level) const {
    put_file(root / name, jpeg_of({8, 8, 3, Bytes(192, static_cast<uint8_t>(level))}, JCS_RGB));
  }
  void annotate(const std::vector<std::string>& lines) const {
    std::string text;
    for (const std::string& line : lines) text += line + "\n";
    write_text(root / "val/val_annotations.txt", text);
  }
  ImageSet read(Split split, ImageFolderOptions options = {}) const {
    return loaded(open_tiny_imagenet(kLayout, folder.path(), split, options));
  }
};
}  // namespace

TEST_CASE("tiny-imagenet: the published layout", "[data][tiny-imagenet]") {
  const TinyFiles files;
  const ImageSet train = files.read(Split::train), validation = files.read(Split::validation),
                 test = files.read(Split::test);
  validate(train), validate(validation), validate(test);
  CHECK(train.class_names == std::vector<std::string>{"n01000000 goldfish", "n02000000"});
  CHECK(train.size() == 36);
  CHECK(validation.ids == std::vector<int32_t>{9, 29, 19, 39});
  CHECK(validation.labels == std::vector<int32_t>{0, 1, 0, 1});
  // Ids follow the names: 0, 1, 10, 11, …, 19, 2, 3 …; so id 9 is the image 17, id 19 the image 9.
  CHECK(validation.image(0)[0] == 17);
  CHECK(validation.image(3)[0] == 109);
  CHECK(std::vector(train.ids.begin(), train.ids.begin() + 3) == std::vector<int32_t>{0, 20, 1});
  CHECK(train.image(1)[0] == 100);
  // The test split is the published val/, in the order of its annotations.
  CHECK(test.ids == std::vector<int32_t>{0, 1, 2});
  CHECK(test.labels == std::vector<int32_t>{1, 0, 1});
  CHECK(test.image(0)[0] == 202);
  CHECK(test.image(1)[0] == 200);

  CHECK(files.read(Split::train, {.resize = {3}, .limit = 5}).pixels.size() == 5 * 27);
  const ImageSet inside = loaded(open_tiny_imagenet(kLayout, files.root, Split::test));
  CHECK(content_hash(inside) == content_hash(test));
  CHECK_THROWS_WITH(load({.name = "tiny-imagenet", .path = files.root}, Split::train),
                    Contains("must name 200 classes, it names 2"));
}

TEST_CASE("tiny-imagenet says in one line what is amiss", "[data][tiny-imagenet]") {
  const TinyFiles files;
  const fs::path root = files.root;
  const auto train_fails = [&](const std::string& says) {
    CHECK_THROWS_WITH(files.read(Split::train), Contains(says));
  };
  const auto test_fails = [&](const std::string& says) {
    CHECK_THROWS_WITH(files.read(Split::test), Contains(says));
  };
  const std::string a = "val_0.JPEG\tn01000000", b = "val_1.JPEG\tn01000000",
                    c = "val_2.JPEG\tn02000000\t0\t0\t1\t1";
  files.annotate({a, b});
  test_fails("val_2.JPEG: has no line in val_annotations.txt");
  files.annotate({a, b, c, a});
  test_fails("\"val_0.JPEG\" has more than one line");
  files.annotate({a, b, c, "val_3.JPEG\tn01000000"});
  test_fails("\"val_3.JPEG\" is not in");
  files.annotate({a, b, c, "../../wnids.txt\tn01000000"});
  test_fails("\"../../wnids.txt\" is not in");
  files.annotate({a, b, "val_2.JPEG\tn03000000"});
  test_fails("\"n03000000\" of \"val_2.JPEG\" is not a class of wnids.txt");
  files.annotate({a, b, "val_2.JPEG"});
  test_fails("\"\" of \"val_2.JPEG\" is not a class");
  files.annotate({a, b});
  fs::remove(root / "val/images/val_2.JPEG");
  test_fails("must have 3 lines, it has 2");
  fs::remove_all(root / "val/images");
  test_fails("there must be a folder");
  fs::remove(root / "val/val_annotations.txt");
  test_fails("val_annotations.txt");

  fs::remove(root / "train/n02000000/images/n02000000_7.JPEG");
  train_fails("must hold 20 images, it holds 19");
  fs::remove_all(root / "train/n01000000");
  train_fails("there must be a folder");
  write_text(root / "wnids.txt", "n01000000\nn02000000\nn01000000\n");
  train_fails("names n01000000 twice");
  write_text(root / "wnids.txt", "n01000000\n../../../etc\n");
  train_fails("must be n and eight digits, got \"../../../etc\"");
  write_text(root / "wnids.txt", "n01000000\n");
  train_fails("must name 2 classes, it names 1");
  fs::remove(root / "wnids.txt");
  train_fails("must hold the published files");
}

}  // namespace moat::tests
