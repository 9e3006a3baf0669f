#include "engine/io/file.h"

#include <sys/resource.h>
#include <sys/stat.h>

#include <catch2/catch.hpp>
#include <csignal>
#include <fstream>

#include "engine/error.h"
#include "tests/temporary_folder.h"

namespace moat::tests {

using namespace engine;

namespace fs = std::filesystem;

TEST_CASE("files appear whole or not at all", "[file]") {
  const TemporaryFolder folder;
  const fs::path path = folder.path() / "a";
  write_file(path, [](std::ostream& out) { out << "old"; });
  CHECK_THROWS_WITH(write_file(path,
                               [](std::ostream& out) {
                                 out << "half of the";
                                 throw Error("stopped");
                               }),
                    "stopped");
  CHECK_THROWS_WITH(write_file(path, [](std::ostream& out) { out.setstate(std::ios::failbit); }),
                    Catch::Contains("cannot write"));
  CHECK(read_file(path) == "old");
  CHECK(files_in(folder.path()) == 1);
  const std::string large(300000, 'x');
  write_file(path, [&](std::ostream& out) { out << 'y' << large << 'z'; });
  CHECK(read_file(path) == "y" + large + "z");
  CHECK_THROWS_WITH(read_file(path, 10), Catch::Contains("at most 10 bytes, it has 300002"));
  CHECK_THROWS_WITH(write_file(folder.path() / "no" / "a", [](std::ostream&) {}),
                    Catch::Contains("No such file or directory"));
  CHECK_THROWS_WITH(write_file(folder.path(), [](std::ostream&) {}), Catch::Contains("directory"));
  CHECK_THROWS_WITH(read_file(folder.path() / "b"), Catch::Contains("No such file or directory"));
  CHECK_THROWS_WITH(read_file(folder.path()), Catch::Contains("not a regular file"));
}

TEST_CASE("a file is written where a link leads, and never in the place of a pipe", "[file]") {
  const TemporaryFolder folder;
  const fs::path at = folder.path(), link = at / "link";
  fs::create_directory(at / "there");
  fs::create_symlink("second", at / "link");
  fs::create_symlink(at / "there" / "a", at / "second");
  for (const char* content : {"new", "newer"}) {  // where the file is missing, and where it is not
    write_file(link, [&](std::ostream& out) { out << content; });
    CHECK(fs::is_symlink(link));
    CHECK(fs::is_symlink(at / "second"));
    CHECK(read_file(at / "there" / "a") == content);
  }
  CHECK(files_in(at / "there") == 1);
  fs::create_symlink("round", at / "round");
  CHECK_THROWS_WITH(write_file(at / "round", [](std::ostream&) {}), Catch::Contains("symbolic"));

  const fs::path pipe = at / "pipe";
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  fs::create_symlink(pipe, at / "to pipe");
  for (const fs::path& path : {pipe, at / "to pipe"})
    CHECK_THROWS_WITH(write_file(path, [](std::ostream&) {}),
                      Catch::Contains("must be a regular file"));
  CHECK(fs::is_fifo(pipe));
  CHECK(files_in(at) == 6);
}

TEST_CASE("a write that the system refuses leaves nothing behind", "[file]") {
  const TemporaryFolder folder;
  const fs::path path = folder.path() / "a";
  write_file(path, [](std::ostream& out) { out << "old"; });
  rlimit before;
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &before) == 0);
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{100000, before.rlim_max};
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &small) == 0);
  std::string message;
  try {
    write_file(path, [](std::ostream& out) { out << std::string(500000, 'x'); });
  } catch (const Error& error) {
    message = error.what();
  }
  ::setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, handler);
  CHECK_THAT(message, Catch::Contains(path.string()) && Catch::Contains("File too large"));
  CHECK(read_file(path) == "old");
  CHECK(files_in(folder.path()) == 1);
}

}  // namespace moat::tests
