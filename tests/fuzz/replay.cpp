// In place of libFuzzer: gives the target each file of a folder, `fuzz_x FOLDER`. An exception, a
// crash and a failed check of a sanitizer end it, after the name of the file.
#include <sys/resource.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size);

int main(int argc, char** argv) {
  if (argc != 2) return 2;
#ifndef MOAT_SANITIZED  // which reserves terabytes
  const rlimit room{rlim_t{2} << 30, rlim_t{2} << 30};
  setrlimit(RLIMIT_AS, &room);
#endif
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(argv[1])) files.push_back(entry);
  std::sort(files.begin(), files.end());
  for (const auto& file : files) {
    std::cout << file.filename().string() << std::endl;
    std::ifstream in(file, std::ios::binary);
    const std::vector<char> bytes{std::istreambuf_iterator<char>(in), {}};
    LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
  }
  return files.empty() ? 1 : 0;
}
