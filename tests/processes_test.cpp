#include "cli/processes.h"

#include <catch2/catch.hpp>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>

#include "engine/error.h"
#include "tests/temporary_folder.h"

using moat::cli::Job;
using moat::cli::run_in_processes;
using moat::tests::files_in;
using moat::tests::TemporaryFolder;
namespace fs = std::filesystem;

namespace {

void touch(const fs::path& file) { std::ofstream(file) << '.'; }

}  // namespace

TEST_CASE("processes: each job once, after those it waits for, no more at once than asked",
          "[processes]") {
  const TemporaryFolder folder;
  const fs::path running = folder.path() / "running", done = folder.path() / "done";
  fs::create_directory(running);
  fs::create_directory(done);
  int here = 0;
  const auto job = [&](int i, std::vector<size_t> after) {
    return Job{std::to_string(i),
               [&here, running, done, i, after] {
                 here = 1;
                 for (size_t before : after)
                   moat::engine::require(fs::exists(done / std::to_string(before)), "too early");
                 touch(running / std::to_string(i));
                 std::this_thread::sleep_for(std::chrono::milliseconds(100));
                 moat::engine::require(files_in(running) <= 2, "too many at once");
                 fs::remove(running / std::to_string(i));
                 touch(done / std::to_string(i));
               },
               after};
  };
  std::vector<size_t> ended;
  run_in_processes({job(0, {}), job(1, {0}), job(2, {0}), job(3, {}), job(4, {1, 3})}, 2,
                   [&](size_t n) { ended.push_back(n); });
  CHECK(files_in(done) == 5);
  CHECK(ended == std::vector<size_t>{1, 2, 3, 4, 5});
  CHECK(here == 0);  // what a job does to memory is its own
}

TEST_CASE("processes: what goes wrong in a job is said here, and no other one begins",
          "[processes]") {
  const TemporaryFolder folder;
  const fs::path file = folder.path() / "begun";
  const auto thrown = [&](const std::function<void()>& wrong) -> std::string {
    size_t ended = 0;
    const std::vector<Job> jobs = {
        {"good", [] {}, {}}, {"bad", wrong, {0}}, {"later", [&] { touch(file); }, {1}}};
    try {
      run_in_processes(jobs, 2, [&](size_t n) { ended = n; });
    } catch (const moat::engine::Error& e) {
      CHECK(ended == 1);
      CHECK_FALSE(fs::exists(file));
      return e.what();
    }
    return "";
  };
  CHECK(thrown([] { throw moat::engine::Error("no room"); }) == "bad: no room");
  CHECK(thrown([] { throw moat::engine::Error(std::string(100000, 'x')); }) ==
        "bad: " + std::string(4096, 'x'));
  CHECK(thrown([] { std::raise(SIGKILL); }) == "bad: ended by signal 9");
  CHECK(thrown([] { std::_Exit(3); }) == "bad: failed");
}
