#include "data/source.h"

#include "engine/hardware.h"

namespace moat::data {

ImageSet loaded(Source source) {
  ImageSet set = std::move(source.set);
  if (!source.read) return set;
  const int64_t bytes = set.size() * set.image_bytes();
  engine::require(bytes <= engine::memory_bytes(), [&] {
    return engine::text(set.name, " (", name_of(set.split), "): needs ", bytes >> 20,
                        " MiB of memory for its pixels, this machine has ",
                        engine::memory_bytes() >> 20,
                        "; a file made by moat data convert stays on the disk");
  });
  std::vector<uint8_t> pixels(static_cast<size_t>(bytes));
  source.read(0, set.size(), pixels.data());
  set.pixels = std::move(pixels);
  return set;
}

}  // namespace moat::data
