#include "train/tfevents.h"

#include <catch2/catch.hpp>
#include <cstring>
#include <map>
#include <stdexcept>
#include <vector>

#include "tests/temporary_folder.h"
#include "tests/text_file.h"

namespace moat::train {

using tests::TemporaryFolder;
using tests::text_of;

namespace {

// A reader written from the format's description, sharing nothing with the writer but the CRC.
struct Reader {
  std::string bytes;
  size_t at = 0;

  template <class T>
  T fixed() {
    T value;
    if (bytes.size() - at < sizeof value) throw std::runtime_error("truncated");
    std::memcpy(&value, bytes.data() + at, sizeof value);
    at += sizeof value;
    return value;
  }
  uint64_t varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const auto byte = fixed<uint8_t>();
      value |= uint64_t{byte & 0x7fu} << shift;
      if (byte < 0x80) return value;
    }
    throw std::runtime_error("varint");
  }
  std::string take(size_t n) {
    if (bytes.size() - at < n) throw std::runtime_error("truncated");
    at += n;
    return bytes.substr(at - n, n);
  }
  bool ended() const { return at == bytes.size(); }
};

std::vector<std::string> records(const std::string& file) {
  std::vector<std::string> out;
  for (Reader in{file}; !in.ended();) {
    const std::string length = in.take(8);
    if (in.fixed<uint32_t>() != masked_crc32c(length)) throw std::runtime_error("length checksum");
    Reader number{length};
    const std::string data = in.take(number.fixed<uint64_t>());
    if (in.fixed<uint32_t>() != masked_crc32c(data)) throw std::runtime_error("data checksum");
    out.push_back(data);
  }
  return out;
}

// Field number -> raw value (varints and fixed-width numbers as 64 bits, messages as bytes).
struct Fields {
  std::map<uint32_t, uint64_t> numbers;
  std::map<uint32_t, std::string> texts;
};

Fields fields(const std::string& message) {
  Fields out;
  for (Reader in{message}; !in.ended();) {
    const auto key = static_cast<uint32_t>(in.varint());
    const uint32_t number = key >> 3;
    if ((key & 7) == 0) out.numbers[number] = in.varint();
    if ((key & 7) == 1) out.numbers[number] = in.fixed<uint64_t>();
    if ((key & 7) == 2) out.texts[number] = in.take(in.varint());
    if ((key & 7) == 5) out.numbers[number] = in.fixed<uint32_t>();
  }
  return out;
}

float float_of(uint64_t bits) {
  const auto low = static_cast<uint32_t>(bits);
  float value;
  std::memcpy(&value, &low, sizeof value);
  return value;
}

}  // namespace

TEST_CASE("crc32c gives the published values") {
  CHECK(crc32c("123456789") == 0xe3069283u);
  CHECK(crc32c(std::string(32, '\0')) == 0x8a9136aau);  // RFC 3720, B.4
  CHECK(crc32c(std::string(32, '\xff')) == 0x62a8ab43u);
  CHECK(crc32c("") == 0u);
  CHECK(masked_crc32c("123456789") == 0xc78ab0e5u);  // rotated right by 15, plus 0xa282ead8
}

TEST_CASE("tfevents writes what the record format and the Event message say") {
  const TemporaryFolder folder;
  TfEvents events(folder.path());
  events.scalar("loss/train", 3, 0.25);
  events.scalar("accuracy", int64_t{1} << 40, -1.5);

  CHECK(events.path().filename().string().rfind("events.out.tfevents.", 0) == 0);
  const auto found = records(text_of(events.path()));
  REQUIRE(found.size() == 3);
  CHECK(fields(found[0]).texts[3] == "brain.Event:2");

  const Fields event = fields(found[1]);
  CHECK(event.numbers.at(2) == 3);
  uint64_t bits = event.numbers.at(1);
  double wall_time;
  std::memcpy(&wall_time, &bits, sizeof wall_time);
  CHECK(wall_time > 1.6e9);
  const Fields value = fields(fields(event.texts.at(5)).texts.at(1));
  CHECK(value.texts.at(1) == "loss/train");
  CHECK(float_of(value.numbers.at(2)) == 0.25f);

  CHECK(fields(found[2]).numbers[2] == uint64_t{1} << 40);
}

TEST_CASE("tfevents: a second process writes its own file and says where it starts") {
  const TemporaryFolder folder;
  const TfEvents first(folder.path());
  const TfEvents second(folder.path(), 7);
  CHECK(first.path() != second.path());
  const auto found = records(text_of(second.path()));
  REQUIRE(found.size() == 2);
  const Fields start = fields(found[1]);
  CHECK(start.numbers.at(2) == 7);
  CHECK(fields(start.texts.at(7)).numbers.at(1) == 1);  // SessionLog.START
}

TEST_CASE("tfevents: a flipped bit is seen by the checksum") {
  std::string record = tfrecord("payload");
  CHECK(records(record) == std::vector<std::string>{"payload"});
  record[13] ^= 1;
  CHECK_THROWS_WITH(records(record), "data checksum");
}

TEST_CASE("tfevents: a folder that is not there is named") {
  const TemporaryFolder folder;
  CHECK_THROWS_WITH(TfEvents(folder.path() / "missing"),
                    Catch::Contains("missing") && Catch::Contains("No such file"));
}

}  // namespace moat::train
