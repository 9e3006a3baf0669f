// A configuration file: what is taken must be written and read back the same.
#include "train/config.h"

#include <cstdlib>
#include <nlohmann/json.hpp>

#include "tests/fuzz/reader.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  using namespace moat;
  return fuzz::may_refuse([&] {
    const train::Config config = train::parse_config({}, fuzz::file_of(bytes, size), "file");
    const nlohmann::json written = train::to_json(config);
    if (train::to_json(train::parse_config({}, written.dump(), "file")) != written) std::abort();
    train::validate(config);
  });
}
