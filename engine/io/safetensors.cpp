#include "engine/io/safetensors.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>
#include <sstream>
#include <vector>

#include "engine/io/file.h"
#include "engine/io/json.h"

namespace moat::engine {

namespace {

static_assert(std::endian::native == std::endian::little, "safetensors are little-endian");

using Json = nlohmann::json;

constexpr uint64_t kMaxHeader = 100'000'000;  // bytes, the limit of the format
constexpr uint64_t kAlignment = 8;            // of the first tensor in the file
constexpr const char* kMetadata = "__metadata__";

constexpr const char* kHalf = "F16";  // widened to float32 while reading, never written

struct DtypeName {
  Dtype dtype;
  const char* name;
};
constexpr std::array<DtypeName, 6> kDtypes{{{Dtype::f64, "F64"},
                                            {Dtype::f32, "F32"},
                                            {Dtype::bf16, "BF16"},
                                            {Dtype::i64, "I64"},
                                            {Dtype::i32, "I32"},
                                            {Dtype::u8, "U8"}}};

// A string or JSON value of the file as one short line of printable ASCII.
std::string shown(const Json& value) {
  constexpr size_t longest = 80;
  std::string line = value.dump(-1, ' ', true, Json::error_handler_t::replace);
  if (line.size() > longest) line = line.substr(0, longest) + "…";
  return line;
}

struct Entry {
  std::string name;
  Dtype dtype;
  Shape shape;
  uint64_t begin, end;  // bytes from the end of the header
  size_t element_size;  // in the file
};

// IEEE 754 binary16: sign, 5 bits of exponent, 10 of mantissa.
float float_of_half(uint16_t bits) {
  const int exponent = (bits >> 10) & 31, mantissa = bits & 1023;
  float value;
  if (exponent == 31)
    value =
        mantissa ? std::numeric_limits<float>::quiet_NaN() : std::numeric_limits<float>::infinity();
  else if (exponent == 0)
    value = std::ldexp(static_cast<float>(mantissa), -24);
  else
    value = std::ldexp(static_cast<float>(1024 + mantissa), exponent - 25);
  return bits >> 15 ? -value : value;
}

// Checks the `size` bytes of one file; every failure is an Error that starts with its path.
class Reader {
 public:
  Reader(std::istream& file, uint64_t size, const std::filesystem::path& path)
      : file_(file), size_(size), path_(path) {}

  SafeTensors read() {
    constexpr int deepest = 3;  // header, tensor, shape
    const Json header = parse_json(read_header(), text("safetensors ", path_, ": header"), deepest);
    SafeTensors content;
    std::vector<Entry> entries;
    for (const auto& [name, value] : header.items()) {
      if (name == kMetadata)
        content.metadata = metadata(value);
      else
        entries.push_back(entry(name, value));
    }
    check_layout(entries);
    for (const Entry& e : entries) content.tensors.emplace(e.name, tensor(e));
    return content;
  }

 private:
  template <class... Parts>
  void expect(bool ok, const Parts&... parts) const {
    if (!ok) throw Error(text("safetensors ", path_, ": ", parts...));
  }

  void read_bytes(void* to, uint64_t count) {
    file_.read(static_cast<char*>(to), static_cast<std::streamsize>(count));
    expect(file_.good() && static_cast<uint64_t>(file_.gcount()) == count,
           "ended before its stated size of ", size_, " bytes");
  }

  std::string read_header() {
    expect(size_ > 0, "the file is empty");
    expect(size_ >= 8, "must begin with 8 bytes of header length, the file has ", size_);
    uint64_t length;
    read_bytes(&length, 8);
    expect(length <= kMaxHeader, "must begin with the length of its header, at most ", kMaxHeader,
           ", got ", length, ": another kind of file, or a broken one");
    expect(length <= size_ - 8, "the file is cut off: its header alone has ", length,
           " bytes, the file ", size_);
    data_size_ = size_ - 8 - length;
    std::string header(length, '\0');
    if (length > 0) read_bytes(header.data(), length);
    return header;
  }

  std::map<std::string, std::string> metadata(const Json& value) const {
    expect(value.is_object(), kMetadata, " must be an object of strings, got ", shown(value));
    std::map<std::string, std::string> out;
    for (const auto& [key, item] : value.items()) {
      expect(item.is_string(), kMetadata, " values must be strings, got ", shown(item), " for ",
             shown(key));
      out.emplace(key, item.get<std::string>());
    }
    return out;
  }

  Entry entry(const std::string& name, const Json& value) const {
    const std::string who = "tensor " + shown(name) + ": ";
    expect(value.is_object() && value.contains("dtype") && value.contains("shape") &&
               value.contains("data_offsets"),
           who, "must have dtype, shape and data_offsets, got ", shown(value));
    const bool is_half = value["dtype"] == kHalf;
    Entry e{name, is_half ? Dtype::f32 : dtype(who, value["dtype"]), {}, 0, 0, sizeof(uint16_t)};
    if (!is_half) e.element_size = kernels::size_of(e.dtype);
    e.shape = shape(who, value["shape"], e.dtype);
    const Json& offsets = value["data_offsets"];
    expect(offsets.is_array() && offsets.size() == 2 && offsets[0].is_number_unsigned() &&
               offsets[1].is_number_unsigned(),
           who, "data_offsets must be two integers that are not negative, got ", shown(offsets));
    e.begin = offsets[0].get<uint64_t>();
    e.end = offsets[1].get<uint64_t>();
    expect(e.begin <= e.end, who, "data_offsets must rise, got ", shown(offsets));
    expect(e.end <= data_size_, "the file is cut off, or its header is wrong: ", who,
           "ends at byte ", e.end, " of the data, which has ", data_size_);
    const uint64_t bytes = static_cast<uint64_t>(e.shape.count()) * e.element_size;
    expect(e.end - e.begin == bytes, who, "data_offsets must span ", bytes, " bytes (",
           shown(value["dtype"]), " ", e.shape.str(), "), got ", shown(offsets));
    return e;
  }

  Dtype dtype(const std::string& who, const Json& value) const {
    for (const DtypeName& d : kDtypes)
      if (value == d.name) return d.dtype;
    expect(false, who, "dtype must be F64, F32, F16, BF16, I64, I32 or U8, got ", shown(value));
    return {};
  }

  Shape shape(const std::string& who, const Json& value, Dtype dtype) const {
    expect(value.is_array() && value.size() <= size_t{Shape::kMaxRank}, who,
           "shape must be a list of at most ", Shape::kMaxRank, " extents, got ", shown(value));
    Shape out;
    // Extents of zero count as one, so that strides cannot overflow either.
    uint64_t room =
        static_cast<uint64_t>(std::numeric_limits<int64_t>::max()) / kernels::size_of(dtype);
    for (const Json& item : value) {
      expect(item.is_number_unsigned(), who, "shape must hold integers that are not negative, got ",
             shown(value));
      const uint64_t extent = item.get<uint64_t>();
      expect(extent <= room, who, "shape must stay below 2^63 bytes, got ", shown(value));
      if (extent > 0) room /= extent;
      out.push_back(static_cast<int64_t>(extent));
    }
    return out;
  }

  // The tensors must cover the data exactly. Leaves the entries in file order.
  void check_layout(std::vector<Entry>& entries) const {
    std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
      return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
    });
    uint64_t at = 0;
    for (const Entry& e : entries) {
      expect(e.begin == at, "tensor ", shown(e.name), ": data must begin at byte ", at,
             ", where the tensor before it ends, got ", e.begin);
      at = e.end;
    }
    expect(at == data_size_, "tensors must cover all ", data_size_, " bytes of data, they cover ",
           at);
  }

  Tensor tensor(const Entry& e) {
    const Tensor t = Tensor::empty(e.shape, e.dtype);
    if (e.end == e.begin) return t;
    if (e.element_size == kernels::size_of(e.dtype)) {
      read_bytes(t.data(), e.end - e.begin);
      return t;
    }
    std::vector<uint16_t> halves(static_cast<size_t>(t.size()));
    read_bytes(halves.data(), e.end - e.begin);
    std::transform(halves.begin(), halves.end(), t.data_as<float>(), float_of_half);
    return t;
  }

  std::istream& file_;
  const uint64_t size_;
  const std::filesystem::path& path_;
  uint64_t data_size_ = 0;
};

struct Named {
  const std::string* name;
  Tensor tensor;  // contiguous, on the host
};

// In the order of the file.
std::vector<Named> laid_out(const std::filesystem::path& path, const SafeTensors& content) {
  std::vector<Named> out;
  for (const auto& [name, tensor] : content.tensors) {
    require(tensor.defined() && name != kMetadata, [&, &shown_name = name] {
      return text("safetensors ", path, ": tensor ", shown(shown_name),
                  " must be defined and not be called ", kMetadata);
    });
    out.push_back({&name, tensor.to(Device{}).contiguous()});
  }
  std::stable_sort(out.begin(), out.end(), [](const Named& a, const Named& b) {
    return kernels::size_of(a.tensor.dtype()) > kernels::size_of(b.tensor.dtype());
  });
  return out;
}

std::string header_of(const std::filesystem::path& path, const SafeTensors& content,
                      const std::vector<Named>& tensors) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!content.metadata.empty()) header[kMetadata] = content.metadata;
  uint64_t at = 0;
  for (const Named& item : tensors) {
    const Shape& shape = item.tensor.shape();
    const auto* dtype = std::find_if(kDtypes.begin(), kDtypes.end(), [&](const DtypeName& d) {
      return d.dtype == item.tensor.dtype();
    });
    const uint64_t end = at + item.tensor.nbytes();
    header[*item.name] = {{"dtype", dtype->name},
                          {"shape", std::vector<int64_t>(shape.begin(), shape.end())},
                          {"data_offsets", {at, end}}};
    at = end;
  }
  std::string line;
  try {
    line = header.dump();
  } catch (const Json::exception&) {
    throw Error(text("safetensors ", path, ": names and metadata must be UTF-8"));
  }
  line.resize((line.size() + kAlignment - 1) / kAlignment * kAlignment, ' ');
  require(line.size() <= kMaxHeader, [&] {
    return text("safetensors ", path, ": header must have at most ", kMaxHeader, " bytes, got ",
                line.size());
  });
  return line;
}

}  // namespace

SafeTensors read_safetensors(const std::filesystem::path& path) {
  const auto expect = [&](bool ok, const auto&... parts) {
    if (!ok) throw Error(text("safetensors ", path, ": ", parts...));
  };
  std::error_code error;
  const auto kind = std::filesystem::status(path, error).type();
  expect(kind != std::filesystem::file_type::not_found, "no such file");
  expect(kind == std::filesystem::file_type::regular, "must be a regular file");
  const uint64_t size = std::filesystem::file_size(path, error);
  expect(!error, error.message());
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  expect(file.is_open(), "cannot be opened: ", std::strerror(errno));
  return Reader(file, size, path).read();
}

SafeTensors parse_safetensors(const std::string& bytes, const std::filesystem::path& origin) {
  std::istringstream file(bytes);
  return Reader(file, bytes.size(), origin).read();
}

void write_safetensors(const std::filesystem::path& path, const SafeTensors& content) {
  const std::vector<Named> tensors = laid_out(path, content);
  const std::string header = header_of(path, content, tensors);
  write_file(path, [&](std::ostream& out) {
    const uint64_t length = header.size();
    out.write(reinterpret_cast<const char*>(&length), sizeof length);
    out << header;
    for (const Named& item : tensors)
      out.write(static_cast<const char*>(item.tensor.data()),
                static_cast<std::streamsize>(item.tensor.nbytes()));
  });
}

}  // namespace moat::engine
