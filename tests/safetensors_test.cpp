#include "engine/io/safetensors.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>

#include "engine/io/file.h"
#include "engine/random.h"
#include "tests/temporary_folder.h"

namespace moat::tests {

using namespace engine;

namespace {

namespace fs = std::filesystem;

void write_bytes(const fs::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

std::string file_of(const std::string& header, size_t data_bytes) {
  const uint64_t length = header.size();
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  return bytes + header + std::string(data_bytes, '\1');
}

SafeTensors sample() {
  SafeTensors s;
  s.tensors["conv1.weight"] = Tensor::from<float>({1, -2, 3.5, 4, 5, 6}, {1, 2, 3});
  s.tensors["double"] = Tensor::from<double>({1.0 / 3}, {1});
  s.tensors["half \"quoted\"\n"] = Tensor::full({3}, 1.5, Dtype::bf16);
  s.tensors["labels"] = Tensor::from<int64_t>({-1, int64_t{1} << 40}, {2});
  s.tensors["routes"] = Tensor::from<int32_t>({7}, {});
  s.tensors["bytes"] = Tensor::from<uint8_t>({1, 2, 255}, {3, 1});
  s.tensors["nothing"] = Tensor::zeros({0, 4});
  s.metadata["model"] = R"({"name":"moe"})";
  return s;
}

// The reader's message about a file with this content; empty when it was read.
std::string complaint(const std::string& bytes) {
  const TemporaryFolder folder;
  const fs::path path = folder.path() / "x.safetensors";
  write_bytes(path, bytes);
  try {
    read_safetensors(path);
  } catch (const Error& error) {
    const std::string message = error.what();
    CHECK(message.find('\n') == std::string::npos);
    CHECK(message.find("x.safetensors") != std::string::npos);
    return message;
  }
  return "";
}

}  // namespace

TEST_CASE("safetensors: what is written is read, for every dtype", "[safetensors]") {
  const TemporaryFolder folder;
  const SafeTensors want = sample();
  write_safetensors(folder.path() / "a", want);
  const SafeTensors got = read_safetensors(folder.path() / "a");
  CHECK(got.metadata == want.metadata);
  REQUIRE(got.tensors.size() == want.tensors.size());
  for (const auto& [name, tensor] : want.tensors) {
    INFO(name);
    REQUIRE(got.tensors.count(name));
    const Tensor& read = got.tensors.at(name);
    CHECK(read.shape() == tensor.shape());
    REQUIRE(read.dtype() == tensor.dtype());
    CHECK((read.nbytes() == 0 || std::memcmp(read.data(), tensor.data(), read.nbytes()) == 0));
  }
  write_safetensors(folder.path() / "empty", {});
  CHECK(read_safetensors(folder.path() / "empty").tensors.empty());
}

TEST_CASE("safetensors: the bytes are the format's, and the same every time", "[safetensors]") {
  const TemporaryFolder folder;
  SafeTensors s;
  s.tensors["a"] = Tensor::from<uint8_t>({9}, {1});
  s.tensors["b"] = Tensor::from<float>({1}, {});
  write_safetensors(folder.path() / "a", s);
  const std::string header = R"({"b":{"dtype":"F32","shape":[],"data_offsets":[0,4]},)"
                             R"("a":{"dtype":"U8","shape":[1],"data_offsets":[4,5]}})";
  const std::string bytes = read_file(folder.path() / "a");
  uint64_t length;
  std::memcpy(&length, bytes.data(), 8);
  CHECK(length % 8 == 0);
  CHECK(bytes.substr(8, header.size()) == header);
  CHECK(bytes.substr(8 + length) == std::string("\0\0\x80\x3f\x09", 5));
  write_safetensors(folder.path() / "first", sample());
  write_safetensors(folder.path() / "second", sample());
  CHECK(read_file(folder.path() / "first") == read_file(folder.path() / "second"));
}

TEST_CASE("safetensors: strided tensors are written as they look", "[safetensors]") {
  const TemporaryFolder folder;
  const Tensor x = Tensor::from<float>({1, 2, 3, 4, 5, 6}, {2, 3});
  write_safetensors(folder.path() / "a", {{{"x", x.permuted({1, 0})}}, {}});
  CHECK(read_safetensors(folder.path() / "a").tensors.at("x").to_vector<float>() ==
        std::vector<float>{1, 4, 2, 5, 3, 6});
}

TEST_CASE("safetensors: halves are read as float32", "[safetensors]") {
  const std::vector<uint16_t> halves = {0x3c00, 0xc100, 0x7bff, 0x0001, 0x8400, 0x7c00, 0xfe00};
  const TemporaryFolder folder;
  std::string bytes = file_of(R"({"x":{"dtype":"F16","shape":[7],"data_offsets":[0,14]}})", 14);
  std::memcpy(bytes.data() + bytes.size() - 14, halves.data(), 14);
  write_bytes(folder.path() / "a", bytes);
  const auto x = read_safetensors(folder.path() / "a").tensors.at("x").to_vector<float>();
  CHECK(x.at(0) == 1);
  CHECK(x.at(1) == -2.5F);
  CHECK(x.at(2) == 65504);
  CHECK(x.at(3) == std::ldexp(1.0F, -24));
  CHECK(x.at(4) == -std::ldexp(1.0F, -14));
  CHECK(x.at(5) == std::numeric_limits<float>::infinity());
  CHECK(std::isnan(x.at(6)));
}

TEST_CASE("safetensors: each way to break the format is named", "[safetensors]") {
  const auto one = [](const std::string& dtype, const std::string& shape,
                      const std::string& offsets, size_t data = 4) {
    return file_of(R"({"x":{"dtype":)" + dtype + R"(,"shape":)" + shape + R"(,"data_offsets":)" +
                       offsets + "}}",
                   data);
  };
  CHECK(complaint(one("\"F32\"", "[1]", "[0,4]")).empty());
  const auto two = [](const std::string& a, const std::string& b, size_t data) {
    return file_of(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":)" + a +
                       R"(},"b":{"dtype":"U8","shape":[2],"data_offsets":)" + b + "}}",
                   data);
  };
  CHECK(complaint(two("[2,4]", "[0,2]", 4)).empty());

  const std::vector<std::pair<std::string, const char*>> broken{
      {"", "the file is empty"},
      {"1234567", "8 bytes of header length"},
      {std::string(8, '\xff'), "at most 100000000"},
      {file_of("{}", 0).substr(0, 9),
       "the file is cut off: its header alone has 2 bytes, the file 9"},
      {file_of("", 0), "must be a JSON document"},
      {file_of("[]", 0), "must be a JSON object"},
      {file_of("7", 0), "must be a JSON object"},
      {file_of("{\"x\":", 0), "must be a JSON document"},
      {file_of("{}{}", 0), "must be a JSON document"},
      {file_of("{\"\xff\":1}", 0), "must be a JSON document"},
      {file_of(std::string(100000, '['), 0), "must not nest"},
      {file_of("{\"x\":1e999}", 0), "number out of range"},
      {file_of("{\"x\":3}", 0), "must have dtype"},
      {file_of(R"({"x":{"dtype":"F32","shape":[]}})", 0), "must have dtype"},
      {file_of(R"({"x":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},)"
               R"("x":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}})",
               0),
       "stands there twice"},
      {file_of(R"({"x":{"dtype":"U8","dtype":"U8","shape":[0],"data_offsets":[0,0]}})", 0),
       "stands there twice"},
      {file_of(R"({"__metadata__":3})", 0), "object of strings"},
      {file_of(R"({"__metadata__":{"a":3}})", 0), "must be strings"},
      {one("\"F8_E4M3\"", "[1]", "[0,4]"), "dtype must be"},
      {one("7", "[1]", "[0,4]"), "dtype must be"},
      {one("\"F32\"", "1", "[0,4]"), "shape must be a list"},
      {one("\"F32\"", "[-1]", "[0,4]"), "not negative"},
      {one("\"F32\"", "[1.0]", "[0,4]"), "not negative"},
      {one("\"F32\"", "[\"1\"]", "[0,4]"), "not negative"},
      {one("\"F32\"", "[1,1,1,1,1,1,1]", "[0,4]"), "at most 6"},
      {one("\"F32\"", "[18446744073709551615]", "[0,4]"), "below 2^63"},
      {one("\"F32\"", "[4294967296,4294967296]", "[0,0]", 0), "below 2^63"},
      {one("\"F32\"", "[0,4294967296,4294967296]", "[0,0]", 0), "below 2^63"},
      {one("\"F32\"", "[18446744073709551616]", "[0,4]"), "not negative"},
      {one("\"F32\"", "[2]", "[0,4]"), "must span 8 bytes"},
      {one("\"F32\"", "[1]", "[0,8]"), "the file is cut off, or its header is wrong"},
      {one("\"F32\"", "[1]", "[4,0]"), "must rise"},
      {one("\"F32\"", "[1]", "[-4,0]"), "two integers"},
      {one("\"F32\"", "[1]", "[0]"), "two integers"},
      {one("\"F32\"", "[1]", "[0,4.5]"), "two integers"},
      {one("\"F32\"", "[1]", "[0,4]", 5), "must cover all 5 bytes"},
      {one("\"F32\"", "[1]", "[1,5]", 5), "must begin at byte 0"},
      {two("[0,2]", "[1,3]", 4), "must begin at byte 2"},
      {two("[0,2]", "[0,2]", 4), "must begin at byte 2"},
      {two("[0,2]", "[3,5]", 5), "must begin at byte 2"},
  };
  for (const auto& [bytes, reason] : broken) CHECK_THAT(complaint(bytes), Catch::Contains(reason));
  CHECK_THROWS_WITH(read_safetensors("/nowhere/x"), Catch::Contains("no such file"));
  CHECK_THROWS_WITH(read_safetensors("/tmp"), Catch::Contains("regular file"));
}

TEST_CASE("safetensors: truncated and flipped files never crash the reader", "[safetensors]") {
  const TemporaryFolder folder;
  const fs::path path = folder.path() / "fuzz";
  write_safetensors(path, sample());
  const std::string good = read_file(path);
  int read = 0, refused = 0;
  const auto attempt = [&](const std::string& bytes) {
    fs::remove(path);  // truncating it instead would wait for the disk
    write_bytes(path, bytes);
    try {
      read_safetensors(path);
      ++read;
    } catch (const Error&) {
      ++refused;
    }
  };
  for (size_t length = 0; length < good.size(); ++length) attempt(good.substr(0, length));
  CHECK(read == 0);
  const RandomKey key{.seed = 4};
  for (uint32_t round = 0; round < 4000; ++round) {
    std::string bytes = good;
    const uint32_t edits = 1 + random_bits(key, round, 0) % 4;
    for (uint32_t e = 0; e < edits; ++e)
      bytes[random_bits(key, round, 1 + 2 * e) % bytes.size()] =
          static_cast<char>(random_bits(key, round, 2 + 2 * e));
    attempt(bytes);
  }
  CHECK(read > 0);  // flips inside the data are legal
  CHECK(refused > 1000);
}

TEST_CASE("safetensors: the writer refuses what the format cannot hold", "[safetensors]") {
  const TemporaryFolder folder;
  const fs::path path = folder.path() / "a";
  CHECK_THROWS_WITH(write_safetensors(path, {{{"\xff", Tensor::zeros({1})}}, {}}),
                    Catch::Contains("UTF-8"));
  CHECK_THROWS_WITH(write_safetensors(path, {{{"__metadata__", Tensor::zeros({1})}}, {}}),
                    Catch::Contains("__metadata__"));
  CHECK_THROWS_WITH(write_safetensors(path, {{{"x", Tensor{}}}, {}}), Catch::Contains("defined"));
  CHECK(files_in(folder.path()) == 0);
}

}  // namespace moat::tests
