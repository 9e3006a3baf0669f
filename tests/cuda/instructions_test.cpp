#include <fstream>
#include <iterator>
#include <regex>
#include <set>
#include <sstream>

#include "kernels/cuda/tensor_map.h"
#include "tests/cuda/device_memory.h"
#include "tests/cuda/instructions/cases.h"

namespace moat::tests {

using namespace kernels;

namespace {

std::vector<InstructionCase> all_cases() {
  std::vector<InstructionCase> all;
  for (const auto family :
       {copy_cases, number_cases, mma_cases, barrier_cases, tma_cases, wgmma_cases})
    for (InstructionCase& row : family()) all.push_back(std::move(row));
  return all;
}

std::set<std::string> words_of(const std::string& text) {
  std::istringstream stream(text);
  return {std::istream_iterator<std::string>(stream), {}};
}

void check(const std::vector<InstructionCase>& cases) {
  int major = 0;
  REQUIRE(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0) == cudaSuccess);
  for (size_t i = 0; i < cases.size(); ++i) {
    const InstructionCase& row = cases[i];
    INFO("row " << i << ": " << row.covers);
    if (major < row.min_major) {
      WARN("not run, needs compute capability " << row.min_major << ".0: " << row.covers);
      continue;
    }
    const DeviceArray<uint32_t> in(row.in.empty() ? Words(1) : row.in), out(row.expected.size());
    REQUIRE(row.run({}, in.data(), out.data()) == Status::ok);
    REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
    const Words found = out.host();
    for (size_t word = 0; word < found.size(); ++word)
      if (found[word] != row.expected[word]) {
        INFO("word " << word << " of " << found.size() << ": " << std::hex << found[word]
                     << ", expected " << row.expected[word]);
        REQUIRE(found[word] == row.expected[word]);
      }
    REQUIRE(found == row.expected);
  }
}

}  // namespace

TEST_CASE("cuda: copies and their waits", "[cuda][instructions]") { check(copy_cases()); }
TEST_CASE("cuda: roundings and approximations", "[cuda][instructions]") { check(number_cases()); }
TEST_CASE("cuda: ldmatrix, stmatrix and mma.sync", "[cuda][instructions]") { check(mma_cases()); }
TEST_CASE("cuda: named barriers and mbarriers", "[cuda][instructions]") { check(barrier_cases()); }
TEST_CASE("cuda: TMA loads and stores", "[cuda][instructions]") { check(tma_cases()); }
TEST_CASE("cuda: wgmma", "[cuda][instructions]") { check(wgmma_cases()); }

TEST_CASE("cuda: every instruction of kernels/ptx has a row", "[cuda][instructions]") {
  std::set<std::string> covered;
  for (const InstructionCase& row : all_cases()) covered.merge(words_of(row.covers));
  const std::regex definition("__forceinline__ [^()=;]*?(\\w+)\\(");
  std::set<std::string> defined;
  for (const char* family :
       {"arch", "barrier", "copy", "mma", "numbers", "registers", "tma", "wgmma"}) {
    const std::string path = std::string(MOAT_SOURCE_DIR "/kernels/ptx/") + family + ".cuh";
    std::ifstream file(path);
    INFO(path);
    REQUIRE(file.good());
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    for (std::sregex_iterator match(text.begin(), text.end(), definition), end; match != end;
         ++match)
      if (const std::string name = (*match)[1]; !std::regex_match(name, std::regex("m64n\\d+k16")))
        defined.insert(name);
  }
  REQUIRE(defined.size() > 30);
  for (const std::string& name : defined) {
    INFO("kernels/ptx defines " << name << ", and no row of tests/cuda/instructions covers it");
    REQUIRE(covered.count(name) == 1);
  }
}

}  // namespace moat::tests
