#include <archive.h>
#include <archive_entry.h>

#include <catch2/catch.hpp>
#include <cstdlib>

#include "data/download.h"
#include "data/md5.h"
#include "data/unpack.h"
#include "tests/http_server.h"
#include "tests/temporary_folder.h"
#include "tests/text_file.h"

namespace moat::tests {

using namespace data;
using Catch::Matchers::Contains;
using Bytes = std::vector<uint8_t>;
namespace fs = std::filesystem;

namespace {
enum class Packing { tar_gz, zip };
struct Member {
  std::string name, content;
  mode_t kind = AE_IFREG;  // AE_IFLNK: a link to `content`
};

Bytes packed(const std::vector<Member>& members, Packing packing = Packing::tar_gz) {
  Bytes out(1 << 20);
  size_t used = 0;
  archive* a = archive_write_new();
  if (packing == Packing::zip) {
    archive_write_set_format_zip(a);
  } else {
    archive_write_set_format_pax_restricted(a);
    archive_write_add_filter_gzip(a);
  }
  archive_write_open_memory(a, out.data(), out.size(), &used);
  for (const Member& member : members) {
    archive_entry* entry = archive_entry_new();
    archive_entry_set_pathname(entry, member.name.c_str());
    archive_entry_set_filetype(entry, member.kind);
    archive_entry_set_perm(entry, 0600);
    archive_entry_set_mtime(entry, 0, 0);
    if (member.kind == AE_IFLNK) archive_entry_set_symlink(entry, member.content.c_str());
    if (member.kind == AE_IFREG)
      archive_entry_set_size(entry, static_cast<la_int64_t>(member.content.size()));
    REQUIRE(archive_write_header(a, entry) == ARCHIVE_OK);
    if (member.kind == AE_IFREG)
      archive_write_data(a, member.content.data(), member.content.size());
    archive_entry_free(entry);
  }
  archive_write_close(a);
  archive_write_free(a);
  out.resize(used);
  return out;
}

// Does not compress, so that an archive of it is long enough to be broken off.
std::string noise(size_t length) {
  std::string out;
  for (uint32_t state = 1; out.size() < length; state = state * 1664525 + 1013904223)
    out += static_cast<char>(state >> 24);
  return out;
}

struct Published {
  TemporaryFolder folder;
  fs::path root = folder.path() / "data sets";
  std::string content = noise(100000);
  Bytes archive = packed({{"tiny", "", AE_IFDIR}, {"tiny/a.bin", content}, {"tiny/b/c.txt", "c"}});
  Publication publication{.name = "tiny",
                          .url = "http://127.0.0.1:1/",
                          .archive = "tiny.tar.gz",
                          .folder = "tiny",
                          .bytes = static_cast<int64_t>(archive.size()),
                          .md5 = {}};
  Patience patience{.attempts = 3, .pause_seconds = 0};

  Published() {
    ::setenv("no_proxy", "127.0.0.1", 1);
    put_file(folder.path() / "archive", archive);
    publication.md5 = md5_of(folder.path() / "archive");
  }
  fs::path part() const { return root / "tiny.tar.gz.part"; }
  fs::path get(const HttpServer& server) const {
    return download(publication, root, server.url(), patience, [](int64_t, int64_t) {});
  }
  int64_t half() const { return publication.bytes / 2; }
  bool is_complete() const {
    return text_of(root / "tiny/a.bin") == content && text_of(root / "tiny/b/c.txt") == "c" &&
           !fs::exists(part()) && fs::exists(root / "tiny.tar.gz") &&
           std::distance(fs::directory_iterator(root), {}) == 2;
  }
};
using Requests = std::vector<int64_t>;
}  // namespace

TEST_CASE("md5 gives the digests of RFC 1321", "[data][download]") {
  const TemporaryFolder folder;
  const auto md5 = [&](const std::string& content) {
    write_text(folder.path() / "a", content);
    return md5_of(folder.path() / "a");
  };
  CHECK(md5("") == "d41d8cd98f00b204e9800998ecf8427e");
  CHECK(md5("message digest") == "f96b697d7cb7938d525a2f31aaf161d0");
  for (const Publication& p : publications()) CHECK(p.md5.size() == 32);
}

TEST_CASE("download: brought, checked, unpacked, and not brought again", "[data][download]") {
  const Published tiny;
  const HttpServer server(tiny.archive, {Answer::redirect, Answer::whole});
  int64_t last = 0;
  const fs::path got = download(tiny.publication, tiny.root, server.url(), tiny.patience,
                                [&](int64_t done, int64_t total) {
                                  CHECK(done > last);
                                  CHECK(total == tiny.publication.bytes);
                                  last = done;
                                });
  CHECK(last == tiny.publication.bytes);
  CHECK(got == tiny.root / "tiny");
  CHECK(tiny.is_complete());
  CHECK(server.requests() == Requests{0, 0});
  tiny.get(server);
  fs::remove_all(tiny.root / "tiny");
  tiny.get(server);  // from the archive
  CHECK(tiny.is_complete());
  CHECK(server.requests().size() == 2);
  fs::remove_all(tiny.root / "tiny");
  fs::create_directory(tiny.root / "tiny");
  CHECK_THROWS_WITH(tiny.get(server), Catch::Contains("it is empty; remove it and try again"));
}

TEST_CASE("download goes on where it was broken off", "[data][download]") {
  Published tiny;
  SECTION("within a call") {
    const HttpServer server(tiny.archive, {Answer::unavailable, Answer::half, Answer::whole});
    tiny.get(server);
    CHECK(server.requests() == Requests{0, 0, tiny.half()});
  }
  SECTION("after a server fell silent") {
    tiny.patience.silent_seconds = 1;
    const HttpServer server(tiny.archive, {Answer::silent, Answer::whole});
    tiny.get(server);
    CHECK(server.requests() == Requests{0, 1});
  }
  SECTION("from one call to the next") {
    const HttpServer off(tiny.archive, {Answer::half, Answer::unavailable}),
        on(tiny.archive, {Answer::whole});
    CHECK_THROWS_WITH(tiny.get(off),
                      Contains("broken off 3 times") && Contains("the same command goes on"));
    CHECK(fs::file_size(tiny.part()) == static_cast<uintmax_t>(tiny.half()));
    tiny.get(on);
    CHECK(on.requests() == Requests{tiny.half()});
  }
  SECTION("or begins again where the server cannot") {
    const HttpServer server(tiny.archive, {Answer::half, Answer::without_range});
    tiny.get(server);
    CHECK(server.requests() == Requests{0, tiny.half(), 0});
  }
  SECTION("or begins again when what is there cannot be the beginning") {
    put_file(tiny.part(), Bytes(tiny.archive.size() + 1));
    const HttpServer server(tiny.archive, {Answer::whole});
    tiny.get(server);
    CHECK(server.requests() == Requests{0});
  }
  SECTION("or only checks what is there") {
    put_file(tiny.part(), tiny.archive);
    const HttpServer server(tiny.archive, {Answer::missing});
    tiny.get(server);
    CHECK(server.requests().empty());
  }
  CHECK(tiny.is_complete());
}

TEST_CASE("download refuses what is not as published", "[data][download]") {
  const Published tiny;
  const auto fails = [&](const HttpServer& server, const std::string& says) {
    CHECK_THROWS_WITH(tiny.get(server), Contains(says));
    CHECK(!fs::exists(tiny.root / "tiny"));
    CHECK(!fs::exists(tiny.root / "tiny.tar.gz"));
  };
  Bytes damaged = tiny.archive, longer = tiny.archive;
  damaged[5000] ^= 1;
  longer.push_back(0);
  fails({tiny.archive, {Answer::missing}}, "the server answered 404");
  fails({longer, {Answer::whole}}, "must give " + std::to_string(tiny.archive.size()) +
                                       " bytes, the server has " + std::to_string(longer.size()));
  fails({damaged, {Answer::whole}}, "its MD5 must be " + tiny.publication.md5);
  CHECK(!fs::exists(tiny.part()));  // a damaged part would stay damaged
  Publication unreachable = tiny.publication;
  CHECK_THROWS_WITH(download(unreachable, tiny.root, "", tiny.patience, [](int64_t, int64_t) {}),
                    Contains("broken off 3 times, last after 0 of"));
  CHECK_THROWS_WITH(download(unreachable, tiny.root, "file:///etc/passwd", tiny.patience,
                             [](int64_t, int64_t) {}),
                    Contains("file:///etc/passwd: "));
  unreachable.bytes = int64_t{1} << 60;
  CHECK_THROWS_WITH(download(unreachable, tiny.root, "", tiny.patience, [](int64_t, int64_t) {}),
                    Contains("MiB free"));

  put_file(tiny.root / "tiny.tar.gz", damaged);
  const HttpServer server(tiny.archive, {Answer::whole});
  CHECK_THROWS_WITH(tiny.get(server), Contains("remove it to download it again"));
  CHECK(server.requests().empty());
}

TEST_CASE("unpack takes files and folders and nothing that leads out",
          "[data][download][hostile]") {
  const TemporaryFolder folder;
  const fs::path to = folder.path() / "out";
  const auto unpacks = [&](const Bytes& archive, int64_t limit = 1000) {
    put_file(folder.path() / "archive", archive);
    unpack(folder.path() / "archive", to, limit);
  };
  for (const Packing packing : {Packing::tar_gz, Packing::zip}) {
    unpacks(packed({{"d", "", AE_IFDIR}, {"d/a", "one"}, {"e/f/b", "two"}, {"./c", ""}}, packing));
    CHECK(text_of(to / "d/a") == "one");
    CHECK(text_of(to / "e/f/b") == "two");
    CHECK(fs::is_regular_file(to / "c"));
    fs::remove_all(to);

    const auto fails = [&](const std::vector<Member>& members, const std::string& says) {
      CHECK_THROWS_WITH(unpacks(packed(members, packing)), Contains(says));
      CHECK(!fs::exists(to));
    };
    fails({{"a", "1"}, {"../b", "2"}}, "leads out of the folder");
    fails({{"a/../../b", "2"}}, "leads out of the folder");
    fails({{(folder.path() / "b").string(), "2"}}, "leads out of the folder");
    fails({{"a", "/", AE_IFLNK}, {"a/b", "2"}}, "is neither a file nor a folder");
    fails({{"a", std::string(1001, 'a')}}, "more than 1000 bytes come out of it");
    CHECK(!fs::exists(folder.path() / "b"));

    const Bytes whole = packed({{"a", noise(900)}}, packing);
    REQUIRE(whole.size() > 900);  // later cuts only lose what marks the end
    for (size_t length = 0; length < 900; length += 7) {
      CAPTURE(length);
      const Bytes cut(whole.begin(), whole.begin() + static_cast<int64_t>(length));
      CHECK_THROWS_WITH(unpacks(cut), Contains("cannot unpack"));
    }
  }
  CHECK_THROWS_WITH(unpacks({'n', 'o', 'n', 'e'}), Contains("cannot unpack"));
}

}  // namespace moat::tests
