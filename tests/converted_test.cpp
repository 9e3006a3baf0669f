#include <catch2/catch.hpp>
#include <cstring>

#include "data/catalog.h"
#include "data/converted.h"
#include "data/image_folder.h"
#include "tests/image_bytes.h"
#include "tests/temporary_folder.h"
#include "tests/text_file.h"

namespace moat::tests {

using namespace data;
using Catch::Matchers::Contains;
namespace fs = std::filesystem;

namespace {
constexpr Split kSplits[] = {Split::train, Split::validation, Split::test};

std::vector<Source> splits_of(const DataConfig& config) {
  std::vector<Source> out;
  for (Split split : kSplits) out.push_back(open(config, split));
  return out;
}

void convert(const DataConfig& config, const fs::path& file) {
  write_converted(file, splits_of(config), [](int64_t, int64_t) {});
}

// The file with another header; sections and checksum stay.
void put_header(const fs::path& file, const std::string& original, const std::string& header) {
  std::string bytes = original;
  const uint64_t length = header.size();
  std::memcpy(bytes.data() + 8, &length, sizeof length);
  bytes.replace(16, header.size(), header);
  write_text(file, bytes);
}
}  // namespace

TEST_CASE("converted: every set comes back as it was", "[data][converted]") {
  const TemporaryFolder folder;
  const fs::path root = folder.path() / "images", file = folder.path() / "a.moatset";
  for (const char* split : {"train/", "val/", "test/"})
    for (int i = 0; i < 5; ++i)
      for (const char* name : {"cat", "dog"})
        put_file(root / split / name / (std::to_string(i) + ".png"),
                 png_of(ramp(7, 5, 3, 10 * i + name[0])));
  for (const DataConfig& config :
       {DataConfig{}, DataConfig{.name = "imagefolder", .path = root},
        DataConfig{.name = "imagefolder", .path = root, .resize = {4}},
        DataConfig{.name = "synthetic", .synthetic = {.rows = 3, .height = 1, .width = 1}}}) {
    CAPTURE(config.name, config.resize.side);
    convert(config, file);
    verify_converted(file);
    for (Split split : kSplits) {
      const ImageSet made = load(config, split),
                     read = load({.name = "converted", .path = file}, split);
      CHECK(read.pixels == made.pixels);
      CHECK(read.labels == made.labels);
      CHECK(read.ids == made.ids);
      CHECK(read.class_names == made.class_names);
      CHECK(read.max_value == made.max_value);
      CHECK(read.split == split);
      CHECK(read.name == made.name);
      CHECK(content_hash(read) == content_hash(made));
      CHECK(reinterpret_cast<uintptr_t>(read.pixels.data()) % 4096 == 0);
    }
    const std::string bytes = text_of(file);
    fs::remove(file);
    convert(config, file);
    CHECK(text_of(file) == bytes);
    fs::remove(file);
  }
}

TEST_CASE("converted: the pixels outlive the reader and share the file", "[data][converted]") {
  const TemporaryFolder folder;
  const fs::path file = folder.path() / "a.moatset";
  convert({}, file);
  ImageSet some = load({.name = "converted", .path = file, .limit = 5}, Split::test);
  CHECK(some.size() == 5);
  fs::remove(file);  // what is mapped stays
  CHECK(some.pixels == load({.limit = 5}, Split::test).pixels);
}

TEST_CASE("converted: more rows than are written at once, and what the watcher is told",
          "[data][converted]") {
  const TemporaryFolder folder;
  const fs::path root = folder.path() / "images", file = folder.path() / "a.moatset";
  for (const char* split : {"train/", "val/", "test/"})
    for (int i = 0; i < 3; ++i)
      put_file(root / split / "a" / (std::to_string(i) + ".png"), png_of(ramp(2, 2, 3, 50 * i)));
  const DataConfig config{.name = "imagefolder", .path = root, .resize = {3000}};  // 26 MiB a row
  std::vector<int64_t> told;
  write_converted(file, splits_of(config), [&](int64_t done, int64_t total) {
    CHECK(total == 9);
    told.push_back(done);
  });
  CHECK(told == std::vector<int64_t>{1, 2, 3, 4, 5, 6, 7, 8, 9});
  CHECK(read_converted(file, Split::test).pixels == load(config, Split::test).pixels);
}

TEST_CASE("converted refuses to overwrite, and splits that do not belong together",
          "[data][converted]") {
  const TemporaryFolder folder;
  const fs::path file = folder.path() / "a.moatset";
  const auto fails = [&](const std::vector<Source>& splits, const std::string& says) {
    CHECK_THROWS_WITH(write_converted(file, splits, [](int64_t, int64_t) {}), Contains(says));
    CHECK(std::distance(fs::directory_iterator(folder.path()), {}) == 0);
  };
  std::vector<Source> splits = splits_of({});
  splits[2].set.class_names.pop_back();
  fails(splits, "outside the 9 classes");
  splits = splits_of({});
  splits[1] = open({.name = "synthetic"}, Split::validation);
  fails(splits, "validation has 32x32x3 and 10 classes, train 8x8x1 and 10;");
  splits = splits_of({});
  splits[1].set = first_rows(splits[1].set, 0);
  fails(splits, "the split is empty");
  splits = splits_of({.name = "synthetic"});
  splits[2].set.pixels = {};
  splits[2].read = [](int64_t, int64_t, uint8_t*) { throw engine::Error("cannot be decoded"); };
  fails(splits, "cannot be decoded");

  write_text(file, "mine");
  CHECK_THROWS_WITH(convert({}, file), Contains("never overwritten"));
  CHECK(text_of(file) == "mine");
}

TEST_CASE("converted refuses damaged and hostile files in one line", "[data][converted][hostile]") {
  const TemporaryFolder folder;
  const fs::path good = folder.path() / "good", file = folder.path() / "a.moatset";
  convert({.name = "synthetic", .synthetic = {.rows = 3, .height = 2, .width = 2, .classes = 2}},
          good);
  const std::string bytes = text_of(good);
  const std::span kept(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
  CHECK(decode_converted(kept, "here", Split::test).pixels ==
        read_converted(good, Split::test).pixels);
  CHECK_THROWS_WITH(decode_converted(kept.first(9), "here", Split::test),
                    Contains("here: must be"));
  const auto fails = [&](const std::string& says) {
    CHECK_THROWS_WITH(load({.name = "converted", .path = file}, Split::train),
                      Contains(says) && Contains("a.moatset"));
  };
  fails("No such file");
  write_text(file, "");
  fails("must be a file that moat data convert wrote");
  write_text(file, "PNG or what not, and long enough");
  fails("must be a file that moat data convert wrote");
  for (size_t length : {size_t{10}, size_t{16}, size_t{100}, size_t{4095}, size_t{4096},
                        bytes.size() - 64, bytes.size() - 1}) {
    CAPTURE(length);
    write_text(file, bytes.substr(0, length));
    fails("");
  }
  write_text(file, bytes + "x");
  fails("bytes that its header calls for");

  // A flipped bit anywhere is seen by the checksum, and most of them before it.
  for (size_t at = 0; at < bytes.size(); at += at < 600 ? 1 : 97) {
    std::string flipped = bytes;
    flipped[at] = static_cast<char>(flipped[at] ^ 4);
    write_text(file, flipped);
    CAPTURE(at);
    REQUIRE_THROWS_AS(verify_converted(file), engine::Error);
  }

  uint64_t length;
  std::memcpy(&length, bytes.data() + 8, sizeof length);
  const std::string header = bytes.substr(16, length);
  const auto with = [&](const std::string& from, const std::string& to, const std::string& says) {
    std::string changed = header;
    const size_t at = changed.find(from);
    REQUIRE(at != std::string::npos);
    changed.replace(at, from.size(), to);
    put_header(file, bytes, changed);
    CAPTURE(to);
    fails(says);
  };
  with("\"format\":1", "\"format\":2", "has format 2, this program reads 1");
  with("\"height\":2", "\"height\":0", "'height' must be a whole number from 1 to 16384");
  with("\"height\":2", "\"height\":-2", "'height' must be");
  with("\"height\":2", "\"height\":9999999999999999999999", "'height' must be");
  with("\"width\":2", "\"width\":2.5", "'width' must be");
  with("\"width\":2", "\"width\":999", "bytes that its header calls for");
  with("\"channels\":3", "\"channels\":5", "'channels' must be a whole number from 1 to 4");
  with("\"max_value\":255", "\"max_value\":256", "'max_value' must be");
  with("\"max_value\":255", "\"max_value\":7", "the largest value allowed is 7");
  with("\"name\":\"synthetic\"", "\"name\":7", "'name' must be a text");
  with("[\"class 0\",\"class 1\"]", "[]", "'classes' must be a list of names");
  with("[\"class 0\",\"class 1\"]", "[\"class 0\",1]", "'classes' must be a list of names");
  with("[\"class 0\",\"class 1\"]", "[\"class 0\"]", "outside the 1 classes");
  with("\"images\":3", "\"images\":2147483647", "bytes that its header calls for");
  with("\"images\":3", "\"images\":2147483648", "'images' must be");
  with("\"split\":\"test\"", "\"split\":\"rest\"", "'splits' must be train, validation and test");
  with("\"splits\":", "\"slips\":", "'splits' must be train, validation and test");
  with("\"height\":2", "\"height\":2,\"height\":2", "the key \"height\" stands there twice");
  with("\"images\":3", "\"images\":3,\"images\":1", "the key \"images\" stands there twice");
  with("{", "[", "the header: must be a JSON document");
  put_header(file, bytes, "[1]");
  fails("the header: must be a JSON object");
  put_header(file, bytes, std::string(3000, '['));
  fails("the header: must not nest more than 3 levels");
}

}  // namespace moat::tests
