#include <catch2/catch.hpp>
#include <fstream>
#include <span>

#include "tests/simt/cuda.h"
#include "tests/simt/options.h"
#include "tests/simt/self_test/cases.h"
#include "tests/simt/self_test/instruction_faults.h"

namespace simt::self_test {

namespace {

constexpr Schedule kInOrder[] = {Schedule::fifo, Schedule::lifo};
constexpr Schedule kAll[] = {Schedule::fifo, Schedule::lifo, Schedule::random, Schedule::sticky};

// Under each schedule, those that draw with several seeds; puts the old one back at the end.
template <class Check>
void for_schedules(std::span<const Schedule> schedules, int seeds, Check check) {
  const Options before = options();
  for (const Schedule schedule : schedules)
    for (int seed = 1; seed <= seeds; ++seed) {
      const bool is_random = schedule == Schedule::random || schedule == Schedule::sticky;
      if (!is_random && seed > 1) continue;
      INFO("schedule " << static_cast<int>(schedule) << ", seed " << seed);
      options() = before;
      options().schedule = schedule;
      options().seed = static_cast<uint64_t>(seed);
      options().preempt = is_random ? 0.05 : 0;
      check();
    }
  options() = before;
}

// "line X" -> "file:N", the line that ends in "// X".
std::string expand(const std::string& text) {
  if (text.rfind("line ", 0) != 0) return text;
  for (const char* file :
       {"race_faults.cu", "memory_faults.cu", "convergence_faults.cu", "instruction_faults.cu"}) {
    std::ifstream source(std::string(MOAT_SOURCE_DIR) + "/tests/simt/self_test/" + file);
    std::string line;
    for (int number = 1; std::getline(source, line); ++number) {
      const std::string comment = "// " + text.substr(5);
      if (line.size() >= comment.size() &&
          line.compare(line.size() - comment.size(), comment.size(), comment) == 0)
        return std::string(file) + ":" + std::to_string(number);
    }
  }
  FAIL("no source line ends in the comment of \"" << text << "\"");
  return "";
}

void check_fault(const Fault& fault, std::span<const Schedule> schedules = kAll) {
  INFO(fault.name);
  for_schedules(schedules, 3, [&] {
    std::string report;
    try {
      fault.run();
    } catch (const Error& error) {
      report = error.what();
    }
    INFO("report: " << report);
    for (const std::string& text : fault.says) {
      INFO("expected: " << text << " (" << expand(text) << ")");
      REQUIRE(report.find(expand(text)) != std::string::npos);
    }
  });
}

}  // namespace

TEST_CASE("simt: races are reported", "[simt][race]") {
  for (const Fault& fault : race_faults()) check_fault(fault);
}
TEST_CASE("simt: illegal accesses are reported", "[simt][memory]") {
  for (const Fault& fault : memory_faults()) check_fault(fault);
}
TEST_CASE("simt: divergence is reported", "[simt][convergence]") {
  for (const Fault& fault : convergence_faults()) check_fault(fault);
}

TEST_CASE("simt: illegal copies and warp products are reported", "[simt][instructions]") {
  for (const Fault& fault : copy_faults()) check_fault(fault);
}
TEST_CASE("simt: misuse of mbarriers is reported", "[simt][instructions]") {
  for (const Fault& fault : barrier_faults()) check_fault(fault);
}
TEST_CASE("simt: illegal TMA copies are reported", "[simt][instructions]") {
  for (const Fault& fault : tma_faults()) check_fault(fault);
  for (const Fault& fault : late_faults()) check_fault(fault, kInOrder);
}
TEST_CASE("simt: illegal wgmma is reported", "[simt][instructions]") {
  for (const Fault& fault : wgmma_faults()) check_fault(fault);
}
TEST_CASE("simt: wgmma's accumulators hold nothing until waited for", "[simt][instructions]") {
  REQUIRE(sums_are_poisoned_until_waited_for());
}

TEST_CASE("simt: correct kernels are not reported", "[simt][sound]") {
  for (const Sound& sound : sound_kernels()) {
    INFO(sound.name);
    for_schedules(kAll, 20, [&] { REQUIRE(sound.run()); });
  }
}

}  // namespace simt::self_test
