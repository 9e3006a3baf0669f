#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace moat::bench {

struct DataBenchOptions {
  int64_t images = 4000;         // 64x64, as those of Tiny-ImageNet
  int rounds = 10;               // the side that begins changes from one to the next
  std::filesystem::path folder;  // that exists, for the files
};

// How fast one core brings images to a batch, beside the least work that could do it.
struct DataRow {
  std::string name, yardstick_name;
  int64_t images = 0, bytes = 0;        // of a round: the pixels
  std::vector<double> ours, yardstick;  // seconds of CPU time, in turns
};

// decode: JPEG in memory; the yardstick is a bare loop over libjpeg-turbo. files: the same, each in
// a file that the system has cached. first pass: shuffled rows of a converted file that was just
// mapped; again: the same once more; the yardstick copies these rows within ordinary memory.
std::vector<DataRow> measure_data(const DataBenchOptions& options);

}  // namespace moat::bench
