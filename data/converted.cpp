#include "data/converted.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <memory>
#include <ostream>

#include "data/image.h"
#include "engine/io/file.h"
#include "engine/io/json.h"
#include "engine/io/mapped_file.h"
#include "engine/io/sha256.h"

namespace moat::data {

using engine::require;
using engine::text;
using nlohmann::ordered_json;
namespace fs = std::filesystem;

namespace {
static_assert(std::endian::native == std::endian::little, "labels and ids are little-endian");

constexpr std::string_view kMagic = "moatset\n";
constexpr int kFormat = 1;
constexpr int64_t kAlignment = 4096, kHashDigits = 64;
constexpr int64_t kLongestHeader = int64_t{16} << 20, kWrittenAtOnce = int64_t{32} << 20;
constexpr std::array kSplits = {Split::train, Split::validation, Split::test};

std::span<const uint8_t> bytes_of(std::string_view s) {
  return {reinterpret_cast<const uint8_t*>(s.data()), s.size()};
}
std::span<const uint8_t> bytes_of(const std::vector<int32_t>& numbers) {
  return {reinterpret_cast<const uint8_t*>(numbers.data()), numbers.size() * sizeof(int32_t)};
}
int64_t aligned(int64_t at) { return (at + kAlignment - 1) / kAlignment * kAlignment; }

// Writes and hashes.
class Writer {
 public:
  explicit Writer(std::ostream& out) : out_(out) {}
  void write(std::span<const uint8_t> bytes) {
    hash_.update(bytes);
    out_.write(reinterpret_cast<const char*>(bytes.data()),
               static_cast<std::streamsize>(bytes.size()));
    at_ += static_cast<int64_t>(bytes.size());
  }
  void align() {
    static constexpr std::array<uint8_t, kAlignment> kZeros{};
    write(std::span(kZeros).first(static_cast<size_t>(aligned(at_) - at_)));
  }
  void finish() { out_ << hash_.hex(); }

 private:
  std::ostream& out_;
  engine::Sha256 hash_;
  int64_t at_ = 0;
};

void check_splits(std::span<const Source> splits) {
  const ImageSet& first = splits.front().set;
  for (const auto& [set, read] : splits) {
    if (!read) validate(set);
    require(set.size() > 0, [&, &split = set] {
      return text(split.name, " (", name_of(split.split),
                  "): the split is empty: add images to it");
    });
    require(set.height == first.height && set.width == first.width &&
                set.channels == first.channels && set.max_value == first.max_value &&
                set.class_names == first.class_names,
            [&, &split = set] {
              return text(split.name, ": all splits must have one size and the same classes, ",
                          name_of(split.split), " has ", split.height, "x", split.width, "x",
                          split.channels, " and ", split.classes(), " classes, ",
                          name_of(first.split), " ", first.height, "x", first.width, "x",
                          first.channels, " and ", first.classes(), "; --resize makes one size");
            });
  }
}

std::string header_of(std::span<const Source> splits) {
  const ImageSet& set = splits.front().set;
  ordered_json header = {{"format", kFormat},          {"name", set.name},
                         {"height", set.height},       {"width", set.width},
                         {"channels", set.channels},   {"max_value", set.max_value},
                         {"classes", set.class_names}, {"splits", ordered_json::array()}};
  for (const Source& source : splits)
    header["splits"].push_back(
        {{"split", name_of(source.set.split)}, {"images", source.set.size()}});
  return header.dump(-1, ' ', true, ordered_json::error_handler_t::replace);
}

// A number of the header.
template <class Fail>
int64_t whole(const ordered_json& object, const char* key, int64_t high, const Fail& fail) {
  const auto at = object.find(key);
  if (at == object.end() || !at->is_number_unsigned() || at->get<uint64_t>() < 1 ||
      at->get<uint64_t>() > static_cast<uint64_t>(high))
    fail(text("'", key, "' must be a whole number from 1 to ", high));
  return at->get<int64_t>();
}

// One file; every failure is an Error that starts with its origin.
class Reader {
 public:
  // owner: what keeps the bytes.
  Reader(std::span<const uint8_t> bytes, std::string origin, std::shared_ptr<const void> owner)
      : origin_(std::move(origin)),
        owner_(std::move(owner)),
        bytes_(bytes),
        size_(static_cast<int64_t>(bytes_.size())) {
    const int64_t start = static_cast<int64_t>(kMagic.size() + sizeof(uint64_t));
    if (size_ < start || !std::ranges::equal(bytes_.first(kMagic.size()), bytes_of(kMagic)))
      fail("must be a file that moat data convert wrote");
    uint64_t length;
    std::memcpy(&length, bytes_.data() + kMagic.size(), sizeof length);
    if (length > static_cast<uint64_t>(std::min(kLongestHeader, size_ - start)))
      fail(text("a header of ", length, " bytes does not fit the file of ", size_, " bytes"));
    read_header({reinterpret_cast<const char*>(bytes_.data()) + start, length});
    place(aligned(start + static_cast<int64_t>(length)));
  }

  ImageSet split(Split split) const {
    const auto i = static_cast<size_t>(std::ranges::find(kSplits, split) - kSplits.begin());
    const int64_t images = images_[i], pixels = images * set_.image_bytes();
    ImageSet out = set_;
    out.split = split;
    out.pixels = {owner_, bytes_.subspan(static_cast<size_t>(places_[i].pixels),
                                         static_cast<size_t>(pixels))};
    for (const auto& [from, to] :
         {std::pair{places_[i].labels, &out.labels}, std::pair{places_[i].ids, &out.ids}}) {
      to->resize(static_cast<size_t>(images));
      std::memcpy(to->data(), bytes_.data() + from, to->size() * sizeof(int32_t));
    }
    try {
      validate(out);
    } catch (const engine::Error& error) {
      fail(error.what());
    }
    return out;
  }

  void verify() const {
    const size_t content = bytes_.size() - kHashDigits;
    const std::string hash = engine::sha256(bytes_.first(content));
    if (!std::ranges::equal(bytes_of(hash), bytes_.subspan(content)))
      fail(
          "the content does not have the checksum that was written: it is damaged; convert it "
          "again");
  }

 private:
  struct Place {
    int64_t pixels, labels, ids;  // bytes from the beginning of the file
  };

  [[noreturn]] void fail(const std::string& what) const {
    throw engine::Error(text(origin_, ": ", what));
  }

  void read_header(std::string_view json) {
    constexpr int kDeepest = 3;  // header, splits, split
    auto header = engine::parse_json<ordered_json>(json, origin_ + ": the header", kDeepest);
    const auto refuse = [&](const std::string& what) { fail("the header's " + what); };
    if (const int64_t format = whole(header, "format", 1'000'000, refuse); format != kFormat)
      fail(text("has format ", format, ", this program reads ", kFormat, "; convert it again"));
    set_.height = static_cast<int>(whole(header, "height", kMaxImageSide, refuse));
    set_.width = static_cast<int>(whole(header, "width", kMaxImageSide, refuse));
    set_.channels = static_cast<int>(whole(header, "channels", 4, refuse));
    set_.max_value = static_cast<int>(whole(header, "max_value", 255, refuse));
    const auto is_name = [](const ordered_json& value) {
      return value.is_string() && !value.get_ref<const std::string&>().empty();
    };
    if (!header.contains("name") || !is_name(header["name"])) refuse("'name' must be a text");
    set_.name = header["name"];
    if (!header.contains("classes") || !header["classes"].is_array() || header["classes"].empty() ||
        !std::ranges::all_of(header["classes"], is_name))
      refuse("'classes' must be a list of names");
    for (const ordered_json& name : header["classes"]) set_.class_names.push_back(name);
    const auto splits = header.find("splits");
    if (splits == header.end() || !splits->is_array() || splits->size() != kSplits.size())
      refuse("'splits' must be train, validation and test");
    for (size_t i = 0; i < kSplits.size(); ++i) {
      const ordered_json& split = (*splits)[i];
      if (!split.is_object() || !split.contains("split") || split["split"] != name_of(kSplits[i]))
        refuse("'splits' must be train, validation and test");
      images_[i] = whole(split, "images", std::numeric_limits<int32_t>::max(), refuse);
    }
  }

  // Where everything begins, which must be all of the file. Each product is below 2^61.
  void place(int64_t at) {
    for (size_t i = 0; i < kSplits.size(); ++i) {
      places_[i].pixels = at;
      places_[i].labels = aligned(at + images_[i] * set_.image_bytes());
      places_[i].ids = aligned(places_[i].labels + images_[i] * int64_t{sizeof(int32_t)});
      at = aligned(places_[i].ids + images_[i] * int64_t{sizeof(int32_t)});
    }
    if (at + kHashDigits != size_)
      fail(text("must have the ", at + kHashDigits, " bytes that its header calls for, it has ",
                size_, "; convert it again"));
  }

  std::string origin_;
  std::shared_ptr<const void> owner_;
  std::span<const uint8_t> bytes_;
  int64_t size_;
  ImageSet set_;  // what all splits share
  std::array<int64_t, kSplits.size()> images_{};
  std::array<Place, kSplits.size()> places_{};
};

Reader open_file(const fs::path& path) {
  const auto file = std::make_shared<engine::MappedFile>(path);
  return {file->bytes(), path.string(), file};
}
}  // namespace

void write_converted(const fs::path& file, std::span<const Source> splits, const Watcher& watcher) {
  require(!fs::exists(fs::symlink_status(file)), [&] {
    return text(file.string(), ": is there already, and is never overwritten; choose another name");
  });
  check_splits(splits);
  int64_t total = 0, done = 0;
  for (const Source& source : splits) total += source.set.size();
  engine::write_file(file, [&](std::ostream& out) {
    Writer writer(out);
    const std::string header = header_of(splits);
    const uint64_t length = header.size();
    writer.write(bytes_of(kMagic));
    writer.write({reinterpret_cast<const uint8_t*>(&length), sizeof length});
    writer.write(bytes_of(header));
    writer.align();
    for (const auto& [set, read] : splits) {
      const int64_t at_once = std::max<int64_t>(1, kWrittenAtOnce / set.image_bytes());
      std::vector<uint8_t> pixels;
      for (int64_t from = 0; from < set.size() && out.good(); from += at_once) {
        const int64_t to = std::min(set.size(), from + at_once);
        if (read) {
          pixels.resize(static_cast<size_t>((to - from) * set.image_bytes()));
          read(from, to, pixels.data());
          writer.write(pixels);
        } else {
          writer.write(
              {set.image(from).data(), static_cast<size_t>((to - from) * set.image_bytes())});
        }
        watcher(done += to - from, total);
      }
      writer.align();
      writer.write(bytes_of(set.labels));
      writer.align();
      writer.write(bytes_of(set.ids));
      writer.align();
    }
    writer.finish();
  });
}

ImageSet read_converted(const fs::path& file, Split split) { return open_file(file).split(split); }

ImageSet decode_converted(std::span<const uint8_t> bytes, const std::string& origin, Split split) {
  return Reader(bytes, origin, nullptr).split(split);
}

void verify_converted(const fs::path& file) { open_file(file).verify(); }

}  // namespace moat::data
