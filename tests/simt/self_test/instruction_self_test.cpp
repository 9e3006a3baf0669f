#include "tests/simt/self_test/instruction_faults.h"

#include <catch2/catch.hpp>
#include <fstream>
#include <span>

#include "tests/simt/cuda.h"
#include "tests/simt/options.h"

namespace simt::self_test {

namespace {

// "line X" -> "instruction_faults.cu:N", the line that ends in "// X".
std::string expand(const std::string& text) {
  if (text.rfind("line ", 0) != 0) return text;
  const std::string comment = "// " + text.substr(5);
  std::ifstream source(std::string(MOAT_SOURCE_DIR) +
                       "/tests/simt/self_test/instruction_faults.cu");
  std::string line;
  for (int number = 1; std::getline(source, line); ++number)
    if (line.size() >= comment.size() &&
        line.compare(line.size() - comment.size(), comment.size(), comment) == 0)
      return "instruction_faults.cu:" + std::to_string(number);
  FAIL("no source line ends in the comment of \"" << text << "\"");
  return "";
}

constexpr Schedule kInOrder[] = {Schedule::fifo, Schedule::lifo};
constexpr Schedule kAll[] = {Schedule::fifo, Schedule::lifo, Schedule::random, Schedule::sticky};

void check(const std::vector<Fault>& faults, std::span<const Schedule> schedules = kAll) {
  const Options before = options();
  for (const Fault& fault : faults)
    for (const Schedule schedule : schedules) {
      options() = before;
      options().schedule = schedule;
      options().preempt = schedule == Schedule::random || schedule == Schedule::sticky ? 0.05 : 0;
      INFO(fault.name << ", schedule " << static_cast<int>(schedule));
      std::string report;
      try {
        fault.run();
      } catch (const Error& error) {
        report = error.what();
      }
      INFO("report: " << report);
      for (const std::string& text : fault.says) {
        INFO("expected: " << text << " (" << expand(text) << ")");
        CHECK(report.find(expand(text)) != std::string::npos);
      }
    }
  options() = before;
}

}  // namespace

TEST_CASE("simt: illegal copies and warp products are reported", "[simt][instructions]") {
  check(copy_faults());
}
TEST_CASE("simt: misuse of mbarriers and clusters is reported", "[simt][instructions]") {
  check(barrier_faults());
}
TEST_CASE("simt: illegal TMA copies are reported", "[simt][instructions]") {
  check(tma_faults());
  check(late_faults(), kInOrder);
}
TEST_CASE("simt: illegal wgmma is reported", "[simt][instructions]") { check(wgmma_faults()); }
TEST_CASE("simt: wgmma's accumulators hold nothing until waited for", "[simt][instructions]") {
  REQUIRE(sums_are_poisoned_until_waited_for());
}

}  // namespace simt::self_test
