#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <set>

#include "data/catalog.h"
#include "data/cifar.h"
#include "data/digits.h"
#include "engine/io/sha256.h"
#include "tests/temporary_folder.h"

namespace moat::tests {

using namespace data;
using Catch::Matchers::Contains;
using engine::Tensor;

namespace {
std::string sha_of(const std::string& s) {
  return engine::sha256({reinterpret_cast<const uint8_t*>(s.data()), s.size()});
}

template <class Change>
Pixels changed(const Pixels& pixels, Change change) {
  std::vector<uint8_t> bytes(pixels.begin(), pixels.end());
  change(bytes);
  return bytes;
}

// CIFAR in miniature: 20 records in each of two training files, 10 in the test file; the label of
// record i is i mod 10 and byte j of it (i + j) mod 256.
struct TinyCifar {
  TemporaryFolder folder;
  CifarLayout layout;

  explicit TinyCifar(const CifarLayout& published) : layout(published) {
    layout.train_files = {"a.bin", "b.bin"};
    layout.test_files = {"t.bin"};
    layout.train_records = 20;
    layout.test_records = 10;
    write("a.bin", bytes_of(20));
    write("b.bin", bytes_of(20));
    write("t.bin", bytes_of(10));
  }
  std::vector<uint8_t> bytes_of(int records) const {
    std::vector<uint8_t> bytes;
    for (int i = 0; i < records; ++i) {
      for (int b = 1; b < layout.label_bytes; ++b) bytes.push_back(77);
      bytes.push_back(static_cast<uint8_t>(i % 10));
      for (int j = 0; j < 3072; ++j) bytes.push_back(static_cast<uint8_t>(i + j));
    }
    return bytes;
  }
  void write(const std::string& name, const std::vector<uint8_t>& bytes) const {
    put_file(folder.path() / layout.folder / name, bytes);
  }
  ImageSet read(Split split) const { return cifar(layout, folder.path(), split); }
};
}  // namespace

TEST_CASE("sha256 gives the digests of FIPS 180-4", "[data][sha256]") {
  CHECK(sha_of("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK(sha_of("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK(sha_of("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq") ==
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  CHECK(sha_of(std::string(1000000, 'a')) ==
        "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
  for (size_t length = 0; length < 200; ++length) {  // in two pieces: every state of the block
    const std::vector<uint8_t> bytes(length, 0x5a);
    engine::Sha256 hash;
    hash.update(std::span(bytes).first(length / 3));
    hash.update(std::span(bytes).subspan(length / 3));
    REQUIRE(hash.hex() == engine::sha256(bytes));
  }
}

TEST_CASE("digits: 1,797 images in three disjoint splits", "[data]") {
  std::set<int32_t> ids;
  int64_t rows = 0;
  for (Split split : {Split::train, Split::validation, Split::test}) {
    const ImageSet set = digits(split);
    validate(set);
    CHECK(set.image_bytes() == 64);
    for (int32_t id : set.ids) {
      const int rest = id % 5;
      CHECK((rest == 4 ? Split::test : rest == 3 ? Split::validation : Split::train) == split);
      ids.insert(id);
    }
    rows += set.size();
    for (int64_t count : class_counts(set)) CHECK(count > 20);
  }
  CHECK(rows == 1797);
  CHECK(ids.size() == 1797);

  const ImageSet train = digits(Split::train);
  CHECK(train.size() == 1079);
  CHECK(train.labels[0] == 0);
  CHECK(std::vector<int>(train.pixels.begin(), train.pixels.begin() + 8) ==
        std::vector<int>{0, 0, 5, 13, 9, 1, 0, 0});
  CHECK(batch_of(train, std::vector<int32_t>{0}).images.data_as<float>()[3] == 13.f / 16);
  CHECK(class_counts(digits(Split::test)).size() == 10);
}

TEST_CASE("content_hash sees one pixel and one label", "[data]") {
  const ImageSet set = digits(Split::validation);
  ImageSet pixel = set, label = set;
  pixel.pixels = changed(set.pixels, [](std::vector<uint8_t>& bytes) { bytes[1000] ^= 1; });
  label.labels[7] ^= 1;
  CHECK(content_hash(set) == content_hash(digits(Split::validation)));
  CHECK(content_hash(set) != content_hash(pixel));
  CHECK(content_hash(set) != content_hash(label));
  const ImageSet tiny{
      .pixels = std::vector<uint8_t>{'a'}, .labels = {0x01020304}, .height = 1, .width = 1};
  CHECK(content_hash(tiny) == sha_of("a\x04\x03\x02\x01"));
}

TEST_CASE("splits have names", "[data]") {
  for (Split split : {Split::train, Split::validation, Split::test})
    CHECK(parse_split(name_of(split)) == split);
  CHECK(parse_split("val") == Split::validation);
  CHECK_THROWS_AS(parse_split("tset"), engine::UsageError);
}

TEST_CASE("validate names what is wrong", "[data]") {
  const ImageSet good = digits(Split::test);
  CHECK_NOTHROW(validate(good));
  const auto broken = [&](auto change) {
    ImageSet set = good;
    change(set);
    return set;
  };
  CHECK_THROWS_WITH(validate(first_rows(good, 0)), Contains("empty"));
  CHECK_THROWS_WITH(validate(broken([](ImageSet& s) { s.class_names.clear(); })),
                    Contains("no classes"));
  CHECK_THROWS_WITH(validate(broken([](ImageSet& s) { s.labels[5] = 10; })),
                    Contains("label 10 of row 5"));
  CHECK_THROWS_WITH(validate(broken([](ImageSet& s) { s.labels[5] = -1; })),
                    Contains("label -1 of row 5"));
  CHECK_THROWS_WITH(validate(broken([](ImageSet& s) {
                      s.pixels = changed(s.pixels, [](auto& bytes) { bytes[3] = 17; });
                    })),
                    Contains("17"));
  CHECK_THROWS_WITH(
      validate(broken([](ImageSet& s) { s.pixels = s.pixels.first(s.pixels.size() - 1); })),
      Contains("bytes"));
  CHECK_THROWS_WITH(validate(broken([](ImageSet& s) { s.ids.pop_back(); })), Contains("one id"));
  CHECK_THROWS_WITH(batch_of(good, std::vector<int32_t>{-1}), Contains("row -1"));
  CHECK_THROWS_WITH(select(good, std::vector<int32_t>{9999}), Contains("row 9999"));
}

TEST_CASE("select keeps pixels, labels and ids together", "[data]") {
  const ImageSet set = digits(Split::train);
  const ImageSet some = select(set, std::vector<int32_t>{5, 2, 5});
  REQUIRE(some.size() == 3);
  CHECK(some.ids == std::vector<int32_t>{set.ids[5], set.ids[2], set.ids[5]});
  CHECK(some.labels == std::vector<int32_t>{set.labels[5], set.labels[2], set.labels[5]});
  CHECK(std::ranges::equal(some.image(1), set.image(2)));
  CHECK(some.max_value == 16);
  CHECK(batch_of(set, {}).size() == 0);
}

TEST_CASE("channel_statistics are those of the pixels in [0, 1]", "[data]") {
  const ImageSet set = synthetic({.rows = 50, .height = 5, .width = 7});
  const Tensor images = batch_of(set).images;
  const std::vector<float> v = images.to_vector<float>();
  const ChannelStatistics got = channel_statistics(set);
  for (size_t c = 0; c < 3; ++c) {
    double sum = 0, squares = 0;
    for (size_t i = c; i < v.size(); i += 3) sum += v[i];
    const double count = static_cast<double>(v.size()) / 3, mean = sum / count;
    for (size_t i = c; i < v.size(); i += 3) squares += (v[i] - mean) * (v[i] - mean);
    CHECK(got.mean[c] == Approx(mean).epsilon(1e-6));
    CHECK(got.deviation[c] == Approx(std::sqrt(squares / count)).epsilon(1e-6));
  }
}

TEST_CASE("cifar reads the published records", "[data]") {
  for (const CifarLayout& published : {cifar10_layout(), cifar100_layout()}) {
    const TinyCifar files(published);
    const ImageSet train = files.read(Split::train), validation = files.read(Split::validation),
                   test = files.read(Split::test);
    validate(train), validate(validation), validate(test);
    CHECK(train.size() == 36);
    CHECK(validation.ids == std::vector<int32_t>{9, 19, 29, 39});
    CHECK(test.size() == 10);
    CHECK(train.labels[3] == 3);
    CHECK(train.ids[9] == 10);
    for (int c = 0; c < 3; ++c)  // row 2, y = 1, x = 4
      CHECK(train.image(2)[(32 + 4) * 3 + static_cast<size_t>(c)] ==
            static_cast<uint8_t>(2 + c * 1024 + 36));
    // The folder itself serves as the root, too.
    CHECK(content_hash(cifar(files.layout, files.folder.path() / files.layout.folder,
                             Split::train)) == content_hash(train));
  }
  CHECK(cifar10_layout().class_names.size() == 10);
  const auto& fine = cifar100_layout().class_names;
  CHECK(fine.size() == 100);
  CHECK(std::is_sorted(fine.begin(), fine.end()));
}

TEST_CASE("cifar takes the class names of the file", "[data]") {
  const TinyCifar files(cifar10_layout());
  const std::string names = "a\nb\nc\nd\ne\nf\ng\nh\ni\r\nj\n\n";
  files.write("batches.meta.txt", {names.begin(), names.end()});
  CHECK(files.read(Split::test).class_names[8] == "i");
  files.write("batches.meta.txt", {'a', '\n', 'b', '\n'});
  CHECK_THROWS_WITH(files.read(Split::test), Contains("10 class names, it holds 2"));
}

TEST_CASE("cifar refuses damaged files in one line", "[data]") {
  const TinyCifar files(cifar10_layout());
  for (int64_t length : {0, 1, 3072, 3073, 10 * 3073 - 1, 10 * 3073 + 1, 11 * 3073}) {
    auto bytes = files.bytes_of(11);
    bytes.resize(static_cast<size_t>(length));
    files.write("t.bin", bytes);
    CHECK_THROWS_WITH(files.read(Split::test), Contains("t.bin") && Contains("30730 bytes"));
  }
  auto bytes = files.bytes_of(20);
  bytes[3 * 3073] = 10;
  files.write("b.bin", bytes);
  CHECK_THROWS_WITH(files.read(Split::train), Contains("label 10 of record 3"));
  std::filesystem::remove(files.folder.path() / files.layout.folder / "b.bin");
  CHECK_THROWS_WITH(files.read(Split::train), Contains("b.bin") && Contains("cannot read"));
  CHECK_THROWS_WITH(cifar(files.layout, "/nowhere", Split::train), Contains("/nowhere"));
}

TEST_CASE("synthetic is balanced, repeatable and learnable", "[data]") {
  const Synthetic shape{.rows = 300, .height = 9, .width = 7, .classes = 5, .seed = 3};
  const ImageSet train = synthetic(shape), test = synthetic(shape, Split::test);
  validate(train), validate(test);
  CHECK(class_counts(train) == std::vector<int64_t>(5, 60));
  CHECK(content_hash(train) == content_hash(synthetic(shape)));
  CHECK(content_hash(train) != content_hash(test));
  Synthetic longer = shape;
  longer.rows = 700;  // more rows leave the first ones as they are
  CHECK(content_hash(first_rows(synthetic(longer), 300)) == content_hash(train));

  // Nearest class mean of the training split, on the test split.
  const size_t bytes = static_cast<size_t>(train.image_bytes());
  std::vector<std::vector<double>> means(5, std::vector<double>(bytes));
  for (int64_t i = 0; i < train.size(); ++i)
    for (size_t j = 0; j < bytes; ++j)
      means[static_cast<size_t>(train.labels[static_cast<size_t>(i)])][j] +=
          train.image(i)[j] / 60.0;
  int right = 0;
  for (int64_t i = 0; i < test.size(); ++i) {
    std::vector<double> distance;
    for (const auto& mean : means) {
      distance.push_back(0);
      for (size_t j = 0; j < bytes; ++j)
        distance.back() += (test.image(i)[j] - mean[j]) * (test.image(i)[j] - mean[j]);
    }
    const auto nearest = std::min_element(distance.begin(), distance.end()) - distance.begin();
    right += nearest == test.labels[static_cast<size_t>(i)];
  }
  CHECK(right > 290);
}

TEST_CASE("catalog knows its names and refuses the rest", "[data]") {
  CHECK(load({}, Split::train).name == "digits");
  CHECK(load({.limit = 7}, Split::test).size() == 7);
  CHECK(load({.limit = 100000}, Split::test).size() == 359);
  CHECK(load({.name = "synthetic", .synthetic = {.rows = 3}}, Split::train).size() == 3);
  CHECK_THROWS_AS(load({.name = "mnist"}, Split::train), engine::UsageError);
  for (const CatalogEntry& entry : catalog()) {
    CHECK_THROWS_WITH(load({.name = "mnist"}, Split::train), Contains(entry.name));
    if (entry.path)
      CHECK_THROWS_WITH(load({.name = entry.name}, Split::train), Contains("data.path"));
  }
  CHECK_THROWS_WITH(load({.limit = -1}, Split::train), Contains("data.limit"));
  CHECK_THROWS_WITH(load({.resize = {16}}, Split::train), Contains("data.resize"));
  CHECK_THROWS_WITH(load({.name = "synthetic", .synthetic = {.rows = 0}}, Split::train),
                    Contains("empty"));
  CHECK_THROWS_WITH(load({.name = "synthetic", .synthetic = {.classes = 0}}, Split::train),
                    Contains("classes"));
}

}  // namespace moat::tests
